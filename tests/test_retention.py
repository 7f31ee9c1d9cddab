"""What has outlived its term goes, what waits for somebody stays, and the chain says that it was done."""

from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from serving import exchange, receipts, tables, triage
from serving.events import InboundReply
from serving.record import Read, record
from serving.retention import erase, purge
from serving.settings import Settings
from serving.store import Store, now

Say = Callable[..., str]


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    store = Store.open(settings)
    yield store
    store.close()


@pytest.fixture
def say(store: Store, classifier: Any, reply: Callable[..., InboundReply]) -> Say:
    """`say(7, "退订", days=200)`: the person wrote this so many days ago; returns the reply's id."""

    def say(number: int, text: str, days: float = 0) -> str:
        [prediction] = classifier.classify([text])
        message = reply(number, text, received_at=now() - timedelta(days=days))
        [decision] = record(store, classifier, [Read(f"{number}{text}{days}", message, prediction)])
        age(store, tables.receipts.c.created_at, days, tables.receipts.c.id == decision["receipt"])
        return str(decision["reply"])

    return say


def age(store: Store, column: sa.Column[Any], days: float, *where: sa.ColumnElement[bool]) -> None:
    with store.write() as connection:
        values = {column.name: now() - timedelta(days=days)}
        connection.execute(column.table.update().where(*where).values(values))


def told(store: Store) -> None:
    with store.write() as connection:
        done = {"state": "delivered", "phone_sealed": None}
        connection.execute(tables.outbox.update().values(done))


def rows(store: Store, table: sa.Table) -> list[Any]:
    with store.read() as connection:
        return list(connection.execute(sa.select(table)))


def chain_holds(store: Store) -> receipts.Verdict:
    with store.read() as connection:
        verdict = receipts.verify(connection)
    assert verdict.holds, verdict
    return verdict


def phone(number: int) -> str:
    return f"+8613800{number:06}"


def test_old_texts_lose_their_content_and_number_and_young_ones_stay(
    store: Store, say: Say
) -> None:
    old, young = say(1, "谢谢", days=154), say(2, "谢谢", days=152)
    assert asdict(purge(store, dry_run=True))["texts"] == 1
    assert {r.text for r in rows(store, tables.replies)} == {"谢谢"}
    assert purge(store).texts == 1
    left = {r.id: (r.text, r.phone_sealed is None) for r in rows(store, tables.replies)}
    assert left == {old: ("", True), young: ("谢谢", False)}
    assert purge(store).texts == 0


def test_what_waits_for_a_person_stays_until_they_have_decided(store: Store, say: Say) -> None:
    say(1, "我活不下去了", days=3000)
    done = purge(store)
    assert (done.texts, done.replies) == (0, 0)
    [item] = rows(store, tables.queue)
    triage.close(store, item.id, triage.Verdict("confirm", "李雷"))
    assert purge(store).replies == 1
    assert rows(store, tables.queue) == rows(store, tables.replies) == []


def test_released_entries_go_when_the_platform_knows_and_active_ones_never(
    store: Store, say: Say
) -> None:
    say(1, "退订")
    say(2, "退订")
    exchange.release(store, "default", phone(2), None, "李雷", "来电")
    age(store, tables.suppressions.c.created_at, 4000)
    age(store, tables.suppressions.c.released_at, 154, tables.suppressions.c.state == "released")
    assert purge(store).entries == 0  # its release is not yet told
    told(store)
    assert purge(store, dry_run=True).entries == 1
    assert purge(store).entries == 1
    assert [entry.state for entry in rows(store, tables.suppressions)] == ["active"]
    assert len(rows(store, tables.changes)) == 1


def test_old_receipts_go_from_the_chains_beginning_and_the_rest_still_proves_itself(
    store: Store, say: Say
) -> None:
    for number in range(3):
        say(number, "退订", days=2000)
    say(3, "退订")
    told(store)
    assert purge(store, dry_run=True).receipts == 3
    done = purge(store)
    assert (done.receipts, done.replies, done.events) == (3, 3, 3)
    assert chain_holds(store).checked == 2  # the young one, and that of the purge
    assert asdict(purge(store)) == dict.fromkeys(asdict(done), 0)
    say(4, "退订")
    assert chain_holds(store).checked == 3


def test_a_beginning_that_no_purge_explains_is_found(store: Store, say: Say) -> None:
    say(1, "退订")
    say(2, "退订")
    first = rows(store, tables.receipts)[0]
    with store.write() as connection:
        r = tables.receipts
        connection.execute(r.delete().where(r.c.seq == 1))
        connection.execute(tables.chain.update().values(base_seq=1, base_hash=first.hash))
    with store.read() as connection:
        assert "no receipt speaks of its purge" in receipts.verify(connection).fault


def test_erasing_a_person_keeps_what_must_stay_and_says_why(store: Store, say: Say) -> None:
    say(1, "谢谢", days=200)
    say(1, "退订", days=10)
    say(2, "退订")
    told(store)
    before = {table: rows(store, table) for table in (tables.replies, tables.suppressions)}
    tried = erase(store, phone(1), "李雷", "申请 12", dry_run=True)
    assert {table: rows(store, table) for table in before} == before
    report = {line.what.split()[-1]: line for line in erase(store, phone(1), "李雷", "申请 12")}
    assert [line.erased for line in tried] == [line.erased for line in report.values()]
    texts = report["texts"]
    assert (texts.erased, texts.kept) == (1, 1)
    assert texts.until is not None
    assert timedelta(days=142) < texts.until - now() < timedelta(days=144)
    assert (report["entries"].erased, report["entries"].kept) == (0, 1)
    assert all(line.why for line in report.values() if line.kept)
    # Still not to be written to, though nobody can read the number any more.
    key = store.phones.key(phone(1))
    mine = [e for e in rows(store, tables.suppressions) if e.phone_hmac == key]
    assert [(e.state, e.phone_sealed, e.phone_masked) for e in mine] == [("active", None, "")]
    numbers = [r for r in rows(store, tables.replies) if r.phone_sealed or r.phone_masked]
    assert [r.phone_masked for r in numbers] == ["138****0002"]
    assert sorted(r.text for r in rows(store, tables.replies)) == ["", "退订", "退订"]
    chain_holds(store)


def test_where_no_law_keeps_texts_they_go_too(store: Store, say: Say) -> None:
    say(1, "退订", days=10)
    erase(store, phone(1), "李雷", "申请", texts_too=True)
    [left] = rows(store, tables.replies)
    assert (left.text, left.phone_hmac) == ("", "")


def test_a_person_with_an_open_item_or_an_untold_event_keeps_them(store: Store, say: Say) -> None:
    say(1, "我活不下去了")
    say(1, "退订")
    report = {line.what.split()[-1]: line for line in erase(store, phone(1), "李雷", "x", True)}
    assert (report["replies"].erased, report["replies"].kept) == (1, 1)
    assert report["events"].kept == 1
    [item] = rows(store, tables.queue)
    with store.read() as connection:
        assert triage.one(connection, store, item.id)["phone"] == phone(1)
