"""A filter file knows everybody on the list, few others, and whether it is whole and of this key."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from serving import receipts
from serving.cli import app
from serving.filterfile import Filter, FilterError, Header, write
from serving.settings import Settings
from serving.store import Store, now
from serving.suppressions import Ask, Suppressions, Wish

ON_LIST = [f"+8613800{n:06}" for n in range(2000)]
OTHERS = [f"+8613900{n:06}" for n in range(20_000)]


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    store = Store.open(settings)
    yield store
    store.close()


def block(store: Store, phones: list[str], scope: str = "marketing") -> None:
    at = now()
    wishes = [Wish("default", phone, "human", "李雷", "来电", "rc_x", at, at) for phone in phones]
    with store.write() as connection, receipts.Chain(connection):
        asks = [Ask(wish, scope, "active") for wish in wishes]
        Suppressions(connection, store, at).block_all(asks)


def load(store: Store, path: Path) -> Filter:
    return Filter.load(path, bytes.fromhex(store.phones.list_key.hex()))


def test_it_knows_everybody_and_mistakes_few_others(store: Store, tmp_path: Path) -> None:
    block(store, ON_LIST)
    block(store, ON_LIST[:3], "all")
    header = write(store, tmp_path / "f", "default", "marketing", 0.01)
    stopped = load(store, tmp_path / "f")
    assert all(phone in stopped for phone in ON_LIST)
    # 200 mistakes are expected in 20,000; five standard deviations above is 271.
    assert 0 < sum(phone in stopped for phone in OTHERS) < 271
    assert (header.count, header.cursor, header.list) == (2000, 2003, "default")
    assert stopped.header == header
    assert (tmp_path / "f").stat().st_size < 2000 * 10 / 8 + 500


def test_released_entries_and_other_scopes_are_not_in_it(store: Store, tmp_path: Path) -> None:
    block(store, ON_LIST[:1])
    block(store, ON_LIST[1:2], "all")
    block(store, ON_LIST[2:3])
    at = now()
    with store.write() as connection, receipts.Chain(connection):
        wish = Wish("default", ON_LIST[2], "human", "李雷", "来电", "rc_x", at, at)
        Suppressions(connection, store, at).release(wish)
    counts = {s: write(store, tmp_path / s, "default", s).count for s in ("marketing", "otp")}
    assert counts == {"marketing": 2, "otp": 1}
    assert ON_LIST[2] not in load(store, tmp_path / "marketing")
    assert ON_LIST[0] not in load(store, tmp_path / "otp")


def test_an_empty_list_makes_a_filter_of_nobody(store: Store, tmp_path: Path) -> None:
    assert write(store, tmp_path / "f", "default", "marketing").count == 0
    assert not any(phone in load(store, tmp_path / "f") for phone in ON_LIST[:100])


def test_a_damaged_file_and_another_key_are_refused(store: Store, tmp_path: Path) -> None:
    block(store, ON_LIST[:5])
    path = tmp_path / "f"
    write(store, path, "default", "marketing")
    whole = path.read_bytes()
    with pytest.raises(FilterError, match="another key"):
        Filter.load(path, b"x" * 32)
    for content, why in [
        (whole[:-1], "damaged"),
        (b"", "no filter of Tingxin"),
        (b"[1]\n", "no filter of Tingxin"),
        (whole.replace(b'"version": 1', b'"version": 9', 1), "version 1"),
    ]:
        path.write_bytes(content)
        with pytest.raises(FilterError, match=why):
            load(store, path)


def test_a_filter_that_cannot_be_made_leaves_the_old_one(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "f"
    header = write(store, path, "default", "marketing")
    with pytest.raises(ValueError, match="scope is"):
        write(store, path, "default", "everything")
    assert load(store, path).header == header
    assert isinstance(header, Header)
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith("f")] == ["f"]


def test_the_command_writes_and_asks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TINGXIN_HOME", str(tmp_path))

    def tingxin(*arguments: str | Path) -> tuple[int, str]:
        done = CliRunner().invoke(app, [str(a) for a in arguments])
        return done.exit_code, done.output

    tingxin("suppress", "add", "13800001001", "--actor", "李雷", "--reason", "来电")
    out, key = tmp_path / "list.filter", tmp_path / "list.key"
    assert tingxin("list", "filter", out, "--key", key)[1].startswith("1 个号码")
    assert tingxin("list", "filter", out, "--key", key)[0] == 0
    assert key.stat().st_mode & 0o077 == 0
    status, said = tingxin("list", "check", out, "13800001001", "13800001002", "--key", key)
    assert (status, said.split()[1::3]) == (1, ["停发", "可发"])
    assert tingxin("list", "check", out, "13800001002", "--key", key)[0] == 0
    key.write_text("zz", encoding="ascii")
    assert tingxin("list", "check", out, "13800001002", "--key", key)[0] == 2
    assert "nothing was written over it" in tingxin("list", "filter", out, "--key", key)[1]
