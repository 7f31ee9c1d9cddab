"""Numbers are read in all the ways people write them, and kept in none that can be read back unkeyed."""

import stat
from pathlib import Path

import pytest
from cryptography.fernet import InvalidToken
from pydantic import SecretStr

from serving.phones import KEY_FILE, PhoneError, Phones, e164, masked
from serving.settings import Settings, SettingsError


@pytest.mark.parametrize("written", ["", "10086", "abc", "13800001001x", "1381111****", "1" * 40])
def test_what_is_no_number_is_refused_without_being_repeated(written: str) -> None:
    with pytest.raises(PhoneError) as refused:
        e164(written)
    assert not written or written not in str(refused.value)


def test_a_foreign_number_needs_its_country() -> None:
    assert e164("+852 6123 4567") == "+85261234567"
    assert e164("0085261234567") == "+85261234567"


def test_masks_leave_too_little_to_call() -> None:
    assert masked("+8613800002210") == "138****2210"
    assert "6123" not in masked("+85261234567")


def test_the_key_is_made_once_and_is_its_owners_alone(settings: Settings) -> None:
    first, second = Phones.open(settings), Phones.open(settings)
    assert first.key("+8613800001001") == second.key("+8613800001001")
    assert stat.S_IMODE((settings.home / KEY_FILE).stat().st_mode) == 0o600
    assert [p.name for p in settings.home.iterdir()] == [KEY_FILE]


def test_another_key_gives_other_hashes_and_opens_no_seal(tmp_path: Path) -> None:
    one, other = (Phones(bytes([n]) * 32) for n in (1, 2))
    assert one.key("+8613800001001") != other.key("+8613800001001")
    assert one.unseal(one.seal("+8613800001001")) == "+8613800001001"
    with pytest.raises(InvalidToken):
        other.unseal(one.seal("+8613800001001"))


def test_a_bad_key_is_refused_without_being_shown(settings: Settings) -> None:
    for key in ("beef", "not hex"):
        with pytest.raises(SettingsError) as refused:
            Phones.open(settings.model_copy(update={"phone_key": SecretStr(key)}))
        assert key not in str(refused.value)


def test_the_repr_shows_no_key() -> None:
    assert "Phones object" in repr(Phones(b"k" * 32))
