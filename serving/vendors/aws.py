"""AWS End User Messaging: a message as JSON inside an SNS notification, signed by SNS's certificate.

    {"Type": "Notification", "MessageId": "…", "TopicArn": "arn:aws:sns:…", "Timestamp": "…", "Signature": "…",
     "SignatureVersion": "1", "SigningCertURL": "https://sns.eu-west-1.amazonaws.com/….pem", "Message": "…"}

where `Message` is the text of

    {"originationNumber": "+14255550182", "destinationNumber": "+12125550101", "messageKeyword": "JOIN",
     "messageBody": "EXAMPLE", "inboundMessageId": "cae1…", "previousPublishedMessageId": "wJalr…"}

Sources: https://docs.aws.amazon.com/sms-voice/latest/userguide/two-way-sms-payload.html (the message),
https://docs.aws.amazon.com/sns/latest/dg/sns-verify-signature-of-message.html (the signature). SNS sends again
after a 5xx or 429, not after another 4xx. Anybody can own a topic: TINGXIN_AWS_TOPICS names ours.
"""

import base64
import binascii
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock
from typing import Any
from urllib.parse import urlsplit

import httpx2
import structlog
from cachetools import TTLCache
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA1, SHA256

from serving.events import (
    Answer,
    Callback,
    InboundReply,
    MalformedCallback,
    Parsed,
    Unproven,
    VendorUnavailable,
)
from serving.vendors import entry as read

Fetch = Callable[[str], bytes]
_HOST = re.compile(r"sns\.[a-z0-9-]{3,40}\.amazonaws\.com(\.cn)?")
_LARGEST = 64 * 1024  # bytes of what we fetch; a certificate has 2 KiB
_TIMEOUT = 5.0
_DAY = 86_400.0
_SIGNED = {
    "Notification": ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    "SubscriptionConfirmation": (
        "Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type",
    ),
}  # fmt: skip
_SIGNED["UnsubscribeConfirmation"] = _SIGNED["SubscriptionConfirmation"]

log = structlog.get_logger()


def fetch_over_https(url: str) -> bytes:
    """Return what stands at a URL; raise VendorUnavailable, without the URL, unless it is there."""
    content = b""
    try:
        with httpx2.Client(timeout=_TIMEOUT) as client, client.stream("GET", url) as response:
            if not response.is_success:  # redirects are not followed: they lead to other hosts
                raise VendorUnavailable(f"SNS answered HTTP {response.status_code}")
            for chunk in response.iter_bytes():
                content += chunk
                if len(content) > _LARGEST:
                    raise VendorUnavailable(f"SNS answered more than {_LARGEST} bytes")
    except httpx2.HTTPError as error:
        raise VendorUnavailable(f"SNS cannot be reached: {type(error).__name__}") from None
    return content


@dataclass(frozen=True)
class Aws:
    topics: tuple[str, ...] = ()
    fetch: Fetch = field(default=fetch_over_https, repr=False)
    _certificates: TTLCache[str, x509.Certificate] = field(
        default_factory=lambda: TTLCache(16, _DAY), repr=False
    )
    _lock: Any = field(default_factory=Lock, repr=False)

    proves = True
    takes_get = False

    @property
    def lacks(self) -> str:
        return "" if self.topics else "TINGXIN_AWS_TOPICS"

    def verify(self, callback: Callback) -> None:
        """Raise Unproven unless SNS signed the envelope for one of our topics."""
        envelope = _envelope(callback)
        if envelope["TopicArn"] not in self.topics:
            raise Unproven("the topic is none of TINGXIN_AWS_TOPICS")
        url = _pinned(envelope.get("SigningCertURL"), "SigningCertURL")
        if not urlsplit(url).path.endswith(".pem"):
            raise Unproven("SigningCertURL leads to no certificate")
        version = envelope.get("SignatureVersion")
        if version not in ("1", "2"):
            raise Unproven("SignatureVersion is neither 1 nor 2")
        certificate = self._certificate(url)
        key = certificate.public_key()
        since, until = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        if not isinstance(key, RSAPublicKey) or not since <= callback.received_at <= until:
            raise Unproven("the certificate is not in force")
        try:
            signature = base64.b64decode(envelope.get("Signature", ""), validate=True)
            algorithm = SHA1() if version == "1" else SHA256()  # noqa: S303 - SNS's own choice
            key.verify(signature, canonical(envelope), PKCS1v15(), algorithm)
        except (binascii.Error, ValueError, InvalidSignature):
            raise Unproven("the signature is wrong") from None

    def parse(self, callback: Callback) -> Parsed:
        """Return the message of a notification; none of another kind of envelope."""
        envelope = _envelope(callback)
        if envelope["Type"] != "Notification":
            return Parsed(())
        message = read.document(envelope["Message"].encode("utf-8", "surrogatepass"))
        return read.parsed([message], lambda entry: _reply(entry, envelope, callback))

    def answer(self, callback: Callback) -> Answer:
        """Answer a notification; confirm a subscription first, by visiting the URL that SNS gives."""
        envelope = _envelope(callback)
        if envelope["Type"] == "SubscriptionConfirmation":
            self.fetch(_pinned(envelope.get("SubscribeURL"), "SubscribeURL"))
            log.info("sns_subscription_confirmed")
        elif envelope["Type"] == "UnsubscribeConfirmation":
            log.warning("sns_unsubscribed", remedy="subscribe again if nobody meant it")
        return Answer()

    def _certificate(self, url: str) -> x509.Certificate:
        with self._lock:
            found = self._certificates.get(url)
        if found is None:
            try:
                found = x509.load_pem_x509_certificate(self.fetch(url))
            except ValueError:
                raise VendorUnavailable("SNS answered with no certificate") from None
            with self._lock:
                self._certificates[url] = found
        return found


def canonical(envelope: dict[str, str]) -> bytes:
    """Return what SNS signs: names and values of the signed fields, a line each; no Subject, no line."""
    return "".join(
        f"{name}\n{envelope[name]}\n" for name in _SIGNED[envelope["Type"]] if name in envelope
    ).encode("utf-8", "surrogatepass")


def _envelope(callback: Callback) -> dict[str, str]:
    document = read.document(callback.body)
    if not isinstance(document, dict):
        raise MalformedCallback("the body is no SNS envelope")
    envelope = {name: value for name, value in document.items() if isinstance(value, str)}
    kind = envelope.get("Type", "")
    if kind not in _SIGNED:
        raise MalformedCallback(
            "the body is no SNS envelope; raw delivery is unsigned: switch it off"
        )
    for name in _SIGNED[kind]:
        if name not in envelope and name != "Subject":
            raise MalformedCallback(f"the SNS envelope lacks {name}")
    return envelope


def _pinned(url: str | None, name: str) -> str:
    """Return a URL of SNS itself; raise Unproven for any other: we should fetch what a stranger names."""
    try:
        parts = urlsplit(url or "")
        ours = parts.scheme == "https" and _HOST.fullmatch(parts.netloc)
    except ValueError:
        ours = None
    if not ours or url is None:
        raise Unproven(f"{name} does not lead to SNS")
    return url


def _reply(entry: dict[str, Any], envelope: dict[str, str], callback: Callback) -> InboundReply:
    return InboundReply(
        vendor="aws",
        id=read.text(entry, "inboundMessageId", read.LONGEST_ID, "") or envelope["MessageId"][:100],
        phone=read.phone(entry, "originationNumber"),
        text=read.text(entry, "messageBody"),
        received_at=callback.received_at,
        vendor_time=read.moment(envelope["Timestamp"]),
        to=read.text(entry, "destinationNumber", read.LONGEST_NAME, ""),
    )
