"""A new phone key: everybody on the list is still known, or nothing was changed."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from pydantic import SecretStr
from typer.testing import CliRunner

from serving import exchange, receipts, rotation, suppressions, tables
from serving.cli import app
from serving.phones import Phones
from serving.rotation import CannotRotate, rotate
from serving.service import Service
from serving.settings import Settings, SettingsError
from serving.store import Store

SECRET = "ab" * 32
PHONES = [f"+8613800000{n:03}" for n in range(12)]


@pytest.fixture(autouse=True)
def few_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rotation, "AT_ONCE", 5)


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    store = Store.open(settings)
    yield store
    store.close()


def add(store: Store, *phones: str) -> None:
    for phone in phones:
        exchange.add(store, "default", phone, "marketing", "李雷", "来电")


def known(store: Store) -> int:
    with store.read() as connection:
        keys = map(store.phones.key, PHONES)
        return len(suppressions.covering(connection, "default", keys, "marketing"))


def test_everybody_is_known_under_the_new_key_and_the_old_one_opens_no_more(
    service: Service, settings: Settings, reply: Callable
) -> None:
    service.submit([reply(n, "退订") for n in range(12)])
    service.submit([reply(20, "我活不下去了")])
    with service.store.write() as connection:
        purged = tables.replies.c.phone_masked == "138****0003"
        connection.execute(tables.replies.update().where(purged).values(phone_sealed=None))
    done = rotate(service.store, Phones(bytes.fromhex(SECRET)), "李雷")
    assert (done.entries, done.replies, done.events) == (12, 12, 12)
    with pytest.raises(SettingsError, match="phone key"):
        Store.open(settings)
    store = Store.open(settings.model_copy(update={"phone_key": SecretStr(SECRET)}))
    assert known(store) == 12
    with store.read() as connection:
        assert receipts.verify(connection).holds
        feed = suppressions.changes(connection, store.phones, "default", 0, 100)
        assert {change["phone"] for change in feed} == set(PHONES)
        [item] = connection.execute(sa.select(tables.queue.c.phone_hmac))
        assert item.phone_hmac == store.phones.key("+8613800000020")
        sealed = connection.scalars(sa.select(tables.outbox.c.phone_sealed))
        assert {store.phones.unseal(s) for s in sealed} == set(PHONES)
    store.close()


def test_a_list_that_cannot_be_read_back_is_refused_as_it_is(settings: Settings) -> None:
    store = Store.open(settings.model_copy(update={"list_numbers": "masked"}))
    add(store, *PHONES[:2])
    with pytest.raises(CannotRotate, match=r"2 entries .* import the list"):
        rotate(store, Phones(bytes.fromhex(SECRET)), "李雷")
    store.close()
    Store.open(settings).close()


def test_a_broken_seal_changes_nothing(store: Store, settings: Settings) -> None:
    add(store, *PHONES)
    with store.write() as connection:
        broken = tables.suppressions.c.phone_hmac == store.phones.key(PHONES[9])
        connection.execute(tables.suppressions.update().where(broken).values(phone_sealed="broken"))
    with pytest.raises(CannotRotate, match="some other key"):
        rotate(store, Phones(bytes.fromhex(SECRET)), "李雷")
    assert known(store) == 12


def test_the_command_puts_the_new_key_in_place(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TINGXIN_HOME", str(tmp_path))

    def tingxin(*arguments: str) -> tuple[int, str]:
        done = CliRunner().invoke(app, arguments)
        return done.exit_code, done.output

    tingxin("suppress", "add", "13800000001", "--actor", "李雷", "--reason", "来电")
    old = (tmp_path / "phone.key").read_text(encoding="ascii")
    status, said = tingxin("keys", "rotate-phone", "--actor", "李雷")
    assert (status, "entries 1" in said) == (0, True)
    assert tingxin("suppress", "check", "13800000001")[0] == 1
    [kept] = tmp_path.glob("phone.key.*")
    assert kept.read_text(encoding="ascii") == old
    again = tingxin(
        "keys", "rotate-phone", "--actor", "李雷", "--new-key", str(tmp_path / "phone.key")
    )
    assert (again[0], "key in use" in again[1]) == (2, True)
