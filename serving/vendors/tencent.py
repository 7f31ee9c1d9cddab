"""Tencent Cloud SMS: one reply posted as a JSON object.

    {"extend": "扩展码", "mobile": "13800001001", "nationcode": "86", "sign": "某某", "text": "退订",
     "time": 1457336869}

Source: https://tencentcloud.com/document/api/382/43548. `time` is in Unix seconds; `extend` may be empty.
There is no message id: one is derived from number, code, signature, time and text. Tencent signs nothing:
an API key in the callback's path or query is the protection. How often it sends again is not documented.
"""

from datetime import UTC, datetime
from typing import Any

from serving.events import Answer, Callback, InboundReply, MalformedCallback, Parsed
from serving.vendors import entry as read

proves, lacks, takes_get = False, "", False


def verify(callback: Callback) -> None:
    """Accept: there is nothing to verify."""


def parse(callback: Callback) -> Parsed:
    """Return the reply of a callback.

    >>> body = '{"mobile": "13800001001", "nationcode": "86", "text": "T", "time": 1457336869}'
    >>> parse(Callback("POST", "", {}, body.encode(), datetime(2026, 1, 1, tzinfo=UTC)))
    Parsed(replies=(InboundReply(vendor='tencent', id=''),), faults=())
    """
    document = read.document(callback.body)
    if not isinstance(document, dict | list):
        raise MalformedCallback("the body is no JSON object")
    entries = document if isinstance(document, list) else [document]
    return read.parsed(entries, lambda entry: _reply(entry, callback.received_at))


def answer(callback: Callback) -> Answer:
    return Answer(b'{"result":0,"errmsg":"OK"}', "application/json")


def _reply(entry: dict[str, Any], received_at: datetime) -> InboundReply:
    country = read.text(entry, "nationcode", 8, "86") or "86"
    return InboundReply(
        vendor="tencent",
        id="",
        phone=read.phone(entry, "mobile", "+" + country.removeprefix("+")),
        text=read.text(entry, "text"),
        received_at=received_at,
        vendor_time=_time(entry.get("time")),
        to=read.text(entry, "extend", read.LONGEST_NAME, ""),
        signature=read.text(entry, "sign", read.LONGEST_NAME, ""),
    )


def _time(value: Any) -> datetime | None:
    """Return the vendor's time; None where it cannot be read: a person's 退订 does not wait for a date."""
    try:
        return datetime.fromtimestamp(int(value), UTC)
    except (TypeError, ValueError, OverflowError, OSError):
        return None
