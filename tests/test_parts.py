"""Parts are read as one message, whatever their order, once, and never not at all."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from serving import parts, tables
from serving.events import InboundReply, Part
from serving.intake import IntakeFull, Outcome
from serving.parts import Parts, joined
from serving.service import Service
from serving.store import now

Reply = Callable[..., InboundReply]
LONG = ["我已经说过很多次了,", "请你们以后不要", "再给我发,别再发了"]


@pytest.fixture
def message(reply: Reply) -> list[InboundReply]:
    return [
        reply(1, text, id=f"p{number}", part=Part("7", number, len(LONG)))
        for number, text in enumerate(LONG, start=1)
    ]


def rows(service: Service, table: sa.Table) -> list[Any]:
    with service.store.read() as connection:
        return list(connection.execute(sa.select(table)))


def age(service: Service, by: timedelta) -> None:
    """Let what waits have come earlier."""
    p = tables.parts.c
    with service.store.write() as connection:
        connection.execute(tables.parts.update().values(received_at=now() - by))
        read = tables.parts.update().where(p.read_at.is_not(None))
        connection.execute(read.values(read_at=now() - by))


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_parts_in_any_order_are_one_message(
    service: Service, message: list[InboundReply], order: tuple[int, ...]
) -> None:
    outcomes = [service.submit([message[k]])[0] for k in order]
    assert [o.status for o in outcomes] == ["waiting", "waiting", "stored"]
    [row] = rows(service, tables.replies)
    assert (row.text, row.action) == ("".join(LONG), "suppress")


def test_parts_in_one_call_are_one_message(service: Service, message: list[InboundReply]) -> None:
    assert [o.status for o in service.submit(message)] == ["waiting", "waiting", "stored"]
    assert len(rows(service, tables.replies)) == 1


def test_before_and_after_reading_a_part_delivered_again_changes_nothing(
    service: Service, message: list[InboundReply]
) -> None:
    for part in [message[0], message[0], *message, *message]:
        service.submit([part])
    assert len(rows(service, tables.replies)) == len(rows(service, tables.outbox)) == 1
    assert len(rows(service, tables.parts)) == 3


def test_of_a_part_that_was_read_only_its_id_is_kept_and_not_for_ever(
    service: Service, message: list[InboundReply]
) -> None:
    service.submit(message)
    assert {(row.text, row.phone_sealed) for row in rows(service, tables.parts)} == {("", "")}
    age(service, parts.KEPT + timedelta(seconds=1))
    service.parts.sweep()
    assert rows(service, tables.parts) == []


def test_an_incomplete_message_is_read_as_it_is_once_it_has_waited(
    service: Service, message: list[InboundReply]
) -> None:
    service.submit([message[0], message[2]])
    assert service.parts.sweep() == 0
    assert rows(service, tables.replies) == []
    age(service, parts.WAIT)
    with capture_logs() as logs:
        assert service.parts.sweep() == 1
    [row] = rows(service, tables.replies)
    assert (row.text, row.action) == (f"{LONG[0]}…{LONG[2]}", "suppress")
    assert [(e["got"], e["of"]) for e in logs if e["event"] == "message_incomplete"] == [(2, 3)]
    assert "别再发" not in str(logs)
    # The last one comes after all: it is read too, by itself.
    service.submit([message[1]])
    age(service, parts.WAIT)
    service.parts.sweep()
    assert [r.text for r in rows(service, tables.replies)][1] == f"…{LONG[1]}…"


def test_two_people_and_two_numbers_are_kept_apart(service: Service, reply: Reply) -> None:
    for person, to in [(1, "a"), (2, "a"), (1, "b")]:
        first = reply(person, "别再", id=f"1-{person}-{to}", to=to, part=Part("7", 1, 2))
        assert service.submit([first])[0].status == "waiting"
    second = reply(2, "发了", id="2-2-a", to="a", part=Part("7", 2, 2))
    assert service.submit([second])[0].status == "stored"
    [row] = rows(service, tables.replies)
    assert (row.phone_masked, row.text) == ("138****0002", "别再发了")


def test_a_reference_used_again_is_another_message(service: Service, reply: Reply) -> None:
    def part(number: int, text: str, message_id: str) -> InboundReply:
        return reply(1, text, id=message_id, part=Part("7", number, 2))

    service.submit([part(1, "甲一", "a"), part(1, "乙一", "b"), part(2, "甲二", "c")])
    service.submit([part(2, "乙二", "d")])
    assert {row.text for row in rows(service, tables.replies)} == {"甲一甲二", "乙一乙二"}


def test_what_the_intake_has_no_room_for_is_read_later(
    service: Service, message: list[InboundReply]
) -> None:
    def full(_: object) -> list[Outcome]:
        raise IntakeFull("no room")

    crowded = Parts(service.store, full)
    assert [crowded.take(m, m.part).status for m in message if m.part] == ["waiting"] * 3
    assert rows(service, tables.replies) == []
    assert service.parts.sweep() == 1
    assert rows(service, tables.replies)[0].text == "".join(LONG)


def test_a_crash_between_reading_and_noting_it_reads_nothing_twice(
    service: Service, message: list[InboundReply]
) -> None:
    service.submit(message)
    with service.store.write() as connection:
        key = service.store.phones
        for part in message:
            undone = {"read_at": None, "text": part.text, "phone_sealed": key.seal(part.phone)}
            which = tables.parts.c.vendor_id == part.id
            connection.execute(tables.parts.update().where(which).values(**undone))
    assert service.parts.sweep() == 1
    assert len(rows(service, tables.replies)) == 1


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    texts=st.lists(st.text(min_size=1, max_size=20), min_size=2, max_size=6),
    data=st.data(),
)
def test_whatever_order_and_however_often_it_is_one_message(
    service: Service, reply: Reply, texts: list[str], data: st.DataObject
) -> None:
    salt = uuid4()  # one database serves all examples
    made = [
        reply(3, text, id=f"{salt}-{n}", to=str(salt), part=Part("1", n, len(texts)))
        for n, text in enumerate(texts, start=1)
    ]
    again = data.draw(st.lists(st.sampled_from(made), max_size=6))
    for part in data.draw(st.permutations([*made, *again])):
        service.submit([replace(part)])
    mine = [row.text for row in rows(service, tables.replies) if row.recipient == str(salt)]
    assert mine == ["".join(part.text for part in made)]


def test_missing_stretches_are_marked_once() -> None:
    assert joined({2: "乙", 5: "戊"}, 6) == "…乙…戊…"
    assert joined({1: "…", 2: "…"}, 2) == "……"
