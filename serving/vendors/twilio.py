"""Twilio Programmable Messaging: one message posted as a form, always signed.

    MessageSid=SM…&From=%2B14158675309&To=%2B18005551212&Body=STOP&OptOutType=STOP

Sources: https://www.twilio.com/docs/messaging/guides/webhook-request.md; the signature:
https://www.twilio.com/docs/usage/security. It is over the URL as Twilio wrote it, which a proxy hides:
set TINGXIN_PUBLIC_URL. The answer is TwiML; an empty response says nothing to the person. With Advanced
Opt-Out, `OptOutType` says that Twilio took the message for STOP or START, and has acted on it.
"""

import base64
from dataclasses import dataclass, field
from hashlib import sha1
from hmac import compare_digest, new
from typing import Any, Literal
from urllib.parse import SplitResult, urlsplit, urlunsplit

from pydantic import SecretStr

from serving.events import Answer, Callback, InboundReply, Parsed, Unproven
from serving.settings import each
from serving.vendors import entry as read

_EFFECTS: dict[str, Literal["opt_out", "resume"]] = {"STOP": "opt_out", "START": "resume"}
_PORTS = {"https": 443, "http": 80}


@dataclass(frozen=True)
class Twilio:
    auth_token: SecretStr | None = field(default=None, repr=False)

    proves = True
    takes_get = False

    @property
    def lacks(self) -> str:
        return "" if self.auth_token else "TINGXIN_TWILIO_AUTH_TOKEN"

    def verify(self, callback: Callback) -> None:
        """Raise Unproven unless one of our tokens signed the callback."""
        given = callback.headers.get("x-twilio-signature", "").encode()
        fields = read.form(callback.body)
        tried = [
            compare_digest(signature(token, url, fields).encode(), given)
            for token in each(self.auth_token)
            for url in _spellings(callback.url)
        ]
        if not any(tried):
            raise Unproven("X-Twilio-Signature is wrong; compare the token and TINGXIN_PUBLIC_URL")

    def parse(self, callback: Callback) -> Parsed:
        """Return the message of a callback; one that holds pictures only has the text ""."""
        entry = dict(read.form(callback.body))
        return read.parsed([entry], lambda one: _reply(one, callback))

    def answer(self, callback: Callback) -> Answer:
        return Answer(b'<?xml version="1.0" encoding="UTF-8"?><Response/>', "text/xml")


def signature(token: str, url: str, fields: list[tuple[str, str]]) -> str:
    """Return what X-Twilio-Signature has to be: HMAC-SHA1 over the URL and the sorted fields, base64.

    >>> fields = [("CallSid", "CA1234567890ABCDE"), ("Caller", "+12349013030"), ("Digits", "1234"),
    ...     ("From", "+12349013030"), ("To", "+18005551212")]
    >>> signature("12345", "https://mycompany.com/myapp.php?foo=1&bar=2", fields)
    '0/KCTR6DLpKmkAf8muzZqo1nDgQ='
    """
    signed = url + "".join(name + value for name, value in sorted(set(fields)))
    return base64.b64encode(new(token.encode(), signed.encode(), sha1).digest()).decode()


def _spellings(url: str) -> list[str]:
    """Return a URL without and with its scheme's own port: Twilio signs now the one, now the other."""
    parts = urlsplit(url)
    host, _, port = parts.netloc.rpartition(":")
    own = str(_PORTS.get(parts.scheme, ""))
    if host and port.isdigit():
        return [url, _at(parts, host)] if port == own else [url]
    return [url, _at(parts, f"{parts.netloc}:{own}")] if own else [url]


def _at(parts: SplitResult, netloc: str) -> str:
    return urlunsplit(parts._replace(netloc=netloc))


def _reply(entry: dict[str, Any], callback: Callback) -> InboundReply:
    return InboundReply(
        vendor="twilio",
        id=read.text(entry, "MessageSid", read.LONGEST_ID, "")
        or read.text(entry, "SmsSid", read.LONGEST_ID, ""),
        phone=read.phone(entry, "From"),
        text=read.text(entry, "Body"),
        received_at=callback.received_at,
        to=read.text(entry, "To", read.LONGEST_NAME, ""),
        effect=_EFFECTS.get(read.text(entry, "OptOutType", read.LONGEST_NAME, ""), ""),
    )
