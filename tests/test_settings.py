"""Settings are read once, refused early, and never repeated in an error."""

from ipaddress import ip_network
from pathlib import Path

import pytest
from pydantic import ValidationError

from serving.settings import SettingsError, each, read_settings

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TINGXIN_HOME", str(tmp_path))


def test_defaults_keep_to_this_machine(tmp_path: Path) -> None:
    settings = read_settings()
    assert (settings.host, settings.port, settings.brand_list) == ("127.0.0.1", 8000, "default")
    assert settings.url == f"sqlite:///{tmp_path}/tingxin.db"


def test_an_unknown_name_is_refused_with_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINGXIN_PUSH_ULR", "x")
    with pytest.raises(SettingsError, match="did you mean TINGXIN_PUSH_URL"):
        read_settings()


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("PORT", "70000", "TINGXIN_PORT: .*65535"),
        ("PUSH_URL", "ftp://a", "must be an http"),
        ("PUSH_URL", "http://a/hook", "PUSH_URL needs PUSH_SECRET"),
        ("PUSH_SECRET", "whsec_short", "must be whsec_"),
        ("BRAND_LIST", "a b", "TINGXIN_BRAND_LIST"),
        ("PUBLIC_URL", "replies.example", "must be an http"),
        ("TWILIO_AUTH_TOKEN", "token-1, ", "must not be empty"),
        ("VONAGE_SIGNATURE_SECRET", "s1,,s2", "must not be empty"),
        ("VONAGE_SIGNATURE_METHOD", "sha3", "'sha256'"),
        ("HUAWEI_KEYS", "ak-without-sk", "must be name:secret"),
        ("INFOBIP_BASIC", ":password", "must be name:secret"),
        ("AWS_TOPICS", "replies-topic", "must be topic ARNs"),
        ("TRUSTED_PROXIES", "10.0.0.0/99", "must be addresses or networks"),
        ("VENDOR_ADDRESSES", "telnyx=10.0.0.1", "must be vendor=network"),
        ("VENDOR_ADDRESSES", "aliyun=everywhere", "must be addresses or networks"),
    ],
)
def test_a_bad_value_is_refused_by_name_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, sentence: str
) -> None:
    monkeypatch.setenv(f"TINGXIN_{name}", value)
    with pytest.raises(SettingsError, match=sentence) as refused:
        read_settings()
    assert value not in str(refused.value)


def test_secrets_topics_and_networks_are_parted_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {
        "TWILIO_AUTH_TOKEN": "new, old",
        "AWS_TOPICS": "arn:aws:sns:eu-west-1:1:a,arn:aws-cn:sns:cn-north-1:1:b",
        "TRUSTED_PROXIES": "10.0.0.0/8, fd00::/8",
        "VENDOR_ADDRESSES": "aliyun=203.0.113.0/24,tencent=198.51.100.7",
    }
    for name, value in given.items():
        monkeypatch.setenv(f"TINGXIN_{name}", value)
    settings = read_settings()
    assert each(settings.twilio_auth_token) == ["new", "old"]
    assert settings.aws_topics[1] == "arn:aws-cn:sns:cn-north-1:1:b"
    assert settings.trusted_proxies == (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))
    assert settings.vendor_addresses == (
        ("aliyun", ip_network("203.0.113.0/24")),
        ("tencent", ip_network("198.51.100.7")),
    )


def test_settings_are_frozen_and_hide_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINGXIN_PUSH_URL", "https://platform.example/hook")
    monkeypatch.setenv("TINGXIN_PUSH_SECRET", SECRET)
    settings = read_settings()
    assert SECRET not in repr(settings)
    with pytest.raises(ValidationError):
        settings.port = 1  # type: ignore[misc]


def test_a_dotenv_file_is_not_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("TINGXIN_PORT=1234\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert read_settings().port == 8000
