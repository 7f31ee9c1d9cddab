"""API keys: `tx_<id>_<secret>`, of which the database holds the id and a SHA-256 hash.

A hash without salt or stretching suffices: the secret is 32 random bytes, not a password.
"""

import hmac
import math
import re
import secrets
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any, Literal

import sqlalchemy as sa
import structlog
from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter
from sqlalchemy.engine import Connection

from serving import tables
from serving.store import DatabaseFails, Store, now

Scope = Literal["ingest", "read", "review", "admin"]
SCOPES: tuple[Scope, ...] = ("ingest", "read", "review", "admin")
_KEY = re.compile(r"tx_(?P<id>[0-9a-f]{1,16})_[\w-]{1,100}", re.ASCII)
_USE_NOTED_EVERY = timedelta(minutes=1)

log = structlog.get_logger()


class KeyFault(ValueError):
    """A key cannot be made or revoked as asked."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who holds the key that a request came with."""

    key_id: str
    name: str
    scopes: frozenset[str]

    def may(self, scope: Scope) -> bool:
        """Say whether the key opens this; an admin key opens everything."""
        return scope in self.scopes or "admin" in self.scopes


def create(
    connection: Connection, name: str, scopes: Sequence[str], days: float | None = None
) -> str:
    """Make a key and return it; it cannot be shown again. Raise KeyFault for an unknown scope.

    It opens for so many days, or until it is revoked.
    """
    unknown = [scope for scope in scopes if scope not in SCOPES]
    if unknown or not scopes:
        raise KeyFault(
            f"a key needs scopes of {', '.join(SCOPES)}; found {', '.join(unknown) or 'none'}"
        )
    at = now()
    key_id = secrets.token_hex(4)
    key = f"tx_{key_id}_{secrets.token_urlsafe(32)}"
    connection.execute(
        tables.api_keys.insert(),
        {
            "id": key_id,
            "name": name,
            "hash": _hash(key),
            "scopes": list(dict.fromkeys(scopes)),
            "created_at": at,
            "expires_at": None if days is None else at + timedelta(days=days),
        },
    )
    return key


def recognise(store: Store, key: str) -> Caller | None:
    """Return whose key this is; None if nobody's, or revoked, or expired."""
    written = _KEY.fullmatch(key)
    if written is None:
        return None
    c = tables.api_keys.c
    with store.read() as connection:
        query = sa.select(tables.api_keys).where(c.id == written["id"])
        row = connection.execute(query).one_or_none()
    # The comparison takes the same time for every wrong secret, and runs for unknown ids as well.
    matches = hmac.compare_digest(_hash(key), row.hash if row else _hash(""))
    if row is None or not matches or row.revoked_at is not None:
        return None
    at = now()
    if row.expires_at is not None and row.expires_at <= at:
        return None
    if row.last_used_at is None or at - row.last_used_at > _USE_NOTED_EVERY:
        _note_use(store, row.id, at)
    return Caller(row.id, row.name, frozenset(row.scopes))


def _note_use(store: Store, key_id: str, at: datetime) -> None:
    """Note that a key was used; a database that takes no note must not keep its holder out."""
    c = tables.api_keys.c
    try:
        with store.write() as connection:
            connection.execute(
                tables.api_keys.update().where(c.id == key_id).values(last_used_at=at)
            )
    except DatabaseFails as error:
        log.warning("key_use_not_noted", error=type(error).__name__)


class RateLimit:
    """How many requests a minute each key may make of this process; 0: any number.

    Replies coming in are not counted: a vendor gives up after a few refusals, and a 退订 would be lost. The
    intake's own bound holds them (`intake_capacity`).
    """

    def __init__(self, per_minute: int) -> None:
        self._limit = RateLimitItemPerMinute(per_minute) if per_minute else None
        self._counter = SlidingWindowCounterRateLimiter(MemoryStorage())

    def wait(self, caller: Caller) -> int:
        """Count a request; return 0, or the whole seconds after which to come again."""
        if self._limit is None or self._counter.hit(self._limit, caller.key_id):
            return 0
        reset = self._counter.get_window_stats(self._limit, caller.key_id).reset_time
        return max(1, math.ceil(reset - time.time()))


def any_exists(connection: Connection) -> bool:
    """Say whether a key was ever made."""
    return connection.scalar(sa.select(tables.api_keys.c.id).limit(1)) is not None


def listing(connection: Connection) -> list[dict[str, Any]]:
    """Return all keys, oldest first, without anything that opens a door."""
    rows = connection.execute(sa.select(tables.api_keys).order_by(tables.api_keys.c.created_at))
    return [{k: v for k, v in row._mapping.items() if k != "hash"} for row in rows]


def revoke(connection: Connection, key_ids: Collection[str]) -> int:
    """Revoke keys by id, for good; return how many were still in force."""
    c = tables.api_keys.c
    in_force = sa.and_(c.id.in_(key_ids), c.revoked_at.is_(None))
    return connection.execute(
        tables.api_keys.update().where(in_force).values(revoked_at=now())
    ).rowcount


def _hash(key: str) -> str:
    return sha256(key.encode()).hexdigest()
