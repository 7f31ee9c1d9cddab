"""AWS, over the wire that boto3 speaks: moto knows nothing of these calls, so a small AWS stands on loopback."""

import asyncio
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import sqlalchemy as sa

from serving import exchange, tables
from serving.relay import Relay
from serving.targets import TargetFault
from serving.targets.aws import Aws
from serving.targets.config import AwsTarget

pytest.importorskip("boto3", reason="the extra 'aws' is not installed")
OpenRelay = Callable[..., Relay]
PHONE = "+8613800001001"


@dataclass
class OptOutLists:
    """What AWS keeps, and says of it."""

    numbers: dict[str, bool] = field(default_factory=dict)  # number: the person opted out at AWS
    fault: tuple[int, dict[str, str]] | None = None  # instead of any answer

    def answer(self, request: Any) -> tuple[int, dict[str, str], bytes]:
        action = request.headers["x-amz-target"].rpartition(".")[2]
        asked = json.loads(request.body)
        status, said = self.fault or getattr(self, action)(asked)
        headers = {"content-type": "application/x-amz-json-1.0"}
        return status, headers, json.dumps(said).encode()

    def PutOptedOutNumber(self, asked: dict[str, str]) -> tuple[int, Any]:  # noqa: N802 - AWS's name
        self.numbers.setdefault(asked["OptedOutNumber"], False)
        return 200, {"OptedOutNumber": asked["OptedOutNumber"], "EndUserOptedOut": False}

    def DeleteOptedOutNumber(self, asked: dict[str, str]) -> tuple[int, Any]:  # noqa: N802
        if asked["OptedOutNumber"] not in self.numbers:
            return 400, {
                "__type": "ResourceNotFoundException",
                "ResourceType": "opted-out-number",
                "ResourceId": asked["OptedOutNumber"],
            }
        del self.numbers[asked["OptedOutNumber"]]
        return 200, {"OptedOutNumber": asked["OptedOutNumber"]}

    def DescribeOptedOutNumbers(self, asked: dict[str, Any]) -> tuple[int, Any]:  # noqa: N802
        start = int(asked.get("NextToken", 0))
        page = list(self.numbers.items())[start : start + asked["MaxResults"]]
        said: dict[str, Any] = {
            "OptedOutNumbers": [
                {"OptedOutNumber": number, "OptedOutTimestamp": 1, "EndUserOptedOut": own}
                for number, own in page
            ]
        }
        if start + len(page) < len(self.numbers):
            said["NextToken"] = str(start + len(page))
        return 200, said


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def aws(platform: Any) -> OptOutLists:
    lists = OptOutLists()
    platform.answer = lists.answer
    return lists


def target(platform: Any) -> AwsTarget:
    return AwsTarget(
        name="aws", kind="aws", opt_out_list="marketing", region="us-east-1", endpoint=platform.url
    )


@pytest.fixture
def relay(open_relay: OpenRelay, platform: Any, aws: OptOutLists) -> Relay:
    return open_relay(target(platform))


def add(relay: Relay, phone: str = PHONE, scope: str = "marketing") -> None:
    exchange.add(relay._store, "default", phone, scope, "李雷", "来电")


def release(relay: Relay, scope: str | None = None) -> None:
    exchange.release(relay._store, "default", PHONE, scope, "李雷", "本人要求")


def letters(relay: Relay) -> list[Any]:
    with relay._store.read() as connection:
        return list(connection.execute(sa.select(tables.outbox).order_by(tables.outbox.c.seq)))


def test_an_opt_out_is_put_and_a_release_deleted(
    relay: Relay, platform: Any, aws: OptOutLists
) -> None:
    add(relay)
    relay.deliver_due()
    assert aws.numbers == {PHONE: False}
    [request] = platform.requests
    assert request.headers["x-amz-target"] == "PinpointSMSVoiceV2.PutOptedOutNumber"
    assert "/us-east-1/sms-voice/aws4_request" in request.headers["authorization"]
    assert json.loads(request.body) == {"OptOutListName": "marketing", "OptedOutNumber": PHONE}
    release(relay)
    relay.deliver_due()
    assert aws.numbers == {}
    assert [letter.state for letter in letters(relay)] == ["delivered"] * 2


