"""Aliyun SmsUp: replies posted as a JSON array.

    [{"phone_number": "13800001001", "content": "退订", "send_time": "2026-09-01 10:00:00",
      "dest_code": "1234", "sequence_id": "1234567890", "sign_name": "某某"}]

Source: https://help.aliyun.com/zh/sms/developer-reference/smsup-http. `sequence_id` is a string in the
new documentation and a number in the old; `sign_name` stands in the old only; `send_time` names no zone
and is taken as China's. Aliyun reads only whether `code` of the answer is a number, and sends again after
1, 5 and 10 minutes unless the status is 200, then never: it must not get a 200 for what is not recorded.
Aliyun signs nothing: an API key in the callback's path or query is the protection.
"""

from datetime import datetime
from typing import Any

from model.policy import CHINA
from serving.events import Answer, Callback, InboundReply, MalformedCallback, Parsed
from serving.vendors import entry as read

proves, lacks, takes_get = False, "", False


def verify(callback: Callback) -> None:
    """Accept: there is nothing to verify."""


def parse(callback: Callback) -> Parsed:
    """Return the replies of a callback array.

    >>> from datetime import UTC
    >>> body = '[{"phone_number": "13800001001", "content": "T", "sequence_id": 7, "dest_code": "1"}, {}]'
    >>> parse(Callback("POST", "", {}, body.encode(), datetime(2026, 1, 1, tzinfo=UTC)))
    Parsed(replies=(InboundReply(vendor='aliyun', id='7'),), faults=(Fault(position=1, why='phone_number is no text'),))
    """
    entries = read.document(callback.body)
    if not isinstance(entries, list):
        raise MalformedCallback("the body is no JSON array")
    return read.parsed(entries, lambda entry: _reply(entry, callback.received_at))


def answer(callback: Callback) -> Answer:
    return Answer('{"code":0,"msg":"接收成功"}'.encode(), "application/json")


def _reply(entry: dict[str, Any], received_at: datetime) -> InboundReply:
    return InboundReply(
        vendor="aliyun",
        id=read.text(entry, "sequence_id", read.LONGEST_ID, ""),
        phone=read.phone(entry, "phone_number"),
        text=read.text(entry, "content"),
        received_at=received_at,
        vendor_time=_time(entry.get("send_time")),
        to=read.text(entry, "dest_code", read.LONGEST_NAME, ""),
        signature=read.text(entry, "sign_name", read.LONGEST_NAME, ""),
    )


def _time(value: Any) -> datetime | None:
    """Return the vendor's time; None where it cannot be read: a person's 退订 does not wait for a date."""
    try:
        return datetime.strptime(value, "%Y-%m-%d %H:%M:%S").replace(tzinfo=CHINA)
    except (TypeError, ValueError):
        return None
