"""Vonage SMS: one message as a query, a form or a JSON object; a long one comes in parts.

    msisdn=8613800001001&to=106900001&messageId=0A00&text=退订&type=unicode&message-timestamp=2026-09-01+02:00:00
    &concat=true&concat-ref=7&concat-total=2&concat-part=1&timestamp=1788228000&nonce=…&sig=…

Sources: https://developer.vonage.com/messaging/sms/guides/inbound-sms (fields; anything but 200 or 204 is
sent again for 24 hours), https://developer.vonage.com/getting-started/concepts/signing-messages (the
signature, which Vonage's support switches on). Where it is off, an API key in the callback's path is the
protection. A replayed callback has its message id signed, and so is recorded once.
"""

import json
from dataclasses import dataclass, field
from hashlib import md5
from hmac import compare_digest, new
from typing import Any
from urllib.parse import urlsplit

from pydantic import SecretStr

from serving.events import Answer, Callback, InboundReply, MalformedCallback, Parsed, Part, Unproven
from serving.settings import each
from serving.vendors import entry as read

# What is put together stays below what the classifier reads (model/text.py); phones send 10 parts at most.
MOST_PARTS = 20
LONGEST_PART = 1000


@dataclass(frozen=True)
class Vonage:
    secret: SecretStr | None = field(default=None, repr=False)
    method: str = "sha256"  # or md5hash, md5, sha1, sha512

    lacks = ""
    takes_get = True

    @property
    def proves(self) -> bool:
        return self.secret is not None

    def verify(self, callback: Callback) -> None:
        """Raise Unproven unless one of our secrets signed the callback."""
        if not self.proves:
            return
        fields = _fields(callback)
        given = fields.pop("sig", "").lower().encode()
        fields.pop("key", "")  # ours, in the query
        tried = [
            compare_digest(signature(fields, secret, self.method).encode(), given)
            for secret in each(self.secret)
        ]
        if not any(tried):
            raise Unproven("sig is wrong; compare TINGXIN_VONAGE_SIGNATURE_SECRET and …_METHOD")

    def parse(self, callback: Callback) -> Parsed:
        """Return the message of a callback, or its part of one; a binary message has the text ""."""
        fields: dict[str, Any] = dict(_fields(callback))
        return read.parsed([fields], lambda entry: _reply(entry, callback))

    def answer(self, callback: Callback) -> Answer:
        return Answer()


def signature(fields: dict[str, str], secret: str, method: str) -> str:
    """Return what `sig` has to be, in lower case: a digest over the other fields, sorted.

    >>> signature({"a": "1", "b": "2", "timestamp": "1461605396"}, "secret", "md5hash")
    '6af838ef94998832dbfc29020b564830'
    """
    signed = "".join(
        f"&{name}={value.replace('&', '_').replace('=', '_')}"
        for name, value in sorted(fields.items())
    )
    if method == "md5hash":  # Vonage's oldest; the others are HMACs
        return md5((signed + secret).encode(), usedforsecurity=False).hexdigest()
    return new(secret.encode(), signed.encode(), method).hexdigest()


def _fields(callback: Callback) -> dict[str, str]:
    if callback.method == "GET":
        return dict(read.form(urlsplit(callback.url).query))
    if "json" not in callback.headers.get("content-type", "").lower():
        return dict(read.form(callback.body))
    try:  # numbers stay as they were written: the signature is over that
        document = json.loads(callback.body, parse_int=str, parse_float=str)
    except (ValueError, RecursionError):
        raise MalformedCallback("the body is no JSON") from None
    if not isinstance(document, dict):
        raise MalformedCallback("the body is no JSON object")
    return {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in document.items()
        if value is not None
    }


def _reply(entry: dict[str, Any], callback: Callback) -> InboundReply:
    text = read.text(entry, "text", default="" if entry.get("type") == "binary" else None)
    return InboundReply(
        vendor="vonage",
        id=read.text(entry, "messageId", read.LONGEST_ID, ""),
        phone=read.phone(entry, "msisdn", "+"),
        text=text,
        received_at=callback.received_at,
        vendor_time=read.moment(entry.get("message-timestamp")),
        to=read.text(entry, "to", read.LONGEST_NAME, ""),
        part=_part(entry, text),
    )


def _part(entry: dict[str, Any], text: str) -> Part | None:
    """Return which part of a long message this is; None for a whole one, and for what makes no sense."""
    try:
        ref = read.text(entry, "concat-ref", 20)
        number, total = (int(read.text(entry, f"concat-{name}", 3)) for name in ("part", "total"))
    except (MalformedCallback, ValueError):
        return None
    sensible = 1 <= number <= total and 2 <= total <= MOST_PARTS and len(text) <= LONGEST_PART
    return Part(ref, number, total) if sensible else None