def test_a_number_that_another_entry_blocks_is_not_deleted(relay: Relay, aws: OptOutLists) -> None:
    add(relay)
    add(relay, scope="all")
    release(relay, "marketing")
    while relay.deliver_due():
        pass
    assert aws.numbers == {PHONE: False}


def test_a_number_that_is_not_there_need_not_be_deleted(relay: Relay, aws: OptOutLists) -> None:
    add(relay)
    relay.deliver_due()
    aws.numbers.clear()
    release(relay)
    relay.deliver_due()
    assert letters(relay)[-1].state == "delivered"


@pytest.mark.parametrize(
    "fault",
    [
        {"__type": "ConflictException", "Reason": "RESOURCE_DELETION_NOT_ALLOWED"},
        {"__type": "ValidationException", "Reason": "PHONE_NUMBER_CANNOT_BE_OPTED_IN"},
    ],
)
def test_a_deletion_that_aws_does_not_allow_is_a_dead_letter_that_says_so(
    relay: Relay, aws: OptOutLists, fault: dict[str, str]
) -> None:
    add(relay)
    relay.deliver_due()
    aws.fault = (400, fault | {"message": f"{PHONE} was deleted lately"})
    release(relay)
    relay.deliver_due()
    letter = letters(relay)[-1]
    assert (letter.state, letter.attempts) == ("dead", 1)
    assert "once in 30 days" in letter.last_error


@pytest.mark.parametrize(
    ("status", "fault", "state", "error"),
    [
        (400, {"__type": "ThrottlingException"}, "pending", "ThrottlingException"),
        (400, {"__type": "AccessDeniedException"}, "pending", "AccessDeniedException"),
        (
            400,
            {"__type": "ResourceNotFoundException", "ResourceType": "opt-out-list"},
            "pending",
            "ResourceNotFoundException",
        ),
        (500, {"__type": "InternalServerException"}, "pending", "InternalServerException"),
        (
            400,
            {"__type": "ValidationException", "Reason": "CANNOT_PARSE", "message": PHONE},
            "dead",
            "ValidationException CANNOT_PARSE",
        ),
        (500, {}, "pending", "an unknown error of AWS"),
    ],
)
def test_errors_are_told_by_their_codes(
    relay: Relay, aws: OptOutLists, status: int, fault: dict[str, str], state: str, error: str
) -> None:
    aws.fault = (status, fault)
    add(relay)
    relay.deliver_due()
    [letter] = letters(relay)
    assert (letter.state, letter.last_error) == (state, error)


def test_an_endpoint_of_nonsense_is_a_failed_attempt(relay: Relay, platform: Any) -> None:
    platform.answer = lambda _: (200, {}, b"<html>")
    add(relay)
    relay.deliver_due()
    assert letters(relay)[0].last_error == "the answer is none of AWS's"


def test_the_list_is_read_to_its_end(platform: Any, aws: OptOutLists) -> None:
    aws.numbers = {f"+861380000{n:04}": n == 3 for n in range(250)}

    async def read() -> list[Any]:
        adapter = Aws(target(platform))
        try:
            return await adapter.listed()
        finally:
            await adapter.close()

    found = asyncio.run(read())
    assert [number.phone for number in found] == list(aws.numbers)
    assert [number.phone[-4:] for number in found if "opted out at AWS" in number.note] == ["0003"]
    aws.fault = (400, {"__type": "AccessDeniedException", "message": "no"})
    with pytest.raises(TargetFault, match="AWS answered AccessDeniedException"):
        asyncio.run(read())
    platform.answer = lambda _: (200, {}, b"<html>")
    with pytest.raises(TargetFault, match="none of AWS's"):
        asyncio.run(read())


def test_missing_credentials_are_refused(platform: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    with pytest.raises(TargetFault, match="finds no AWS credentials"):
        Aws(target(platform))


def test_without_boto3_the_extra_is_named(platform: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(TargetFault, match=r"tingxin\[aws\]"):
        Aws(target(platform))
