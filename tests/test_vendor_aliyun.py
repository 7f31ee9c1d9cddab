"""Aliyun's callbacks are read in both documented forms; whatever else comes is named, never a crash."""

import contextlib
import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.events import Callback, InboundReply, MalformedCallback, Parsed
from serving.vendors import aliyun

AT = datetime(2026, 9, 1, 3, tzinfo=UTC)
NEW = {
    "phone_number": "13800001001",
    "content": "退订",
    "send_time": "2026-09-01 10:00:00",
    "dest_code": "1234",
    "sequence_id": "1234567890",
}


def posted(body: bytes) -> Callback:
    return Callback("POST", "https://us.example/v1/inbound/aliyun", {}, body, AT)


def parse(document: object) -> Parsed:
    return aliyun.parse(posted(json.dumps(document).encode()))


def test_the_new_documentations_form() -> None:
    [reply] = parse([NEW]).replies
    assert (reply.phone, reply.text, reply.id, reply.to) == (
        "+8613800001001",
        "退订",
        "1234567890",
        "1234",
    )
    assert reply.vendor_time == datetime(2026, 9, 1, 2, tzinfo=UTC)
    assert reply.signature == ""


def test_the_old_documentations_form() -> None:
    [reply] = parse([NEW | {"sequence_id": 1234567890, "sign_name": "某某"}]).replies
    assert (reply.id, reply.signature) == ("1234567890", "某某")


@pytest.mark.parametrize("body", [b"", b"{", b"{}", b"null", b"\xff", b"[" * 100_000])
def test_what_is_no_array_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedCallback):
        aliyun.parse(posted(body))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"phone_number": "1381111****"}, "phone_number is not a phone number"),
        ({"phone_number": None}, "phone_number is no text"),
        ({"content": None}, "content is no text"),
        ({"sequence_id": ["7"]}, "sequence_id is no text"),
        ({"sequence_id": "7" * 101}, "sequence_id is longer than 100"),
    ],
)
def test_a_faulty_entry_is_named_and_sinks_nobody(change: dict[str, object], why: str) -> None:
    parsed = parse([NEW, NEW | change])
    assert len(parsed.replies) == 1
    [fault] = parsed.faults
    assert fault.position == 1
    assert why in fault.why


@pytest.mark.parametrize(
    "time", [None, "", "yesterday", 0, "0001-01-01 00:00:00", "2026-13-01 00:00:00"]
)
def test_an_opt_out_does_not_wait_for_a_readable_time(time: object) -> None:
    [reply] = parse([NEW | {"send_time": time}]).replies
    assert reply.vendor_time is None


def test_the_answer_is_what_aliyun_asks_for() -> None:
    answer = aliyun.answer(posted(b"[]"))
    assert answer.media_type == "application/json"
    assert json.loads(answer.body) == {"code": 0, "msg": "接收成功"}


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
entries = st.fixed_dictionaries({}, optional=dict.fromkeys([*NEW, "sign_name"], anything))


@given(st.lists(entries | anything, max_size=5))
def test_any_array_is_read_or_its_faults_named(document: list[object]) -> None:
    parsed = parse(document)
    assert len(parsed.replies) + len(parsed.faults) == len(document)
    assert all(isinstance(reply, InboundReply) for reply in parsed.replies)
    assert [f.position for f in parsed.faults] == sorted({f.position for f in parsed.faults})


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_malformed(body: bytes) -> None:
    with contextlib.suppress(MalformedCallback):
        aliyun.parse(posted(body))
