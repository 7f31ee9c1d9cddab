"""Huawei Cloud Message & SMS: one reply posted as a form, signed where push AK/SK are switched on.

    from=%2B8613800001001&to=201804131431201234&body=T&smsMsgId=9692b5be-c427-4525-8e73-cf4a6ac5b3f7

Sources: https://support.huaweicloud.com/api-msgsms/sms_05_0004.md (fields), …/sms_05_0064.md (push AK/SK),
https://support.huaweicloud.com/devg-apisign/api-sign-algorithm-001.md (the signature, SDK-HMAC-SHA256).
`createTime` is in UTC and has to be switched on. Two AK/SK may be in force at once. The answer is 200
and empty. Where push AK/SK are off, an API key in the callback's path is the protection.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from hmac import compare_digest, new
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from pydantic import SecretStr

from serving.events import Answer, Callback, InboundReply, Parsed, Unproven
from serving.settings import each
from serving.vendors import entry as read

_AUTHORIZATION = re.compile(
    r"SDK-HMAC-SHA256\s+Access=([^,\s]+),\s*SignedHeaders=([^,\s]+),\s*Signature=([0-9a-fA-F]{64})"
)
_FRESH = timedelta(minutes=15)  # as Huawei's own gateway has it


@dataclass(frozen=True)
class Huawei:
    keys: SecretStr | None = field(default=None, repr=False)  # AK:SK,…

    lacks = ""
    takes_get = False

    @property
    def proves(self) -> bool:
        return self.keys is not None

    def verify(self, callback: Callback) -> None:
        """Raise Unproven unless one of our keys signed the callback, its body included, just now."""
        if not self.proves:
            return
        secrets = dict(pair.split(":", 1) for pair in each(self.keys))
        found = _AUTHORIZATION.fullmatch(callback.headers.get("authorization", ""))
        if found is None:
            raise Unproven("no Authorization: SDK-HMAC-SHA256; switch push AK/SK on at Huawei")
        access, names, given = found.groups()
        if access not in secrets:
            raise Unproven("Access names an AK that TINGXIN_HUAWEI_KEYS does not hold")
        signed = names.lower().split(";")
        date = callback.headers.get("x-sdk-date", "")
        if "x-sdk-date" not in signed or not _is_fresh(date, callback.received_at):
            raise Unproven("X-Sdk-Date is not signed, or is more than 15 minutes off our clock")
        if not compare_digest(signature(callback, signed, secrets[access]), given.lower()):
            raise Unproven("the signature is wrong; compare SK and TINGXIN_PUBLIC_URL")

    def parse(self, callback: Callback) -> Parsed:
        """Return the reply of a callback."""
        entry = dict(read.form(callback.body))
        return read.parsed([entry], lambda one: _reply(one, callback.received_at))

    def answer(self, callback: Callback) -> Answer:
        return Answer()


def signature(callback: Callback, signed: list[str], secret: str) -> str:
    """Return the signature of a request over the named headers, hexadecimal.

    The body is hashed as it came, so that a header that declares it unsigned changes nothing.
    """
    parts = urlsplit(callback.url)
    # Huawei signs the path with a slash at its end, whether or not the request has one.
    path = quote(unquote(parts.path), safe="/~").rstrip("/") + "/"
    query = "&".join(
        f"{quote(name, safe='~')}={quote(value, safe='~')}"
        for name, value in sorted(read.form(parts.query))
    )
    headers = dict(callback.headers) | {
        "host": parts.netloc
    }  # what Huawei saw, whatever a proxy made of it
    canonical = [
        callback.method,
        path,
        query,
        *(f"{name}:{headers.get(name, '').strip()}" for name in signed),
        "",
        ";".join(signed),
        sha256(callback.body).hexdigest(),
    ]
    digest = sha256("\n".join(canonical).encode()).hexdigest()
    to_sign = f"SDK-HMAC-SHA256\n{callback.headers.get('x-sdk-date', '')}\n{digest}"
    return new(secret.encode(), to_sign.encode(), sha256).hexdigest()


def _is_fresh(date: str, received_at: datetime) -> bool:
    try:
        moment = datetime.strptime(date, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        return False
    return abs(received_at - moment) <= _FRESH


def _reply(entry: Mapping[str, Any], received_at: datetime) -> InboundReply:
    fields = dict(entry)
    return InboundReply(
        vendor="huawei",
        id=read.text(fields, "smsMsgId", read.LONGEST_ID, ""),
        phone=read.phone(fields, "from"),
        text=_mended(read.text(fields, "body")),
        received_at=received_at,
        vendor_time=read.moment(fields.get("createTime")),
        to=read.text(fields, "to", read.LONGEST_NAME, ""),
    )


def _mended(text: str) -> str:
    """Undo a known trap on the way: UTF-8 that a gateway read as ISO-8859-1.

    >>> _mended("退订".encode().decode("iso-8859-1")), _mended("café")
    ('退订', 'café')
    """
    try:
        return text.encode("iso-8859-1").decode("utf-8")
    except ValueError:
        return text
