"""The list: what a scope covers, who may release, and a change feed that no late commit slips past."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from serving import receipts, suppressions
from serving.settings import Settings
from serving.store import Store, now
from serving.suppressions import Method, Suppressions, Wish

PHONES = [f"+8613800007{n:03}" for n in range(10)]


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    store = Store.open(settings)
    yield store
    store.close()


def wish(phone: str, method: Method = "human", actor: str = "李雷", reason: str = "来电") -> Wish:
    return Wish("default", phone, method, actor, reason, "rc_x", now(), now())


def block(store: Store, phone: str, scope: str = "marketing") -> None:
    with store.write() as connection, receipts.Chain(connection):
        Suppressions(connection, store, now()).block(wish(phone), scope, "active")


def feed(store: Store, after: int = 0) -> list[dict[str, Any]]:
    with store.read() as connection:
        return suppressions.changes(connection, store.phones, "default", after, 100)


def test_the_feed_shows_no_change_before_an_older_one_that_commits_late(store: Store) -> None:
    with ThreadPoolExecutor(1) as pool:
        with store.write() as connection, receipts.Chain(connection):
            Suppressions(connection, store, now()).block(wish(PHONES[0]), "marketing", "active")
            younger = pool.submit(block, store, PHONES[1])
            with pytest.raises(TimeoutError):
                younger.result(timeout=0.5)
            assert feed(store) == []
        younger.result(timeout=30)
    assert [change["phone"] for change in feed(store)] == PHONES[:2]
    cursors = [change["cursor"] for change in feed(store)]
    assert [change["phone"] for change in feed(store, after=cursors[0])] == PHONES[1:2]


def test_an_opt_out_holds_under_every_signature(store: Store) -> None:
    block(store, PHONES[0])
    key = store.phones.key(PHONES[0])
    with store.read() as connection:
        for scope, stopped in [("marketing", 1), ("sender:甲", 1), ("sender:乙", 1), ("otp", 0)]:
            found = suppressions.covering(connection, "default", [key], scope)
            assert len(found) == stopped, scope
        assert not suppressions.covering(connection, "another", [key], "marketing")


@pytest.mark.parametrize(
    ("method", "actor", "reason"),
    [
        ("model", "tingxin", "x"),
        ("import", "李雷", "x"),
        ("human", " ", "x"),
        ("human", "李雷", ""),
    ],
)
def test_only_the_person_or_a_named_human_with_a_reason_releases(
    store: Store, method: Method, actor: str, reason: str
) -> None:
    block(store, PHONES[0])
    with store.write() as connection, receipts.Chain(connection):
        suppressed = Suppressions(connection, store, now())
        with pytest.raises(ValueError, match="release"):
            suppressed.release(wish(PHONES[0], method, actor, reason))
        assert suppressed.release(wish(PHONES[0], "keyword", "tingxin", "START"))
