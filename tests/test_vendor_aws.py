"""SNS's envelopes: its signature in both versions, its hosts and no others, our topics and no others."""

import base64
import contextlib
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from serving.events import Callback, MalformedCallback, Unproven, VendorUnavailable
from serving.vendors.aws import Aws, canonical

AT = datetime(2026, 9, 1, 3, tzinfo=UTC)
URL = "https://us.example/v1/inbound/aws"
TOPIC = "arn:aws:sns:eu-west-1:123456789012:replies"
CERTIFICATE_URL = "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-0001.pem"
SUBSCRIBE_URL = "https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&Token=abc"
DOCUMENTED = {
    "originationNumber": "+14255550182",
    "destinationNumber": "+12125550101",
    "messageKeyword": "JOIN",
    "messageBody": "EXAMPLE",
    "inboundMessageId": "cae173d2-66b9-564c-8309-21f858e9fb84",
    "previousPublishedMessageId": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
}
KEY = rsa.generate_private_key(65537, 2048)


def certificate(since: datetime = AT - timedelta(days=1)) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sns.amazonaws.com")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name)
    builder = builder.public_key(KEY.public_key()).serial_number(1)
    builder = builder.not_valid_before(since).not_valid_after(since + timedelta(days=365))
    return builder.sign(KEY, SHA256()).public_bytes(Encoding.PEM)


class Sns:
    """What stands at SNS's URLs, and which of them were asked for."""

    def __init__(self, pem: bytes) -> None:
        self.pem = pem
        self.asked: list[str] = []

    def fetch(self, url: str) -> bytes:
        self.asked.append(url)
        return self.pem if url.endswith(".pem") else b"<ConfirmSubscriptionResponse/>"


@pytest.fixture
def sns() -> Sns:
    return Sns(certificate())


@pytest.fixture
def aws(sns: Sns) -> Aws:
    return Aws((TOPIC,), sns.fetch)


def envelope(kind: str = "Notification", version: str = "1", **change: Any) -> dict[str, Any]:
    """Return an envelope of SNS, signed; `change` is made before that."""
    made = {
        "Type": kind,
        "MessageId": "165545c9-2a5c-472c-8df2-7ff2be2b3b1b",
        "TopicArn": TOPIC,
        "Message": json.dumps(DOCUMENTED),
        "Timestamp": "2026-09-01T02:00:00.000Z",
        "SignatureVersion": version,
        "SigningCertURL": CERTIFICATE_URL,
    }
    if kind != "Notification":
        made |= {"Token": "abc", "SubscribeURL": SUBSCRIBE_URL}
    made |= change
    algorithm = SHA1() if version == "1" else SHA256()
    return made | {
        "Signature": base64.b64encode(KEY.sign(canonical(made), PKCS1v15(), algorithm)).decode()
    }


def posted(document: object) -> Callback:
    headers = {"content-type": "text/plain; charset=UTF-8"}
    return Callback("POST", URL, headers, json.dumps(document).encode(), AT)


@pytest.mark.parametrize("version", ["1", "2"])
@pytest.mark.parametrize("kind", ["Notification", "SubscriptionConfirmation"])
def test_both_versions_of_the_signature(aws: Aws, kind: str, version: str) -> None:
    aws.verify(posted(envelope(kind, version)))
    aws.verify(posted(envelope(kind, version, Subject="Re: 退订")))


def test_what_is_signed_is_named_line_by_line() -> None:
    made = {
        "Type": "Notification",
        "Message": "m",
        "MessageId": "i",
        "Timestamp": "t",
        "TopicArn": "a",
    }
    assert (
        canonical(made)
        == b"Message\nm\nMessageId\ni\nTimestamp\nt\nTopicArn\na\nType\nNotification\n"
    )
    assert b"Subject\ns\nTimestamp" in canonical(made | {"Subject": "s"})


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"Message": "{}"}, "the signature is wrong"),
        ({"Signature": "???"}, "the signature is wrong"),
        ({"SignatureVersion": "2"}, "the signature is wrong"),
        ({"SignatureVersion": "3"}, "neither 1 nor 2"),
        ({"TopicArn": TOPIC + "-of-a-stranger"}, "none of TINGXIN_AWS_TOPICS"),
    ],
)
def test_what_was_changed_after_signing_is_refused(
    aws: Aws, change: dict[str, str], why: str
) -> None:
    with pytest.raises(Unproven, match=why):
        aws.verify(posted(envelope() | change))


