"""Infobip MO_JSON_2: messages posted as JSON, several at a time.

    {"results": [{"messageId": "817790313235066447", "from": "8613800001001", "to": "106900001",
      "text": "QUIZ 退订", "cleanText": "退订", "keyword": "QUIZ", "receivedAt": "2026-09-01T02:00:00.000+0000"}],
     "messageCount": 1, "pendingMessageCount": 0}

Source: https://infobip.com/docs/api/channels/sms/inbound-sms/receive-inbound-sms-messages. `cleanText` lacks
the keyword that the person wrote, so `text` is read. Infobip signs in with the user and password of its
security settings (BASIC, https://infobip.com/docs/api/platform/subscriptions-api); where none are set, an
API key in the callback's path is the protection. Its HMAC variant is not documented in public: not offered.
"""

import base64
import binascii
from dataclasses import dataclass, field
from hmac import compare_digest
from typing import Any

from pydantic import SecretStr

from serving.events import Answer, Callback, InboundReply, MalformedCallback, Parsed, Unproven
from serving.settings import each
from serving.vendors import entry as read


@dataclass(frozen=True)
class Infobip:
    basic: SecretStr | None = field(default=None, repr=False)  # user:password,…

    lacks = ""
    takes_get = False

    @property
    def proves(self) -> bool:
        return self.basic is not None

    def verify(self, callback: Callback) -> None:
        """Raise Unproven unless the callback brings one of our pairs of user and password."""
        if not self.proves:
            return
        kind, _, encoded = callback.headers.get("authorization", "").partition(" ")
        try:
            given = base64.b64decode(encoded.strip(), validate=True)
        except (binascii.Error, ValueError):
            given = b""
        tried = [compare_digest(pair.encode(), given) for pair in each(self.basic)]
        if kind.lower() != "basic" or not any(tried):
            raise Unproven("the user and password are not those of TINGXIN_INFOBIP_BASIC", "Basic")

    def parse(self, callback: Callback) -> Parsed:
        """Return the messages of a callback."""
        document = read.document(callback.body)
        entries = document.get("results") if isinstance(document, dict) else None
        if not isinstance(entries, list):
            raise MalformedCallback("the body is no JSON object with an array `results`")
        return read.parsed(entries, lambda entry: _reply(entry, callback))

    def answer(self, callback: Callback) -> Answer:
        return Answer()


def _reply(entry: dict[str, Any], callback: Callback) -> InboundReply:
    return InboundReply(
        vendor="infobip",
        id=read.text(entry, "messageId", read.LONGEST_ID, ""),
        phone=read.phone(entry, "from", "+"),
        text=read.text(entry, "text"),
        received_at=callback.received_at,
        vendor_time=read.moment(entry.get("receivedAt")),
        to=read.text(entry, "to", read.LONGEST_NAME, ""),
    )
