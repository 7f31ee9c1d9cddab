"""A list comes in as a file: all its numbers, each once, and every line that cannot be read by name."""

import io
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from serving import importing, receipts, tables
from serving.importing import Imported, UnreadableFile, import_
from serving.settings import Settings
from serving.store import Store

HEADER = "phone,scope,state,reason\n"


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    store = Store.open(settings)
    yield store
    store.close()


@pytest.fixture(autouse=True)
def few_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "AT_ONCE", 7)


def take(store: Store, text: str, **options: Any) -> Imported:
    return import_(store, "default", io.BytesIO(text.encode()), "李雷", **options)


def count(store: Store, table: sa.Table) -> int:
    with store.read() as connection:
        return connection.scalar(sa.select(sa.func.count()).select_from(table)) or 0


def numbers(how_many: int) -> str:
    return HEADER + "".join(f"1380000{n:04},,,\n" for n in range(how_many))


def test_every_number_is_listed_told_and_on_a_receipt(store: Store) -> None:
    done = take(store, numbers(50))
    assert (done.added, done.already, len(done.receipts)) == (50, 0, 8)
    for table in (tables.suppressions, tables.changes, tables.outbox):
        assert count(store, table) == 50
    with store.read() as connection:
        assert receipts.verify(connection).holds
        first = receipts.read(connection, done.receipts[1])
        events = connection.scalars(sa.select(tables.outbox.c.event).order_by(tables.outbox.c.seq))
        told = [event["data"]["cursor"] for event in events]
        cursors = list(connection.scalars(sa.select(tables.changes.c.cursor).order_by("cursor")))
    assert first is not None
    lines = {k: first["receipt"][k] for k in ("first_line", "last_line", "added")}
    assert lines == {"first_line": 9, "last_line": 15, "added": 7}
    assert told == cursors


def test_a_file_that_stopped_half_way_is_finished_by_taking_it_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stops(*_: object, after: list[int] = [0]) -> None:  # noqa: B006 - counts the calls
        after[0] += 1
        if after[0] == 20:
            raise OSError("no space left")

    seal = store.phones.seal
    with monkeypatch.context() as patch:
        patch.setattr(store.phones, "seal", lambda phone: stops() or seal(phone))
        with pytest.raises(OSError, match="no space"):
            take(store, numbers(50))
    assert count(store, tables.suppressions) == count(store, tables.outbox) == 14
    done = take(store, numbers(50))
    assert (done.added, done.already) == (36, 14)
    assert count(store, tables.outbox) == 50
    assert take(store, numbers(50)).receipts == []


def test_a_dry_run_says_the_same_and_writes_nothing(store: Store) -> None:
    text = numbers(20) + "13800000003,,,\n13800000003,all,,\nx,,,\n13800009999,,released,\n"
    tried = take(store, text, dry_run=True)
    for table in (tables.suppressions, tables.outbox, tables.receipts):
        assert count(store, table) == 0
    done = take(store, text)
    assert (done.added, done.already, done.skipped, done.refused) == (21, 1, 1, 1)
    assert tried.summary() | {"receipts": done.receipts} == done.summary()


def test_a_line_may_confirm_and_take_up_again_what_an_earlier_one_left(store: Store) -> None:
    done = take(store, HEADER + "13800000001,,provisional,\n13800000001,,,\n")
    assert (done.added, done.already) == (2, 0)
    with store.read() as connection:
        [entry] = connection.execute(sa.select(tables.suppressions))
        kinds = connection.scalars(sa.select(tables.outbox.c.event).order_by(tables.outbox.c.seq))
        assert [e["type"].rpartition(".")[2] for e in kinds] == ["created", "updated"]
    assert entry.state == "active"


def test_bad_lines_are_named_masked_and_hold_up_no_other(store: Store) -> None:
    heard: list[importing.Fault] = []
    text = (
        "手机号,scope\n13800000001,\n138000x0100,\n\n张三,\n13800000002,everything\n"
        '"13800000003\n13800000004,\n'
    )
    done = take(store, text, on_fault=heard.append)
    assert (done.added, done.refused) == (1, 4)
    assert [(f.line, f.phone_masked) for f in heard] == [
        (3, "138****00"),
        (5, "****"),
        (6, "138****02"),
        (7, "138****04"),
    ]
    assert "lines 7 to 8 were read as one" in heard[-1].why
    assert done.faults == heard


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "no column of numbers"),
        (b"name\nx\n", "no column of numbers"),
        ("手机号\n".encode("gb18030"), "not UTF-8"),
        (numbers(30).encode() + b"\xff", "not UTF-8"),
    ],
)
def test_a_file_that_is_no_list_is_refused_before_anything_is_written(
    store: Store, content: bytes, why: str
) -> None:
    with pytest.raises(UnreadableFile, match=why):
        import_(store, "default", io.BytesIO(content), "李雷")
    assert count(store, tables.suppressions) == 0


def test_nul_and_a_mark_for_excel_do_no_harm(store: Store) -> None:
    assert take(store, "\ufeffphone,reason\n13800000001,a\0b\n").added == 1