ELSEWHERE = [
    "http://sns.eu-west-1.amazonaws.com/a.pem",
    "https://sns.eu-west-1.amazonaws.com.evil.example/a.pem",
    "https://sns.eu-west-1.amazonaws.com@evil.example/a.pem",
    "https://sns.eu-west-1.amazonaws.com:8443/a.pem",
    "https://s3.eu-west-1.amazonaws.com/bucket/a.pem",
    "https://evil.example/sns.eu-west-1.amazonaws.com/a.pem",
    "https://[sns.eu-west-1.amazonaws.com/a.pem",
    "file:///etc/a.pem",
    "",
]


@pytest.mark.parametrize("url", ELSEWHERE)
def test_a_certificate_from_elsewhere_is_not_even_fetched(aws: Aws, sns: Sns, url: str) -> None:
    with pytest.raises(Unproven, match="does not lead to SNS"):
        aws.verify(posted(envelope(SigningCertURL=url)))
    assert sns.asked == []


def test_china_has_hosts_of_its_own(sns: Sns) -> None:
    topic = "arn:aws-cn:sns:cn-north-1:123456789012:replies"
    url = "https://sns.cn-north-1.amazonaws.com.cn/SimpleNotificationService-0001.pem"
    Aws((topic,), sns.fetch).verify(posted(envelope(TopicArn=topic, SigningCertURL=url)))


def test_a_certificate_is_fetched_once(aws: Aws, sns: Sns) -> None:
    for _ in range(3):
        aws.verify(posted(envelope()))
    assert sns.asked == [CERTIFICATE_URL]


def test_a_certificate_out_of_force_proves_nothing() -> None:
    old = Sns(certificate(AT - timedelta(days=400)))
    with pytest.raises(Unproven, match="not in force"):
        Aws((TOPIC,), old.fetch).verify(posted(envelope()))


def test_what_is_no_certificate_is_asked_for_again() -> None:
    broken = Sns(b"<html>")
    aws = Aws((TOPIC,), broken.fetch)
    for _ in range(2):
        with pytest.raises(VendorUnavailable):
            aws.verify(posted(envelope()))
    assert len(broken.asked) == 2


def test_without_topics_it_says_what_it_lacks() -> None:
    assert Aws().lacks == "TINGXIN_AWS_TOPICS"


def test_the_documented_message(aws: Aws) -> None:
    [reply] = aws.parse(posted(envelope())).replies
    assert (reply.phone, reply.to, reply.text) == ("+14255550182", "+12125550101", "EXAMPLE")
    assert reply.id == DOCUMENTED["inboundMessageId"]
    assert reply.vendor_time == datetime(2026, 9, 1, 2, tzinfo=UTC)


def test_a_subscription_is_confirmed_by_visiting_sns(aws: Aws, sns: Sns) -> None:
    callback = posted(envelope("SubscriptionConfirmation"))
    assert aws.parse(callback).replies == ()
    aws.answer(callback)
    assert sns.asked == [SUBSCRIBE_URL]


def test_a_subscription_that_leads_elsewhere_is_not_visited(aws: Aws, sns: Sns) -> None:
    for url in ELSEWHERE:
        with pytest.raises(Unproven, match="SubscribeURL does not lead to SNS"):
            aws.answer(posted(envelope("SubscriptionConfirmation", SubscribeURL=url)))
    assert sns.asked == []


def test_an_unsubscription_is_not_undone(aws: Aws, sns: Sns) -> None:
    aws.answer(posted(envelope("UnsubscribeConfirmation")))
    assert sns.asked == []


@pytest.mark.parametrize(
    "document",
    [
        {},
        [],
        DOCUMENTED,
        {"Type": "Notification"},
        envelope() | {"Message": None},
        envelope(Message="x"),
    ],
)
def test_what_is_no_envelope_is_malformed(aws: Aws, document: object) -> None:
    with pytest.raises(MalformedCallback):
        aws.parse(posted(document))


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
messages = st.fixed_dictionaries({}, optional=dict.fromkeys(DOCUMENTED, anything)) | anything
changes = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(envelope("SubscriptionConfirmation"), anything)
)


@given(messages)
def test_any_message_is_read_or_its_fault_named(message: object) -> None:
    document = {**BARE, "Message": json.dumps(message)}
    parsed = Aws((TOPIC,), Sns(b"").fetch).parse(posted(document))
    assert len(parsed.replies) + len(parsed.faults) == 1


BARE = {"Type": "Notification", "MessageId": "m", "TopicArn": TOPIC, "Timestamp": ""}


@given(changes | anything)
def test_any_envelope_is_refused_or_malformed(change: object) -> None:
    document = BARE | change if isinstance(change, dict) else change
    aws = Aws((TOPIC,), Sns(b"").fetch)
    with contextlib.suppress(MalformedCallback):
        aws.parse(posted(document))
    with pytest.raises((Unproven, MalformedCallback, VendorUnavailable)):
        aws.verify(posted(document))
