"""The generic form: phone and text suffice; a faulty entry is named and sinks nobody."""

import json
from datetime import UTC, datetime

import pytest

from serving.events import Callback, MalformedCallback, Parsed
from serving.vendors import generic

AT = datetime(2026, 9, 1, 3, tzinfo=UTC)


def posted(body: bytes) -> Callback:
    return Callback("POST", "https://us.example/v1/inbound/generic", {}, body, AT)


def parse(document: object) -> Parsed:
    return generic.parse(posted(json.dumps(document).encode()))


def test_an_object_is_a_list_of_one() -> None:
    entry = {"phone": 13800001001, "text": "退订", "time": "2026-09-01T10:00:00+08:00", "more": 1}
    [reply] = parse(entry).replies
    assert (reply.phone, reply.text, reply.id) == ("+8613800001001", "退订", "")
    assert reply.vendor_time == datetime(2026, 9, 1, 2, tzinfo=UTC)
    assert reply.received_at == AT


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ({"text": "退订"}, "phone: Field required"),
        ({"phone": "10086", "text": "退订"}, "phone is not a phone number"),
        ({"phone": "13800001001", "text": None}, "text: "),
        ({"phone": "13800001001", "text": "T", "time": "2026-09-01T10:00:00"}, "time: "),
        ("退订", "entry: "),
    ],
)
def test_a_faulty_entry_is_named_without_its_content(entry: object, why: str) -> None:
    parsed = parse([{"phone": "13800001001", "text": "T"}, entry])
    assert len(parsed.replies) == 1
    [fault] = parsed.faults
    assert (fault.position, fault.why.startswith(why)) == (1, True)
    assert "退订" not in fault.why


def test_what_is_no_json_is_malformed() -> None:
    with pytest.raises(MalformedCallback):
        generic.parse(posted(b"<xml>"))
