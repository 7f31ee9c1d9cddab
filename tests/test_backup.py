"""A copy of a running database can be put back, and never over something it does not belong to."""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr
from typer.testing import CliRunner

from serving import exchange, receipts
from serving.backup import BackupError, backup, restore
from serving.cli import app
from serving.settings import Settings
from serving.store import Store


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home")


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    store = Store.open(settings)
    yield store
    store.close()


def add(store: Store, number: int) -> None:
    exchange.add(store, "default", f"+86138000{number:05}", "marketing", "李雷", "来电")


def entries(settings: Settings) -> int:
    store = Store.open(settings)
    with store.read() as connection:
        verdict = receipts.verify(connection)
    store.close()
    assert verdict.holds
    return verdict.checked


def test_a_copy_made_while_others_write_is_whole(
    store: Store, settings: Settings, tmp_path: Path
) -> None:
    add(store, 0)
    stop = threading.Event()
    written = [1]

    def write() -> None:
        while not stop.is_set() and written[0] < 500:
            add(store, written[0])
            written[0] += 1

    thread = threading.Thread(target=write)
    thread.start()
    while written[0] < 20:
        stop.wait(0.01)
    fingerprint = backup(settings, tmp_path / "copy")
    stop.set()
    thread.join()
    assert fingerprint == store.phones.fingerprint
    assert (tmp_path / "copy").stat().st_mode & 0o077 == 0
    assert [p.name for p in tmp_path.glob("copy*")] == ["copy"]
    store.close()
    aside = restore(settings, tmp_path / "copy")
    assert 20 <= entries(settings) <= written[0]
    assert aside is not None
    with sqlite3.connect(aside) as connection:
        assert connection.execute("SELECT count(*) FROM receipts").fetchall() == [(written[0],)]
    connection.close()


def test_a_running_service_is_not_replaced(
    store: Store, settings: Settings, tmp_path: Path
) -> None:
    add(store, 1)
    backup(settings, tmp_path / "copy")
    with pytest.raises(BackupError, match="stop the service"):
        restore(settings, tmp_path / "copy")
    add(store, 2)
    store.close()
    assert entries(settings) == 2
    assert restore(settings, tmp_path / "copy")
    assert entries(settings) == 1


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[5000:9000] = b"x" * 4000
    path.write_bytes(content)


@pytest.mark.parametrize(
    "spoil",
    [damage, lambda path: path.write_bytes(b"no database"), lambda path: path.write_bytes(b"")],
)
def test_what_is_no_sound_copy_is_not_put_back(
    store: Store, settings: Settings, tmp_path: Path, spoil: Callable[[Path], object]
) -> None:
    add(store, 1)
    backup(settings, tmp_path / "copy")
    store.close()
    spoil(tmp_path / "copy")
    with pytest.raises(BackupError, match=r"damaged|no database"):
        restore(settings, tmp_path / "copy")
    assert entries(settings) == 1


def test_a_copy_of_another_key_is_not_put_back(
    store: Store, settings: Settings, tmp_path: Path
) -> None:
    add(store, 1)
    backup(settings, tmp_path / "copy")
    other = Settings(home=tmp_path / "other")
    with pytest.raises(BackupError, match="another phone key"):
        restore(other, tmp_path / "copy")
    with pytest.raises(BackupError, match="there already"):
        backup(settings, tmp_path / "copy")
    with pytest.raises(BackupError, match="nothing to copy"):
        backup(other, tmp_path / "other.copy")
    assert not (tmp_path / "other.copy").exists()


def test_for_postgresql_the_right_tool_is_named(tmp_path: Path) -> None:
    url = SecretStr("postgresql://user:secret@host/db")
    with pytest.raises(BackupError, match="pg_dump") as refused:
        backup(Settings(home=tmp_path, database_url=url), tmp_path / "copy")
    assert "secret" not in str(refused.value)


def test_the_commands_remind_of_the_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TINGXIN_HOME", str(tmp_path / "home"))

    def tingxin(*arguments: str) -> str:
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 0, done.output
        return done.output

    tingxin("suppress", "add", "13800000001", "--actor", "李雷", "--reason", "来电")
    assert "Keep the phone key" in tingxin("backup", str(tmp_path / "copy"))
    tingxin("suppress", "release", "13800000001", "--actor", "李雷", "--reason", "来电")
    assert "tingxin.db.before-" in tingxin("restore", str(tmp_path / "copy"))
    assert CliRunner().invoke(app, ["suppress", "check", "13800000001"]).exit_code == 1
    assert "texts\t0" in tingxin("purge", "--dry-run")
    erased = tingxin("erase", "13800000001", "--actor", "李雷", "--reason", "申请")
    assert "list entries: 删除 erased 0, 保留 kept 1" in erased
