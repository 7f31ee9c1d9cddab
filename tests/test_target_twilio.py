"""Twilio: 25 consents a call, each answered for itself; what the answer leaves out is not taken for done."""

import base64
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs

import pytest
import sqlalchemy as sa
from pydantic import SecretStr
from structlog.testing import capture_logs

from serving import exchange, tables
from serving.relay import Relay
from serving.targets.config import TwilioTarget

ACCOUNT = "AC" + "0" * 32
OpenRelay = Callable[..., Relay]


@pytest.fixture
def relay(open_relay: OpenRelay, platform: Any) -> Relay:
    return open_relay(target(platform))


def target(platform: Any, **fields: Any) -> TwilioTarget:
    given = {
        "name": "twilio", "kind": "twilio", "sid": ACCOUNT, "secret": SecretStr("token"),
        "sender": "+15005550006", "endpoint": platform.url,
    }  # fmt: skip
    return TwilioTarget(**(given | fields))


def add(relay: Relay, *numbers: int, scope: str = "marketing") -> None:
    for number in numbers:
        exchange.add(relay._store, "default", f"+1415555{number:04}", scope, "Ann", "by phone")


def letters(relay: Relay) -> list[Any]:
    with relay._store.read() as connection:
        return list(connection.execute(sa.select(tables.outbox).order_by(tables.outbox.c.seq)))


def items(request: Any) -> list[dict[str, str]]:
    return [json.loads(item) for item in parse_qs(request.body.decode())["Items"]]


def accepting(**errors: tuple[int, list[str]]) -> Callable[[Any], Any]:
    """Answer as Twilio does: 0 for every number, but for those named by their last four digits."""

    def answer(request: Any) -> tuple[int, dict[str, str], bytes]:
        results = []
        for item in items(request):
            number, messages = errors.get(f"n{item['contact_id'][-4:]}", (0, []))
            results.append(
                {
                    "correlation_id": item["correlation_id"],
                    "error_code": number,
                    "error_messages": messages,
                }
            )
        return 201, {}, json.dumps({"items": results}).encode()

    return answer


def test_an_opt_out_becomes_a_consent_of_the_sender(relay: Relay, platform: Any) -> None:
    platform.answer = accepting()
    add(relay, 1)
    assert relay.deliver_due() == 1
    [request], [letter] = platform.requests, letters(relay)
    assert (request.method, request.path) == ("POST", "/v1/Consents/Bulk")
    assert request.headers["content-type"] == "application/x-www-form-urlencoded"
    login = base64.b64encode(f"{ACCOUNT}:token".encode()).decode()
    assert request.headers["authorization"] == f"Basic {login}"
    [item] = items(request)
    assert len(item["correlation_id"]) == 32
    assert (
        item
        == {
            "contact_id": "+14155550001",
            "correlation_id": letter.id.removeprefix("evt_"),
            "sender_id": "+15005550006",
            "status": "opt-out",
            "source": "others",  # a person added it
            "date_of_consent": letter.event["time"][:19] + "Z",
        }
    )
    assert letter.state == "delivered"


def test_25_go_in_a_call(relay: Relay, platform: Any) -> None:
    platform.answer = accepting()
    add(relay, *range(60))
    assert relay.deliver_due() == 60
    assert sorted(len(items(r)) for r in platform.requests) == [10, 25, 25]
    assert {letter.state for letter in letters(relay)} == {"delivered"}


def test_a_release_is_an_opt_in_unless_another_entry_still_blocks(
    relay: Relay, platform: Any
) -> None:
    platform.answer = accepting()
    add(relay, 1, 2)
    add(relay, 2, scope="all")
    while relay.deliver_due():
        pass
    platform.requests.clear()
    for number in (1, 2):
        exchange.release(
            relay._store, "default", f"+1415555{number:04}", "marketing", "Ann", "asked"
        )
    while relay.deliver_due():
        pass
    said = {i["contact_id"][-1]: i["status"] for r in platform.requests for i in items(r)}
    assert said == {"1": "opt-in", "2": "opt-out"}


def test_one_faulty_item_fails_alone(relay: Relay, platform: Any) -> None:
    platform.answer = accepting(
        n0002=(30646, ["INVALID_CONTACT_ID", "+14155550002 is not a number"]), n0003=(20500, [])
    )
    add(relay, 1, 2, 3)
    with capture_logs() as logs:
        relay.deliver_due()
    assert "0002" not in str([log for log in logs if log["event"] == "push_failed"]).replace(
        letters(relay)[1].id, ""
    )
    assert [(le.state, le.last_error) for le in letters(relay)] == [
        ("delivered", None),
        ("dead", "Twilio error 30646 INVALID_CONTACT_ID"),
        ("pending", "Twilio error 20500"),
    ]


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (201, b"<html>", "the answer is no JSON"),
        (201, b"[1]", "the answer lists no items"),
        (201, b'{"items": [1, null, {}]}', "Twilio's answer leaves this item out"),
        (201, b"[" * 100_000, "the answer is no JSON"),
        (201, b"x" * 3_000_000, "the answer is too long"),
        (500, b"", "HTTP 500"),
        (401, b"", "HTTP 401"),
    ],
)
def test_an_answer_that_says_nothing_is_a_failed_attempt(
    relay: Relay, platform: Any, status: int, body: bytes, error: str
) -> None:
    platform.answer = lambda _: (status, {}, body)
    add(relay, 1, 2)
    assert relay.deliver_due() == 2
    assert {(le.state, le.attempts, le.last_error) for le in letters(relay)} == {
        ("pending", 1, error)
    }


def test_an_error_code_of_another_type_is_no_success(relay: Relay, platform: Any) -> None:
    def answer(request: Any) -> tuple[int, dict[str, str], bytes]:
        found = [
            {"correlation_id": i["correlation_id"], "error_code": code}
            for i, code in zip(items(request), (False, "0", None), strict=True)
        ]
        return 201, {}, json.dumps({"items": found}).encode()

    platform.answer = answer
    add(relay, 1, 2, 3)
    relay.deliver_due()
    assert [letter.state for letter in letters(relay)] == ["pending"] * 3


def test_a_call_that_is_refused_is_taken_apart(relay: Relay, platform: Any) -> None:
    """One number spoils the whole call: the others arrive, and it is a dead letter."""

    def answer(request: Any) -> tuple[int, dict[str, str], bytes]:
        if any(item["contact_id"].endswith("0002") for item in items(request)):
            return 400, {}, b""
        return accepting()(request)  # type: ignore[no-any-return]

    platform.answer = answer
    add(relay, 1, 2, 3)
    assert [relay.deliver_due() for _ in range(3)] == [3, 3, 0]
    assert [(le.state, le.last_error) for le in letters(relay)] == [
        ("delivered", None), ("dead", "HTTP 400"), ("delivered", None),
    ]  # fmt: skip


def test_no_minute_sees_more_than_100_calls(
    open_relay: OpenRelay, platform: Any, clock: Any
) -> None:
    platform.answer = accepting()
    relay = open_relay(target(platform))
    add(relay, *range(300))
    clock.stop()
    relay.deliver_due()
    assert len(platform.requests) == 10  # at once, of the hundred
    assert relay.deliver_due() == 0
    clock.forward(2)
    assert relay.deliver_due() == 50
    assert {len(items(r)) for r in platform.requests} == {25}
