"""Baidu's SMS blacklist: up to 100 numbers a call, signed with bce-auth-v1; it can be read back.

Sources: cloud.baidu.com/doc/SMS/s/7lk835jl0 (add: POST /sms/v3/blacklist), flk8ac1oa (delete: DELETE
/sms/v3/blacklist/delete), Clk89c081 (read: GET /sms/v3/blacklist); doc/Reference/s/njwvz1yfu (signing).
Numbers are those of the mainland, in 11 digits. Success has no body; a call is taken whole or not at all.
"""

import hmac
import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from hashlib import sha256
from typing import Any
from urllib.parse import quote, urlsplit

import httpx2

from serving.store import now
from serving.targets import DELIVERED, Listed, Message, Outcome, TargetFault
from serving.targets.answers import client, read_json, unsuccessful
from serving.targets.config import BaiduTarget

PATH = "/sms/v3/blacklist"
VALID_SECONDS = 1800  # of a signature
PAGE = 100
MAX_PAGES = 100_000
TIMEOUT = 8.0  # seconds without a byte
NOT_HELD = "百度黑名单仅收 11 位大陆号码 / Baidu takes mainland numbers of 11 digits only"
_MAINLAND = re.compile(r"\+86(1[0-9]{10})")


class Baidu:
    """The adapter of one blacklist."""

    per_call = 100
    mirrors_numbers = True

    def __init__(self, target: BaiduTarget) -> None:
        self._access_key = target.access_key
        self._secret = target.secret
        self._endpoint = target.endpoint
        self._host = urlsplit(target.endpoint).netloc
        self._client = client(target.endpoint, TIMEOUT)
        self._which = {"type": "MerchantBlack"}
        self._narrowed = {}
        if target.signature_id is not None and target.sms_type is not None:
            self._narrowed = {"smsType": target.sms_type, "signatureIdStr": target.signature_id}
            self._which = {"type": "SignatureBlack", **self._narrowed}

    async def send(self, messages: Sequence[Message]) -> list[Outcome]:
        phones = [mainland(m.phone) for m in messages]
        numbers = ",".join(phone for phone in phones if phone)
        result = DELIVERED
        if numbers:
            if messages[0].blocked:
                call = self._call("POST", PATH, body={**self._which, "phone": numbers})
            else:
                call = self._call("DELETE", PATH + "/delete", {"phones": numbers})
            async with call as response:
                if not response.is_success:
                    result = unsuccessful(response, now())
        return [result if phone else Outcome("dead", NOT_HELD) for phone in phones]

    async def listed(self) -> list[Listed]:
        found: list[Listed] = []
        seen = 0
        for page in range(1, MAX_PAGES):
            query = {**self._narrowed, "pageNo": str(page), "pageSize": str(PAGE)}
            try:
                async with self._call("GET", PATH, query) as response:
                    if not response.is_success:
                        raise TargetFault(f"Baidu answered HTTP {response.status_code}")
                    answer = await read_json(response)
            except httpx2.HTTPError as error:
                raise TargetFault(f"Baidu cannot be read: {type(error).__name__}") from None
            items, total = _page(answer)
            seen += len(items)
            found += [
                Listed(f"+86{item['phone']}", str(item.get("updateDate") or "")[:19])
                for item in items
                if all(item.get(key) == value for key, value in self._which.items())
            ]
            if seen >= total or not items:
                break
        return found

    def holds(self, phone: str) -> bool:
        return mainland(phone) is not None

    async def close(self) -> None:
        await self._client.aclose()

    def _call(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, str] | None = None,
    ) -> AbstractAsyncContextManager[httpx2.Response]:
        at = now()
        headers = {"host": self._host, "x-bce-date": _time(at)}
        key = (self._access_key, self._secret.get_secret_value())
        headers["authorization"] = authorization(key, method, path, query or {}, headers, at)
        url = f"{self._endpoint}{path}"
        return self._client.stream(method, url, params=query, json=body, headers=headers)


def mainland(phone: str) -> str | None:
    """Return an E.164 number as Baidu writes it, or None if it is not of the mainland.

    >>> mainland("+8613800001001"), mainland("+14158675309")
    ('13800001001', None)
    """
    found = _MAINLAND.fullmatch(phone)
    return found[1] if found else None


def authorization(
    key: tuple[str, str],
    method: str,
    path: str,
    query: Mapping[str, str],
    headers: Mapping[str, str],
    at: datetime,
) -> str:
    """Return the Authorization header of bce-auth-v1 for (access key, secret); all `headers` are signed."""
    access_key, secret = key
    prefix = f"bce-auth-v1/{access_key}/{_time(at)}/{VALID_SECONDS}"
    signed = sorted((_quoted(k.strip().lower()), _quoted(v.strip())) for k, v in headers.items())
    request = "\n".join(
        (
            method,
            quote(path, safe="/-_.~"),
            "&".join(sorted(f"{_quoted(k)}={_quoted(v)}" for k, v in query.items())),
            *(f"{name}:{value}" for name, value in signed),
        )
    )
    signature = _hmac(_hmac(secret, prefix), request)
    return f"{prefix}/{';'.join(name for name, _ in signed)}/{signature}"


def _hmac(key: str, text: str) -> str:
    return hmac.new(key.encode(), text.encode(), sha256).hexdigest()


def _quoted(text: str) -> str:
    return quote(text, safe="-_.~")


def _time(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def _page(answer: Any) -> tuple[list[dict[str, Any]], int]:
    """Return the entries of a page and how many there are in all; raise TargetFault if it has none."""
    items = answer.get("blacklists") if isinstance(answer, dict) else None
    total = answer.get("totalCount") if isinstance(answer, dict) else None
    if items is None and total == 0:
        items = []
    if not isinstance(items, list) or type(total) is not int:
        raise TargetFault("Baidu's answer is no page of a blacklist")
    if any(
        not isinstance(i, dict) or not re.fullmatch("1[0-9]{10}", str(i.get("phone")))
        for i in items
    ):
        raise TargetFault("Baidu's answer has entries without a number")
    return items, total
