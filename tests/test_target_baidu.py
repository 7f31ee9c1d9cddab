"""Baidu: calls signed as its documentation's own example, 100 numbers each, 11 digits, and read page by page."""

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from serving import exchange, tables
from serving.relay import Relay
from serving.targets import TargetFault
from serving.targets.baidu import Baidu, authorization
from serving.targets.config import BaiduTarget

OpenRelay = Callable[..., Relay]


def target(platform: Any, **fields: Any) -> BaiduTarget:
    given = {
        "name": "baidu", "kind": "baidu", "access_key": "a" * 32,
        "secret": SecretStr("b" * 32), "endpoint": platform.url,
    }  # fmt: skip
    return BaiduTarget(**(given | fields))


@pytest.fixture
def relay(open_relay: OpenRelay, platform: Any) -> Relay:
    platform.answer = lambda _: (200, {}, b"")
    return open_relay(target(platform))


def add(relay: Relay, *phones: str, scope: str = "marketing") -> None:
    for phone in phones:
        exchange.add(relay._store, "default", phone, scope, "李雷", "来电")


def letters(relay: Relay) -> list[Any]:
    with relay._store.read() as connection:
        return list(connection.execute(sa.select(tables.outbox).order_by(tables.outbox.c.seq)))


def test_the_signature_is_that_of_baidus_own_example() -> None:
    """cloud.baidu.com/doc/Reference/s/wjwvz1xt2, signing host and x-bce-date."""
    signed = authorization(
        ("a" * 32, "b" * 32),
        "PUT",
        "/v1/test/myfolder/readme.txt",
        {"partNumber": "9", "uploadId": "a44cc9bab11cbd156984767aad637851"},
        {"x-bce-date": "2015-04-27T08:23:49Z", "Host": "bj.bcebos.com"},
        datetime(2015, 4, 27, 8, 23, 49, tzinfo=UTC),
    )
    assert signed == (
        f"bce-auth-v1/{'a' * 32}/2015-04-27T08:23:49Z/1800/host;x-bce-date/"
        "1b8de5a23a56eef657c69f94c621e7acd227d049a4ba577f537d5e5cebf0cf32"
    )


def test_what_goes_out_bears_the_signature_of_what_goes_out(relay: Relay, platform: Any) -> None:
    add(relay, "+8613800001001")
    relay.deliver_due()
    exchange.release(relay._store, "default", "+8613800001001", None, "李雷", "本人要求")
    relay.deliver_due()
    for request in platform.requests:
        at = datetime.strptime(request.headers["x-bce-date"], "%Y-%m-%dT%H:%M:%SZ")
        headers = {name: request.headers[name] for name in ("host", "x-bce-date")}
        query = {name: values[0] for name, values in request.query.items()}
        expected = authorization(
            ("a" * 32, "b" * 32), request.method, request.path, query, headers, at
        )
        assert request.headers["authorization"] == expected


def test_opt_outs_are_added_100_a_call_and_releases_deleted(relay: Relay, platform: Any) -> None:
    phones = [f"+861380000{n:04}" for n in range(120)]
    add(relay, *phones)
    assert relay.deliver_due() == 120
    bodies = [json.loads(r.body) for r in platform.requests]
    assert sorted(len(b["phone"].split(",")) for b in bodies) == [20, 100]
    assert {b["type"] for b in bodies} == {"MerchantBlack"}
    assert {p for b in bodies for p in b["phone"].split(",")} == {p[3:] for p in phones}
    platform.requests.clear()
    exchange.release(relay._store, "default", phones[0], None, "李雷", "本人要求")
    relay.deliver_due()
    [request] = platform.requests
    assert (request.method, request.path) == ("DELETE", "/sms/v3/blacklist/delete")
    assert request.query == {"phones": [phones[0][3:]]}


def test_a_signatures_blacklist_is_named(open_relay: OpenRelay, platform: Any) -> None:
    own = {"signature_id": "sms-sign-1", "sms_type": "CommonNotice", "scopes": ("sender:某贷",)}
    relay = open_relay(target(platform, **own))
    add(relay, "+8613800001001", scope="sender:某贷")
    relay.deliver_due()
    [request] = platform.requests
    assert json.loads(request.body) == {
        "type": "SignatureBlack", "smsType": "CommonNotice", "signatureIdStr": "sms-sign-1",
        "phone": "13800001001",
    }  # fmt: skip


def test_a_number_from_elsewhere_is_a_dead_letter_that_says_why(
    relay: Relay, platform: Any
) -> None:
    add(relay, "+8613800001001", "+14158675309")
    relay.deliver_due()
    near, far = letters(relay)
    assert (near.state, far.state) == ("delivered", "dead")
    assert "11 digits" in far.last_error
    [request] = platform.requests
    assert json.loads(request.body)["phone"] == "13800001001"


def test_a_refused_call_is_taken_apart(relay: Relay, platform: Any) -> None:
    def answer(request: Any) -> tuple[int, dict[str, str], bytes]:
        return (400 if "13800001002" in json.loads(request.body)["phone"] else 200), {}, b"{}"

    platform.answer = answer
    add(relay, "+8613800001001", "+8613800001002", "+8613800001003")
    assert [relay.deliver_due() for _ in range(3)] == [3, 3, 0]
    assert [letter.state for letter in letters(relay)] == ["delivered", "dead", "delivered"]


def pages(numbers: list[dict[str, str]], total: int | None = None) -> Callable[[Any], Any]:
    def answer(request: Any) -> tuple[int, dict[str, str], bytes]:
        start = (int(request.query["pageNo"][0]) - 1) * int(request.query["pageSize"][0])
        found = numbers[start : start + int(request.query["pageSize"][0])]
        body = {"totalCount": len(numbers) if total is None else total, "blacklists": found}
        return 200, {}, json.dumps(body).encode()

    return answer


def listed(given: BaiduTarget) -> list[str]:
    async def read() -> list[str]:
        adapter = Baidu(given)
        try:
            return [number.phone for number in await adapter.listed()]
        finally:
            await adapter.close()

    return asyncio.run(read())


def test_the_blacklist_is_read_to_its_end(platform: Any) -> None:
    numbers = [{"phone": f"1380000{n:04}", "type": "MerchantBlack"} for n in range(250)]
    numbers[7]["type"] = "SignatureBlack"  # another list's
    platform.answer = pages(numbers)
    found = listed(target(platform))
    assert len(found) == 249
    assert found[0] == "+8613800000000"
    assert [r.query["pageNo"] for r in platform.requests] == [["1"], ["2"], ["3"]]


def test_a_total_that_never_comes_ends_with_the_pages(platform: Any) -> None:
    platform.answer = pages([{"phone": "13800000001", "type": "MerchantBlack"}], total=10**9)
    assert listed(target(platform)) == ["+8613800000001"]


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (403, b""),
        (200, b"no JSON"),
        (200, b"[]"),
        (200, b'{"totalCount": "1", "blacklists": []}'),
        (200, b'{"totalCount": 1, "blacklists": [{"phone": "x"}]}'),
    ],
)
def test_a_blacklist_that_cannot_be_read_is_no_empty_one(
    platform: Any, status: int, body: bytes
) -> None:
    platform.answer = lambda _: (status, {}, body)
    with pytest.raises(TargetFault):
        listed(target(platform))
