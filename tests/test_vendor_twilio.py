"""Twilio's signature covers the URL as Twilio wrote it and every field, known or not."""

import contextlib
from datetime import UTC, datetime
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from serving.events import Callback, MalformedCallback, Unproven
from serving.vendors.twilio import Twilio, signature

AT = datetime(2026, 9, 1, 3, tzinfo=UTC)
URL = "https://mycompany.com/myapp.php?foo=1&bar=2"
VECTOR = {
    "CallSid": "CA1234567890ABCDE",
    "Caller": "+14158675309",
    "Digits": "1234",
    "From": "+14158675309",
    "To": "+18005551212",
}
TWILIO = Twilio(SecretStr("12345"))
MESSAGE = {
    "MessageSid": "SM1234567890",
    "From": "+14158675309",
    "To": "+18005551212",
    "Body": "别再发了",
    "NumMedia": "0",
}


def posted(fields: dict[str, str], mark: str = "", url: str = URL) -> Callback:
    headers = {"x-twilio-signature": mark}
    return Callback("POST", url, headers, urlencode(fields).encode(), AT)


def test_the_documented_vector() -> None:
    TWILIO.verify(posted(VECTOR, "RSOYDt4T1cUTdK1PDd93/VVr8B8="))


def test_the_port_may_be_written_out_or_not() -> None:
    ported = "https://mycompany.com:443/myapp.php?foo=1&bar=2"
    TWILIO.verify(posted(VECTOR, "RSOYDt4T1cUTdK1PDd93/VVr8B8=", ported))
    TWILIO.verify(posted(VECTOR, signature("12345", ported, list(VECTOR.items()))))


@pytest.mark.parametrize(
    "callback",
    [
        posted(VECTOR),
        posted(VECTOR, "0/KCTR6DLpKmkAf8muzZqo1nDgQ="),
        posted(VECTOR, "不是签名"),
        posted(VECTOR | {"New": "1"}, "RSOYDt4T1cUTdK1PDd93/VVr8B8="),
        posted(VECTOR, "RSOYDt4T1cUTdK1PDd93/VVr8B8=", URL.replace("https", "http")),
        posted(VECTOR, "RSOYDt4T1cUTdK1PDd93/VVr8B8=", URL.replace(".com", ".com:8443")),
    ],
)
def test_whatever_differs_from_what_was_signed_is_refused(callback: Callback) -> None:
    with pytest.raises(Unproven):
        TWILIO.verify(callback)


def test_during_a_change_both_tokens_are_in_force() -> None:
    both = Twilio(SecretStr("new,12345"))
    both.verify(posted(VECTOR, "RSOYDt4T1cUTdK1PDd93/VVr8B8="))
    both.verify(posted(VECTOR, signature("new", URL, list(VECTOR.items()))))


def test_without_a_token_it_says_what_it_lacks() -> None:
    assert Twilio().lacks == "TINGXIN_TWILIO_AUTH_TOKEN"
    with pytest.raises(Unproven):
        Twilio().verify(posted(VECTOR, signature("", URL, list(VECTOR.items()))))


def test_a_message() -> None:
    [reply] = TWILIO.parse(posted(MESSAGE)).replies
    assert (reply.id, reply.phone, reply.to) == ("SM1234567890", "+14158675309", "+18005551212")
    assert (reply.text, reply.effect) == ("别再发了", "")


@pytest.mark.parametrize(
    ("kind", "effect"), [("STOP", "opt_out"), ("START", "resume"), ("HELP", ""), ("", "")]
)
def test_what_advanced_opt_out_took_it_for(kind: str, effect: str) -> None:
    [reply] = TWILIO.parse(posted(MESSAGE | {"OptOutType": kind})).replies
    assert reply.effect == effect


def test_pictures_alone_are_an_empty_text_and_no_body_is_a_fault() -> None:
    [reply] = TWILIO.parse(posted(MESSAGE | {"Body": "", "NumMedia": "1"})).replies
    assert reply.text == ""
    without = {name: value for name, value in MESSAGE.items() if name != "Body"}
    assert TWILIO.parse(posted(without)).faults[0].why == "Body is no text"


def test_the_answer_says_nothing_to_the_person() -> None:
    answer = TWILIO.answer(posted(MESSAGE))
    assert answer.media_type == "text/xml"
    assert answer.body.endswith(b"<Response/>")


fields = st.dictionaries(st.sampled_from([*MESSAGE, "SmsSid", "OptOutType"]), st.text())


@given(fields, st.text(max_size=60))
def test_any_form_is_read_or_its_fault_named_and_none_is_proven(
    form: dict[str, str], mark: str
) -> None:
    body = urlencode(form, errors="surrogatepass").encode()
    callback = Callback("POST", URL, {"x-twilio-signature": mark}, body, AT)
    parsed = TWILIO.parse(callback)
    assert len(parsed.replies) + len(parsed.faults) == 1
    with pytest.raises(Unproven):
        TWILIO.verify(callback)


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_malformed(body: bytes) -> None:
    with contextlib.suppress(MalformedCallback):
        TWILIO.parse(Callback("POST", URL, {}, body, AT))
