"""One entry of a callback: its texts, its number, its time, read alike for every vendor."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

from serving.events import Fault, InboundReply, MalformedCallback, Parsed
from serving.phones import PhoneError, e164

LONGEST_ID = 100
LONGEST_NUMBER = 40
LONGEST_NAME = 100
_MOST_FIELDS = 1000


def document(body: bytes) -> Any:
    """Return the JSON of a body; raise MalformedCallback."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise MalformedCallback("the body is no JSON") from None


def form(query: bytes | str) -> list[tuple[str, str]]:
    """Return the fields of a form body or a query, in UTF-8, empty ones included; raise MalformedCallback.

    >>> form(b"body=%E9%80%80%E8%AE%A2&to=")
    [('body', '退订'), ('to', '')]
    """
    text = query if isinstance(query, str) else query.decode("utf-8", "replace")
    try:
        return parse_qsl(text, keep_blank_values=True, max_num_fields=_MOST_FIELDS)
    except ValueError:
        raise MalformedCallback(f"the form has more than {_MOST_FIELDS} fields") from None


def text(entry: dict[str, Any], name: str, longest: int = 2**31, default: str | None = None) -> str:
    """Return a field's text; raise MalformedCallback if it is none, or is missing without a default."""
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


def phone(entry: dict[str, Any], name: str, country: str = "") -> str:
    """Return a field's number in E.164; `country`, as "+" or "+86", is put before one that names none."""
    number = text(entry, name, LONGEST_NUMBER).strip().removeprefix("whatsapp:")
    try:
        return e164(number if number.startswith(("+", "00")) else country + number)
    except PhoneError as fault:
        raise MalformedCallback(f"{name} is {fault}") from None


def moment(value: Any) -> datetime | None:
    """Return an ISO 8601 time, in UTC where it names no zone; None where it cannot be read.

    >>> moment("2026-09-01T10:00:00.000+0000"), moment("yesterday")
    (datetime.datetime(2026, 9, 1, 10, 0, tzinfo=datetime.timezone.utc), None)
    """
    try:
        read = datetime.fromisoformat(value)
    except (TypeError, ValueError):  # a person's 退订 does not wait for a date
        return None
    return read if read.tzinfo else read.replace(tzinfo=UTC)


def parsed(entries: list[Any], read: Callable[[dict[str, Any]], InboundReply]) -> Parsed:
    """Return the replies of a callback's entries; a faulty one is named and does not sink its neighbours."""
    replies, faults = [], []
    for position, entry in enumerate(entries):
        try:
            if not isinstance(entry, dict):
                raise MalformedCallback("the entry is no JSON object")
            replies.append(read(entry))
        except MalformedCallback as fault:
            faults.append(Fault(position, str(fault)))
    return Parsed(tuple(replies), tuple(faults))
