"""Huawei's signature is checked as its signing guide computes it, over the body, and only while it is fresh."""

import contextlib
from datetime import UTC, datetime, timedelta
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from serving.events import Callback, MalformedCallback, Unproven
from serving.vendors.huawei import Huawei, signature

AT = datetime(2026, 9, 1, 3, tzinfo=UTC)
URL = "https://us.example/v1/inbound/huawei"
DOCUMENTED = b"from=%2B8613800001001&to=201804131431201234&body=T&smsMsgId=9692b5be-c427-4525-8e73-cf4a6ac5b3f7"
HUAWEI = Huawei(SecretStr("ak-1:sk-1,ak-2:sk-2"))


def signed(body: bytes = DOCUMENTED, ak: str = "ak-1", sk: str = "sk-1", **change: str) -> Callback:
    """Return a callback signed as Huawei signs; `change` overwrites headers before that."""
    headers = {"x-sdk-date": "20260901T030000Z", "host": "us.example"} | change
    names = ["host", "x-sdk-date"]
    unsigned = Callback("POST", URL, headers, body, AT)
    mark = signature(unsigned, names, sk)
    authorization = (
        f"SDK-HMAC-SHA256 Access={ak}, SignedHeaders={';'.join(names)}, Signature={mark}"
    )
    return Callback("POST", URL, headers | {"authorization": authorization}, body, AT)


def test_the_example_of_huaweis_signing_guide() -> None:
    url = (
        "https://service.region.example.com/v1/77b6a44cba5143ab91d13ab9a8ff44fd/vpcs"
        "?limit=2&marker=13551d6b-755d-4757-b956-536f674975c0"
    )
    headers = {"content-type": "application/json", "x-sdk-date": "20191115T033655Z"}
    names = ["content-type", "host", "x-sdk-date"]
    found = signature(
        Callback("GET", url, headers, b"", AT), names, "MFyfvK41ba2giqM7Uio6PznpdUKGpownRZlmVmHc"
    )
    assert found == "7be6668032f70418fcc22abc52071e57aff61b84a1d2381bb430d6870f4f6ebe"


def test_either_key_opens() -> None:
    HUAWEI.verify(signed())
    HUAWEI.verify(signed(ak="ak-2", sk="sk-2"))


@pytest.mark.parametrize(
    ("callback", "why"),
    [
        (signed(sk="sk-2"), "the signature is wrong"),
        (signed(ak="ak-3"), "Access names an AK"),
        (Callback("POST", URL, {}, DOCUMENTED, AT), "no Authorization"),
        (Callback("POST", URL, signed().headers, DOCUMENTED + b"&body=START", AT), "the signature"),
        (Callback("POST", URL + "/x", signed().headers, DOCUMENTED, AT), "the signature is wrong"),
        (signed(**{"x-sdk-date": "20260901T020000Z"}), "15 minutes"),
        (signed(**{"x-sdk-date": "now"}), "15 minutes"),
    ],
)
def test_a_callback_that_proves_nothing_is_refused(callback: Callback, why: str) -> None:
    with pytest.raises(Unproven, match=why):
        HUAWEI.verify(callback)


def test_a_header_that_declares_the_body_unsigned_changes_nothing() -> None:
    callback = signed(**{"x-sdk-content-sha256": "UNSIGNED-PAYLOAD"})
    forged = Callback("POST", URL, callback.headers, DOCUMENTED.replace(b"=T", b"=START"), AT)
    with pytest.raises(Unproven):
        HUAWEI.verify(forged)


def test_a_replay_grows_stale() -> None:
    callback = signed()
    late = Callback("POST", URL, callback.headers, callback.body, AT + timedelta(minutes=16))
    with pytest.raises(Unproven, match="15 minutes"):
        HUAWEI.verify(late)


def test_without_keys_it_proves_nothing() -> None:
    assert not Huawei().proves


def test_the_documented_form() -> None:
    [reply] = HUAWEI.parse(signed(DOCUMENTED + b"&createTime=2018-02-12T15:30:20Z")).replies
    assert (reply.phone, reply.text, reply.to) == ("+8613800001001", "T", "201804131431201234")
    assert reply.id == "9692b5be-c427-4525-8e73-cf4a6ac5b3f7"
    assert reply.vendor_time == datetime(2018, 2, 12, 15, 30, 20, tzinfo=UTC)


@pytest.mark.parametrize(
    "body",
    [quote("退订"), "退订", quote("退订".encode().decode("iso-8859-1"))],
    ids=["percent-encoded", "raw", "read as ISO-8859-1 on the way"],
)
def test_chinese_comes_through(body: str) -> None:
    form = f"from=%2B8613800001001&to=1&body={body}".encode()
    [reply] = HUAWEI.parse(signed(form)).replies
    assert reply.text == "退订"


def test_the_answer_is_empty() -> None:
    assert HUAWEI.answer(signed()).body == b""


@given(
    st.dictionaries(st.sampled_from(["from", "to", "body", "smsMsgId", "createTime"]), st.text())
)
def test_any_form_is_read_or_its_fault_named(fields: dict[str, str]) -> None:
    body = urlencode(fields, errors="surrogatepass").encode()
    parsed = HUAWEI.parse(Callback("POST", URL, {}, body, AT))
    assert len(parsed.replies) + len(parsed.faults) == 1


@given(st.binary(max_size=200), st.text(max_size=100))
def test_any_bytes_and_header_are_read_or_refused(body: bytes, authorization: str) -> None:
    callback = Callback("POST", URL, {"authorization": authorization}, body, AT)
    with contextlib.suppress(MalformedCallback):
        HUAWEI.parse(callback)
    with pytest.raises(Unproven):
        HUAWEI.verify(callback)
