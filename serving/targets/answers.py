"""Reading what a target answers, bounded: it may be slow, endless, or no answer at all.

How long a call may take in all is the relay's to say (`relay.TIMEOUT`); here is how much is read of it.
"""

import json
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx2

from serving.targets import Outcome, TargetFault
from serving.targets.config import is_loopback

MAX_BYTES = 2 * 2**20
# The call itself is at fault; to repeat it as it is would not help.
REFUSALS = (400, 409, 413, 422)


def client(url: str, timeout: float, **options: Any) -> httpx2.AsyncClient:
    """Return a client for a URL. A proxy from the environment is for the world outside."""
    return httpx2.AsyncClient(timeout=timeout, trust_env=not is_loopback(url), **options)


async def read_json(response: httpx2.Response) -> Any:
    """Return the JSON of a streamed response; raise TargetFault if it is none or has no end."""
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > MAX_BYTES:
            raise TargetFault("the answer is too long")
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise TargetFault("the answer is no JSON") from None


def unsuccessful(response: httpx2.Response, at: datetime) -> Outcome:
    """Return what a status other than 2xx means for every message of the call."""
    status = response.status_code
    asked = retry_after(response.headers.get("retry-after", ""), at)
    return Outcome("refused" if status in REFUSALS else "failed", f"HTTP {status}", asked)


def retry_after(header: str, at: datetime) -> float:
    """Return the seconds that a Retry-After header asks for; 0 if it asks for nothing readable.

    >>> retry_after("120", datetime.now(UTC)), retry_after("soon", datetime.now(UTC))
    (120.0, 0.0)
    >>> retry_after("Thu, 01 Jan 2026 00:01:00 GMT", datetime(2026, 1, 1, tzinfo=UTC))
    60.0
    """
    if header.isascii() and header.isdigit():
        return float(header[:10])
    try:
        moment = parsedate_to_datetime(header)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return max(0.0, (moment - at).total_seconds())
    except (ValueError, OverflowError):
        return 0.0


def code(text: object) -> str:
    """Return a target's error code if it is one, or "": a sentence of its own may hold the number.

    >>> code("INVALID_CONTACT_ID"), code("+8613800001001 is no number")
    ('INVALID_CONTACT_ID', '')
    """
    return text if isinstance(text, str) and re.fullmatch(r"[A-Za-z][A-Za-z_]{0,59}", text) else ""
