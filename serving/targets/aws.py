"""AWS End User Messaging: PutOptedOutNumber, DeleteOptedOutNumber, DescribeOptedOutNumbers.

Source: docs.aws.amazon.com, API pinpoint-sms-voice-v2 of 2022-03-31. One number a call. A number can be
deleted once in 30 days; a deletion that AWS does not allow is a dead letter that says so.
"""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from serving.targets import DELIVERED, Listed, Message, Outcome, TargetFault
from serving.targets.answers import code
from serving.targets.config import AwsTarget

if TYPE_CHECKING:
    from botocore.exceptions import ClientError
    from mypy_boto3_pinpoint_sms_voice_v2 import PinpointSMSVoiceV2Client

PAGE = 100
NOT_DELETED = "AWS 不允许删除(30 天内限一次)/ AWS lets a number be deleted once in 30 days"


class Aws:
    """The adapter of one opt-out list."""

    per_call = 1
    mirrors_numbers = True

    def __init__(self, target: AwsTarget) -> None:
        try:
            import boto3
            from botocore.config import Config
        except ImportError:
            raise TargetFault(
                f"target {target.name!r} needs boto3: pip install 'tingxin[aws]'"
            ) from None
        session = boto3.Session(region_name=target.region)
        if session.get_credentials() is None:
            raise TargetFault(
                f"target {target.name!r} finds no AWS credentials; set AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY, a profile, or a role"
            )
        self._list = target.opt_out_list
        self._aws: PinpointSMSVoiceV2Client = session.client(
            "pinpoint-sms-voice-v2",
            endpoint_url=target.endpoint,
            # The outbox retries, and a call stays within the relay's time for it.
            config=Config(connect_timeout=3, read_timeout=6, retries={"total_max_attempts": 1}),
        )

    async def send(self, messages: Sequence[Message]) -> list[Outcome]:
        [message] = messages
        return [await asyncio.to_thread(self._send, message)]

    async def listed(self) -> list[Listed]:
        return await asyncio.to_thread(self._listed)

    def holds(self, phone: str) -> bool:
        return True

    async def close(self) -> None:
        self._aws.close()

    def _send(self, message: Message) -> Outcome:
        from botocore.exceptions import ClientError

        one = {"OptOutListName": self._list, "OptedOutNumber": message.phone}
        try:
            if message.blocked:
                named = self._aws.put_opted_out_number(**one).get("OptedOutNumber")
            else:
                named = self._aws.delete_opted_out_number(**one).get("OptedOutNumber")
        except ClientError as error:
            return _outcome(error, message.blocked)
        # boto3 takes any 200 for an answer, a proxy's log-in page too.
        return DELIVERED if named else Outcome("failed", "the answer is none of AWS's")

    def _listed(self) -> list[Listed]:
        from botocore.exceptions import BotoCoreError, ClientError

        pages = self._aws.get_paginator("describe_opted_out_numbers").paginate(
            OptOutListName=self._list, PaginationConfig={"PageSize": PAGE}
        )
        try:
            return [
                Listed(
                    number["OptedOutNumber"],
                    "由本人在 AWS 退订 / the person opted out at AWS"
                    if number.get("EndUserOptedOut")
                    else "",
                )
                for page in pages
                for number in page["OptedOutNumbers"]
            ]
        except KeyError:
            raise TargetFault("the answer is none of AWS's") from None
        except ClientError as error:
            raise TargetFault(f"AWS answered {code(error.response['Error']['Code'])}") from None
        except BotoCoreError as error:
            raise TargetFault(f"AWS cannot be read: {type(error).__name__}") from None


def _outcome(error: "ClientError", blocked: bool) -> Outcome:
    """Return what an error of AWS means. Its message is not kept: it may quote the number."""
    response: dict[str, object] = {**error.response}
    what = code(error.response["Error"]["Code"])
    if what == "ResourceNotFoundException" and not blocked:
        if response.get("ResourceType") == "opted-out-number":
            return DELIVERED  # it is not there, which is what was wanted
    elif what == "ConflictException" and not blocked:
        return Outcome("dead", NOT_DELETED)
    elif what == "ValidationException":
        reason = code(response.get("Reason"))
        if reason == "PHONE_NUMBER_CANNOT_BE_OPTED_IN":
            return Outcome("dead", NOT_DELETED)
        return Outcome("refused", f"{what} {reason}".strip())
    # Throttling, missing rights, a list that is not there: an operator or time may mend it.
    return Outcome("failed", what or "an unknown error of AWS")
