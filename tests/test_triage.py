"""A person's verdict confirms, corrects or takes back what a reply did, and nothing else."""

from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from serving import tables, triage
from serving.events import InboundReply
from serving.service import Service
from serving.triage import AlreadyClosed, UnknownItem, Verdict

Reply = Callable[..., InboundReply]
CONFIRM = Verdict("confirm", "李雷")
RELEASE = Verdict("release", "李雷", "没有要退订")


def item(service: Service, message: InboundReply) -> str:
    [outcome] = service.submit([message])
    return str(outcome.decision["queue_item"])


def state(service: Service) -> str:
    with service.store.read() as connection:
        return str(connection.scalar(sa.select(tables.suppressions.c.state)))


def test_confirming_makes_a_provisional_entry_active(service: Service, reply: Reply) -> None:
    closed = triage.close(service.store, item(service, reply(1, "少发点")), CONFIRM)
    assert (closed["entry"]["state"], closed["entry"]["actor"]) == ("active", "李雷")


def test_releasing_takes_back_what_the_reply_did(service: Service, reply: Reply) -> None:
    triage.close(service.store, item(service, reply(1, "少发点")), RELEASE)
    assert state(service) == "released"


def test_a_release_leaves_what_stands_on_another_reply(service: Service, reply: Reply) -> None:
    held = item(service, reply(1, "少发点"))
    service.submit([reply(1, "退订")])
    triage.close(service.store, held, RELEASE)
    assert state(service) == "active"


def test_two_holds_are_released_by_the_second_verdict(service: Service, reply: Reply) -> None:
    first, second = (item(service, reply(1, "少发点", id=i)) for i in "ab")
    triage.close(service.store, first, RELEASE)
    assert state(service) == "provisional"
    triage.close(service.store, second, RELEASE)
    assert state(service) == "released"


@pytest.mark.parametrize(
    ("labels", "expected"), [(("opt_out",), "active"), ((), "released"), (("dispute",), "released")]
)
def test_a_correction_does_what_its_labels_say(
    service: Service, reply: Reply, labels: tuple[str, ...], expected: str
) -> None:
    held = item(service, reply(1, "少发点"))
    triage.close(service.store, held, Verdict("correct", "李雷", "", labels))
    assert state(service) == expected
    with service.store.read() as connection:
        [closed] = triage.listing(connection, None, "done", 10, 0)
    assert closed["corrected_labels"] == list(labels)


def test_a_missed_opt_out_is_blocked_by_correction(service: Service, reply: Reply) -> None:
    missed = item(service, reply(1, "没钱还"))
    triage.close(service.store, missed, Verdict("correct", "李雷", "", ("opt_out", "hardship")))
    assert state(service) == "active"


def test_an_item_is_decided_once(service: Service, reply: Reply) -> None:
    held = item(service, reply(1, "少发点"))
    triage.close(service.store, held, CONFIRM)
    with pytest.raises(AlreadyClosed):
        triage.close(service.store, held, RELEASE)
    with pytest.raises(UnknownItem):
        triage.close(service.store, "q_0", CONFIRM)


def test_the_most_urgent_comes_first_and_only_the_one_item_shows_the_number(
    service: Service, reply: Reply
) -> None:
    service.submit([reply(1, "没钱还"), reply(2, "活不下去了"), reply(3, "少发点")])
    with service.store.read() as connection:
        listed: list[dict[str, Any]] = triage.listing(connection, None, "open", 10, 0)
        assert [i["queue"] for i in listed] == ["crisis", "opt_out_review", "hardship"]
        assert "phone" not in listed[0]
        one = triage.one(connection, service.store, listed[0]["id"])
    assert one["phone"] == "+8613800000002"
