"""Aliyun SmsUp: replies posted as a JSON array.

    [{"phone_number": "13800001001", "content": "退订", "send_time": "2026-09-01 10:00:00",
      "dest_code": "1234", "sequence_id": "1234567890", "sign_name": "某某"}]

Source: https://help.aliyun.com/zh/sms/developer-reference/smsup-http. `sequence_id` is a string in the
new documentation and a number in the old; `sign_name` stands in the old only; `send_time` names no zone
and is taken as China's. Aliyun reads only whether `code` of the answer is a number, and sends again after
1, 5 and 10 minutes unless the status is 200, then never: it must not get a 200 for what is not recorded.
"""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from model.policy import CHINA
from serving.events import Fault, InboundReply, MalformedCallback, Parsed
from serving.phones import PhoneError, e164

LONGEST_ID = 100


def verify(headers: Mapping[str, str], body: bytes) -> None:
    """Accept: Aliyun signs nothing. The API key in the callback's path or query is the protection."""


def parse(body: bytes, received_at: datetime) -> Parsed:
    """Return the replies of a callback array; a faulty entry does not sink its neighbours.

    >>> from datetime import UTC
    >>> entry = {"phone_number": "13800001001", "content": "T", "sequence_id": 7, "dest_code": "1"}
    >>> parse(json.dumps([entry, {}]).encode(), datetime(2026, 1, 1, tzinfo=UTC))
    Parsed(replies=(InboundReply(vendor='aliyun', id='7'),), faults=(Fault(position=1, why='phone_number is no text'),))
    """
    try:
        entries = json.loads(body)
    except (ValueError, RecursionError):
        raise MalformedCallback("the body is no JSON") from None
    if not isinstance(entries, list):
        raise MalformedCallback("the body is no JSON array")
    replies, faults = [], []
    for position, entry in enumerate(entries):
        try:
            replies.append(_reply(entry, received_at))
        except MalformedCallback as fault:
            faults.append(Fault(position, str(fault)))
    return Parsed(tuple(replies), tuple(faults))


def answer() -> bytes:
    return '{"code":0,"msg":"接收成功"}'.encode()


def _reply(entry: Any, received_at: datetime) -> InboundReply:
    if not isinstance(entry, dict):
        raise MalformedCallback("the entry is no JSON object")
    try:
        phone = e164(_text(entry, "phone_number", 40))
    except PhoneError as fault:
        raise MalformedCallback(f"phone_number is {fault}") from None
    return InboundReply(
        vendor="aliyun",
        id=_id(entry.get("sequence_id")),
        phone=phone,
        text=_text(entry, "content"),
        received_at=received_at,
        vendor_time=_time(entry.get("send_time")),
        to=_text(entry, "dest_code", 100, ""),
        signature=_text(entry, "sign_name", 100, ""),
    )


def _text(
    entry: dict[str, Any], name: str, longest: int = 2**31, default: str | None = None
) -> str:
    value = entry.get(name)
    if isinstance(value, int) and not isinstance(value, bool):
        try:
            value = str(value)  # some gateways on the way write digits as a number
        except ValueError:  # thousands of digits
            raise MalformedCallback(f"{name} is longer than {longest} characters") from None
    if value is None and default is not None:
        return default
    if not isinstance(value, str):
        raise MalformedCallback(f"{name} is no text")
    if len(value) > longest:
        raise MalformedCallback(f"{name} is longer than {longest} characters")
    return value


def _id(value: Any) -> str:
    """Return the message id, or "" where there is none: one is derived then."""
    return _text({"sequence_id": value}, "sequence_id", LONGEST_ID, "")


def _time(value: Any) -> datetime | None:
    """Return the vendor's time; None where it cannot be read: a person's 退订 does not wait for a date."""
    try:
        return datetime.strptime(value, "%Y-%m-%d %H:%M:%S").replace(tzinfo=CHINA)
    except (TypeError, ValueError):
        return None
