"""Infobip's messages come several at a time, behind a user and a password."""

import base64
import contextlib
import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from serving.events import Callback, MalformedCallback, Parsed, Unproven
from serving.vendors.infobip import Infobip

AT = datetime(2026, 9, 1, 3, tzinfo=UTC)
URL = "https://us.example/v1/inbound/infobip"
INFOBIP = Infobip(SecretStr("user:pass:word"))
RESULT = {
    "messageId": "817790313235066447",
    "from": "8613800001001",
    "to": "106900001",
    "text": "QUIZ 退订",
    "cleanText": "退订",
    "keyword": "QUIZ",
    "receivedAt": "2026-09-01T02:00:00.000+0000",
    "smsCount": 1,
    "price": {"pricePerMessage": 0, "currency": "EUR"},
    "callbackData": "data",
}


def posted(document: object, authorization: str = "") -> Callback:
    headers = {"authorization": authorization}
    return Callback("POST", URL, headers, json.dumps(document).encode(), AT)


def parse(document: object) -> Parsed:
    return INFOBIP.parse(posted(document))


def basic(pair: str) -> str:
    return "Basic " + base64.b64encode(pair.encode()).decode()


def test_the_documented_form() -> None:
    document = {"results": [RESULT], "messageCount": 1, "pendingMessageCount": 0}
    [reply] = parse(document).replies
    assert (reply.id, reply.phone, reply.to) == (RESULT["messageId"], "+8613800001001", "106900001")
    assert reply.text == "QUIZ 退订"  # cleanText lacks what the person wrote
    assert reply.vendor_time == datetime(2026, 9, 1, 2, tzinfo=UTC)


def test_a_faulty_message_sinks_nobody() -> None:
    parsed = parse({"results": [RESULT, RESULT | {"from": "InfoSMS"}, None]})
    assert len(parsed.replies) == 1
    assert [fault.position for fault in parsed.faults] == [1, 2]
    assert "InfoSMS" not in parsed.faults[0].why


@pytest.mark.parametrize("document", [{}, [], {"results": None}, "x"])
def test_what_has_no_results_is_malformed(document: object) -> None:
    with pytest.raises(MalformedCallback):
        parse(document)


def test_the_right_pair_opens() -> None:
    INFOBIP.verify(posted({}, basic("user:pass:word")))


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        basic("user:wrong"),
        basic(""),
        "Basic ???",
        "Basic 密码",
        "Bearer " + basic("user:pass:word"),
    ],
)
def test_any_other_is_refused_with_the_scheme_named(authorization: str) -> None:
    with pytest.raises(Unproven) as refused:
        INFOBIP.verify(posted({}, authorization))
    assert refused.value.challenge == "Basic"
    assert "pass" not in str(refused.value).replace("password", "")


def test_without_a_pair_it_proves_nothing() -> None:
    assert not Infobip().proves


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
results = st.lists(st.fixed_dictionaries({}, optional=dict.fromkeys(RESULT, anything)) | anything)


@given(results)
def test_any_results_are_read_or_their_faults_named(entries: list[object]) -> None:
    parsed = parse({"results": entries})
    assert len(parsed.replies) + len(parsed.faults) == len(entries)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_malformed(body: bytes) -> None:
    with contextlib.suppress(MalformedCallback):
        INFOBIP.parse(Callback("POST", URL, {}, body, AT))
