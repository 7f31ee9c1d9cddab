"""The targets' file is read once, refused early with place and remedy, and never holds or shows a secret."""

from pathlib import Path

import pytest
from pydantic import SecretStr

from serving.settings import Settings, SettingsError, read_settings
from serving.targets.config import (
    AwsTarget,
    BaiduTarget,
    TwilioTarget,
    WebhookTarget,
    read_targets,
)

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
NEXT = "whsec_dGluZ3hpbiB0ZXN0LCBub3QgYSBzZWNyZXQgYXQgYWxs"
ACCOUNT = "AC" + "0" * 32
EVERYTHING = f"""
[crm]
kind = "webhook"
url = "https://crm.example/hooks"
lists = ["brand-a"]

[aws]
kind = "aws"
opt_out_list = "marketing"
region = "ap-southeast-1"

[twilio-us]
kind = "twilio"
sid = "{ACCOUNT}"
sender = "+15005550006"

[baidu]
kind = "baidu"
access_key = "{"a" * 32}"
signature_id = "sms-sign-1"
sms_type = "CommonNotice"
scopes = ["sender:某贷"]
"""
SECRETS = {
    "TINGXIN_SECRET_CRM": f"{NEXT} {SECRET}",
    "TINGXIN_SECRET_TWILIO_US": "twilio-token",
    "TINGXIN_SECRET_BAIDU": "baidu-secret",
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "targets.toml"
    path.write_text(EVERYTHING, encoding="utf-8")
    return path


def test_each_kind_is_read_with_its_secret(file: Path) -> None:
    crm, aws, twilio, baidu = read_targets(file, SECRETS)
    assert isinstance(crm, WebhookTarget)
    assert isinstance(aws, AwsTarget)
    assert isinstance(twilio, TwilioTarget)
    assert isinstance(baidu, BaiduTarget)
    assert [t.name for t in (crm, aws, twilio, baidu)] == ["crm", "aws", "twilio-us", "baidu"]
    assert twilio.secret.get_secret_value() == "twilio-token"
    assert twilio.calls_per_minute == 100
    shown = repr((crm, aws, twilio, baidu))
    assert not any(secret in shown for value in SECRETS.values() for secret in value.split())


def test_a_target_takes_the_lists_and_scopes_that_it_names(file: Path) -> None:
    crm, aws, _, baidu = read_targets(file, SECRETS)
    assert crm.takes("brand-a", "sender:某贷")
    assert not crm.takes("brand-b", "marketing")
    # A vendor's list has no scopes: it is not to stop one signature's messages everywhere.
    assert [aws.takes("any", s) for s in ("marketing", "all", "sender:某贷")] == [True, True, False]
    assert [baidu.takes("any", s) for s in ("marketing", "sender:某贷")] == [False, True]


@pytest.mark.parametrize("missing", sorted(SECRETS))
def test_a_missing_secret_is_refused_by_name(file: Path, missing: str) -> None:
    given = {k: v for k, v in SECRETS.items() if k != missing}
    with pytest.raises(ValueError, match=f"needs {missing} in the environment"):
        read_targets(file, given)


def test_a_secret_of_no_target_is_refused(file: Path) -> None:
    with pytest.raises(ValueError, match="TINGXIN_SECRET_CMR is the secret of no target"):
        read_targets(file, SECRETS | {"TINGXIN_SECRET_CMR": "x"})


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[crm]\nkind = 'webhok'", r"\[crm\]: kind is one of webhook, aws, twilio, baidu"),
        ("crm = 1", r"\[crm\]: kind is one of"),
        ("[CRM]\nkind = 'webhook'", "lower-case letters"),
        ("[crm]\nkind = 'webhook'\nurl = 'ftp://a'", "url: .*must be an http"),
        ("[crm]\nkind = 'webhook'\nurl = 'https://a'\nulr = 'x'", "ulr: Extra inputs"),
        ("[crm]\nkind = 'webhook'\nurl = 'https://a'\nsecret = 'x'", "as TINGXIN_SECRET_CRM"),
        ("[crm]\nkind = 'webhook'\nurl = 'https://a'\ncalls_per_minute = 0", "calls_per_minute"),
        ("[crm]\nkind = 'webhook'\nurl = 'https://a'\nscopes = ['everything']", "scopes.0"),
        ("[crm]\nkind = 'twilio'\nsid = 'AC1'\nsender = '1'", "sid: "),
        (
            f"[crm]\nkind = 'twilio'\nsid = '{ACCOUNT}'\nsender = '+15005550006'\n"
            "endpoint = 'http://twilio.example'",
            "endpoint: .*https",
        ),
        (
            f"[crm]\nkind = 'baidu'\naccess_key = '{'a' * 32}'\nsms_type = 'CommonNotice'",
            "go together",
        ),
        ("[crm", "cannot be read"),
    ],
)
def test_a_mistake_is_refused_with_its_place(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "targets.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=sentence) as refused:
        read_targets(path, {"TINGXIN_SECRET_CRM": SECRET})
    assert "targets.toml" in str(refused.value)
    assert SECRET not in str(refused.value)


def test_a_bad_webhook_secret_is_refused_and_not_shown(tmp_path: Path) -> None:
    path = tmp_path / "targets.toml"
    path.write_text("[crm]\nkind = 'webhook'\nurl = 'https://a'", encoding="utf-8")
    with pytest.raises(ValueError, match="whsec_ and the base64") as refused:
        read_targets(path, {"TINGXIN_SECRET_CRM": f"{SECRET} hunter2"})
    assert "hunter2" not in str(refused.value)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"nowhere.toml cannot be read: FileNotFoundError"):
        read_targets(tmp_path / "nowhere.toml", {})


def test_the_environment_names_the_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINGXIN_HOME", str(file.parent))
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match="TINGXIN_TARGETS is unset"):
        read_settings()
    monkeypatch.setenv("TINGXIN_TARGETS", str(file))
    monkeypatch.setenv("TINGXIN_PUSH_URL", "https://platform.example/hook")
    monkeypatch.setenv("TINGXIN_PUSH_SECRET", f"{NEXT},{SECRET}")
    names = [t.name for t in read_settings().all_targets]
    assert names == ["webhook", "crm", "aws", "twilio-us", "baidu"]
    monkeypatch.delenv("TINGXIN_SECRET_BAIDU")
    with pytest.raises(SettingsError, match=r"TINGXIN_TARGETS: .*TINGXIN_SECRET_BAIDU"):
        read_settings()


def test_two_targets_cannot_share_the_webhooks_name(tmp_path: Path) -> None:
    secret = SecretStr(SECRET)
    own = WebhookTarget(name="webhook", url="https://a", secret=secret)
    with pytest.raises(ValueError, match="PUSH_URL is the target 'webhook'"):
        Settings(home=tmp_path, push_url="https://b", push_secret=secret, targets=(own,))
