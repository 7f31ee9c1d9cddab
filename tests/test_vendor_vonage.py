"""Vonage calls by GET, form or JSON, signs by five methods, and sends long messages in parts."""

import contextlib
import json
from datetime import UTC, datetime
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from serving.events import Callback, MalformedCallback, Part, Unproven
from serving.vendors.vonage import Vonage, signature

AT = datetime(2026, 9, 1, 3, tzinfo=UTC)
URL = "https://us.example/v1/inbound/vonage"
MESSAGE = {
    "msisdn": "8613800001001",
    "to": "106900001",
    "messageId": "0A0000000123ABCD1",
    "text": "别再发了 a=1&b",
    "type": "unicode",
    "keyword": "别再发了",
    "message-timestamp": "2026-09-01 02:00:00",
    "timestamp": "1788228000",
    "nonce": "757b8d1c",
}
VONAGE = Vonage(SecretStr("old,secret"), "sha256")


def as_get(fields: dict[str, str]) -> Callback:
    return Callback("GET", f"{URL}?{urlencode(fields)}", {}, b"", AT)


def as_form(fields: dict[str, str]) -> Callback:
    headers = {"content-type": "application/x-www-form-urlencoded"}
    return Callback("POST", URL, headers, urlencode(fields).encode(), AT)


def as_json(fields: dict[str, str]) -> Callback:
    headers = {"content-type": "application/json; charset=utf-8"}
    return Callback("POST", URL, headers, json.dumps(fields).encode(), AT)


WAYS = pytest.mark.parametrize("way", [as_get, as_form, as_json])


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("md5hash", "6af838ef94998832dbfc29020b564830"),
        ("md5", "c15c21ced558c93a226c305f58f902f2"),
        ("sha1", "3e19a4e6880fdc2c1426bfd0587c98b9532f0210"),
        ("sha256", "a321e824b9b816be7c3f28859a31749a098713d39f613c80d455bbaffae1cd24"),
        (
            "sha512",
            "812a18f76680fa0fe1b8bd9ee1625466ceb1bd96242e4d050d2cfd9a7b40166c"
            "63ed26ec9702168781b6edcf1633db8ff95af9341701004eec3fcf9550572ee8",
        ),
    ],
)
def test_the_vectors_of_vonages_own_libraries(method: str, expected: str) -> None:
    fields = {"a": "1", "b": "2", "timestamp": "1461605396"}
    assert signature(fields, "secret", method) == expected


@WAYS
def test_each_way_is_read_and_proven(way) -> None:
    callback = way(MESSAGE | {"sig": signature(MESSAGE, "secret", "sha256").upper()})
    VONAGE.verify(callback)
    [reply] = VONAGE.parse(callback).replies
    assert (reply.id, reply.phone, reply.to) == (
        MESSAGE["messageId"],
        "+8613800001001",
        "106900001",
    )
    assert (reply.text, reply.part) == ("别再发了 a=1&b", None)
    assert reply.vendor_time == datetime(2026, 9, 1, 2, tzinfo=UTC)


def test_json_numbers_are_signed_as_they_are_written() -> None:
    fields = MESSAGE | {"concat-part": "1", "concat": "true"}
    mark = signature(fields, "secret", "sha256")
    written = json.dumps(fields | {"sig": mark}).replace('"concat-part": "1"', '"concat-part": 1')
    written = written.replace('"concat": "true"', '"concat": true')
    headers = {"content-type": "application/json"}
    VONAGE.verify(Callback("POST", URL, headers, written.encode(), AT))


@WAYS
@pytest.mark.parametrize(
    "change", [{"sig": ""}, {"sig": "0" * 64}, {"sig": "签"}, {"text": "START"}, {"more": "1"}]
)
def test_whatever_differs_from_what_was_signed_is_refused(way, change: dict[str, str]) -> None:
    signed = MESSAGE | {"sig": signature(MESSAGE, "secret", "sha256")}
    with pytest.raises(Unproven):
        VONAGE.verify(way(signed | change))


def test_a_signature_of_another_method_is_refused() -> None:
    weaker = MESSAGE | {"sig": signature(MESSAGE, "secret", "md5hash")}
    with pytest.raises(Unproven):
        VONAGE.verify(as_form(weaker))


def test_without_a_secret_it_proves_nothing() -> None:
    assert not Vonage().proves


def parted(ref: str, number: object, total: object) -> dict[str, str]:
    fields = {"concat-ref": ref, "concat-part": number, "concat-total": total}
    return MESSAGE | {"concat": "true"} | {name: str(value) for name, value in fields.items()}


def test_a_part_says_which_it_is() -> None:
    [reply] = VONAGE.parse(as_json(parted("7", 2, 3))).replies
    assert reply.part == Part("7", 2, 3)


@pytest.mark.parametrize(
    ("number", "total"), [(0, 2), (3, 2), (1, 1), (1, 21), ("x", 2), (1, "9" * 9), ("", "")]
)
def test_parts_that_make_no_sense_are_read_as_they_are(number: object, total: object) -> None:
    [reply] = VONAGE.parse(as_json(parted("7", number, total))).replies
    assert reply.part is None


def test_a_binary_message_has_no_text() -> None:
    fields = {name: value for name, value in MESSAGE.items() if name != "text"}
    [reply] = VONAGE.parse(as_json(fields | {"type": "binary", "data": "0A"})).replies
    assert reply.text == ""
    [fault] = VONAGE.parse(as_json(fields)).faults
    assert fault.why == "text is no text"


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
names = [*MESSAGE, "sig", "concat", "concat-ref", "concat-part", "concat-total"]
documents = st.fixed_dictionaries({}, optional=dict.fromkeys(names, anything)) | anything


@given(documents)
def test_any_json_is_read_or_its_fault_named_and_none_is_proven(document: object) -> None:
    headers = {"content-type": "application/json"}
    callback = Callback("POST", URL, headers, json.dumps(document).encode(), AT)
    with contextlib.suppress(MalformedCallback):
        parsed = VONAGE.parse(callback)
        assert len(parsed.replies) + len(parsed.faults) == 1
    with pytest.raises((Unproven, MalformedCallback)):
        VONAGE.verify(callback)


@given(st.dictionaries(st.sampled_from(names), st.text()))
def test_any_query_is_read_or_its_fault_named(fields: dict[str, str]) -> None:
    query = urlencode(fields, errors="surrogatepass")
    parsed = VONAGE.parse(Callback("GET", f"{URL}?{query}", {}, b"", AT))
    assert len(parsed.replies) + len(parsed.faults) == 1
