"""A message is settled once all its replies are on disk, or once it is known why they never will be."""

import json
from collections.abc import Sequence
from threading import Event, Thread
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import OperationalError

from serving import consumer as consumers
from serving import tables
from serving.consumer import Consumer, Message, PutOff
from serving.events import InboundReply
from serving.intake import IntakeFull, Outcome
from serving.service import Service


@pytest.fixture(autouse=True)
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumers, "SHORTEST", 0.001)
    monkeypatch.setattr(consumers, "LONGEST", 0.001)


def message(*entries: Any, position: str = "") -> Message:
    return Message(json.dumps(entries if len(entries) != 1 else entries[0]).encode(), position)


def person(number: int, text: str = "退订", **fields: str) -> dict[str, str]:
    return {"phone": f"13800{number:06}", "text": text} | fields


def recorded(service: Service) -> int:
    with service.store.read() as connection:
        return connection.scalar(sa.select(sa.func.count()).select_from(tables.replies)) or 0


def test_one_or_an_array_is_recorded_and_what_is_faulty_is_named(service: Service) -> None:
    whys = Consumer(service).take(
        [
            message(person(1)),
            message(person(2), {"text": "T"}, person(3), person(4, "啊" * 20_001)),
            Message(b"\xff\xfe nothing"),
        ]
    )
    assert whys[0] == ""
    assert whys[1].startswith("entry 1: phone: Field required; entry 3: text")
    assert whys[2] == "the body is no JSON"
    assert "啊" not in str(whys)
    assert recorded(service) == 3
    with service.store.read() as connection:
        assert len(connection.execute(sa.select(tables.suppressions)).all()) == 3


def test_a_named_vendors_body_is_read_as_the_vendor_writes_it(service: Service) -> None:
    aliyun = {"phone_number": "13800001001", "content": "T", "sequence_id": "1"}
    twilio = b"MessageSid=SM1&From=%2B8613800001002&To=%2B12125550101&Body=T"
    assert Consumer(service, "aliyun").take([Message(json.dumps([aliyun]).encode())]) == [""]
    assert Consumer(service, "twilio").take([Message(twilio)]) == [""]
    with service.store.read() as connection:
        found = set(connection.scalars(sa.select(tables.replies.c.vendor)))
    assert found == {"aliyun", "twilio"}


def test_without_id_and_time_the_place_in_the_stream_tells_a_redelivery_from_a_second_message(
    service: Service,
) -> None:
    consumer = Consumer(service)
    both = message(person(1), person(1), position="replies/1-0")
    consumer.take([both])
    consumer.take([both, message(person(1), position="replies/2-0")])
    assert recorded(service) == 3
    consumer.take([message(person(1))])  # without a place each delivery counts
    assert recorded(service) == 4


def test_a_redelivery_with_an_id_is_recorded_once_wherever_it_stands(service: Service) -> None:
    consumer = Consumer(service)
    for position in ("replies/1-0", "replies/2-0"):
        consumer.take([message(person(1, id="m-1"), position=position)])
    assert recorded(service) == 1


def answering(answers: list[Any], service: Service, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Have `submit` raise or return what stands in answers, then do its work; return the sizes of calls."""
    submit, calls = service.submit, []

    def scripted(replies: Sequence[InboundReply]) -> list[Outcome]:
        calls.append(len(replies))
        answer = answers.pop(0) if answers else None
        if isinstance(answer, Exception):
            raise answer
        return submit(replies) if answer is None else [answer] * len(replies)

    monkeypatch.setattr(service, "submit", scripted)
    return calls


def test_a_full_intake_a_lost_database_and_a_failed_commit_are_waited_out(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = OperationalError("select", {}, Exception())
    answers = [IntakeFull("full"), lost, Outcome("m", "failed", why="not recorded")]
    calls = answering(answers, service, monkeypatch)
    assert Consumer(service).take([message(person(1))]) == [""]
    assert (len(calls), recorded(service)) == (4, 1)


def test_a_reply_that_a_sound_database_refuses_is_given_up_and_its_neighbours_are_not(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    seal = service.store.phones.seal

    def refuses_one(phone: str) -> str:
        if phone.endswith("2"):
            raise RuntimeError
        return seal(phone)

    monkeypatch.setattr(service.store.phones, "seal", refuses_one)
    taken = Consumer(service).take([message(person(n)) for n in (1, 2, 3)])
    assert taken == ["", "entry 0: the database refuses it", ""]
    assert recorded(service) == 2


def test_while_the_database_writes_nothing_no_reply_is_given_up(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    consumer = Consumer(service)
    failed = Outcome("m", "failed", why="not recorded")
    calls = answering([failed] * 20, service, monkeypatch)
    monkeypatch.setattr(consumer, "_writes", lambda: False)
    assert consumer.take([message(person(1))]) == [""]
    assert len(calls) == 21


def test_a_message_larger_than_the_intake_goes_in_by_and_by(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumers, "CHUNK", 3)
    calls = answering([], service, monkeypatch)
    assert Consumer(service).take([message(*map(person, range(8)))]) == [""]
    assert (calls, recorded(service)) == ([3, 3, 2], 8)


def test_what_waits_when_the_consumer_stops_is_put_off(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    consumer, began, raised = Consumer(service), Event(), Event()

    def full(replies: Sequence[InboundReply]) -> list[Outcome]:
        began.set()
        raise IntakeFull("full")

    monkeypatch.setattr(service, "submit", full)

    def take() -> None:
        try:
            consumer.take([message(person(1))])
        except PutOff:
            raised.set()

    thread = Thread(target=take)
    thread.start()
    assert began.wait(5)
    consumer.stop()
    thread.join(5)
    assert raised.is_set()


def test_a_stopped_intake_puts_off(service: Service) -> None:
    service.intake.stop()
    with pytest.raises(PutOff):
        Consumer(service).take([message(person(1))])


def test_the_repr_of_a_message_hides_its_body() -> None:
    assert "138" not in repr(message(person(1)))
