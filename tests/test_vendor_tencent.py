"""Tencent's callback is one object without a message id; whatever else comes is named, never a crash."""

import contextlib
import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.events import Callback, MalformedCallback, Parsed
from serving.vendors import tencent

AT = datetime(2026, 9, 1, 3, tzinfo=UTC)
DOCUMENTED = {
    "extend": "扩展码",
    "mobile": "13800001001",
    "nationcode": "86",
    "sign": "短信签名",
    "text": "用户回复",
    "time": 1457336869,
}


def posted(body: bytes) -> Callback:
    return Callback("POST", "https://us.example/v1/inbound/tencent", {}, body, AT)


def parse(document: object) -> Parsed:
    return tencent.parse(posted(json.dumps(document).encode()))


def test_the_documented_form() -> None:
    [reply] = parse(DOCUMENTED).replies
    assert (reply.phone, reply.text, reply.to) == ("+8613800001001", "用户回复", "扩展码")
    assert (reply.id, reply.signature) == ("", "短信签名")
    assert reply.vendor_time == datetime.fromtimestamp(1457336869, UTC)


def test_a_foreign_number_takes_its_country_from_nationcode() -> None:
    [reply] = parse(DOCUMENTED | {"nationcode": "852", "mobile": "61234567"}).replies
    assert reply.phone == "+85261234567"


@pytest.mark.parametrize("time", [None, "", "soon", True, 10**30, float("nan"), -1])
def test_an_opt_out_does_not_wait_for_a_readable_time(time: object) -> None:
    [reply] = parse(DOCUMENTED | {"time": time}).replies
    assert reply.vendor_time is None


def test_a_faulty_field_is_named_without_its_content() -> None:
    [fault] = parse(DOCUMENTED | {"mobile": "1381111****"}).faults
    assert fault.why == "mobile is not a phone number; write 13800001001 or +8613800001001"


def test_the_answer_is_what_tencent_asks_for() -> None:
    answer = tencent.answer(posted(b"{}"))
    assert json.loads(answer.body) == {"result": 0, "errmsg": "OK"}


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
entries = st.fixed_dictionaries({}, optional=dict.fromkeys(DOCUMENTED, anything))


@given(entries | anything)
def test_any_document_is_read_or_its_fault_named(document: object) -> None:
    with contextlib.suppress(MalformedCallback):
        parsed = parse(document)
        count = len(document) if isinstance(document, list) else 1
        assert len(parsed.replies) + len(parsed.faults) == count
