"""What is known of each target beside its configuration: disabled, paused, how many calls it may be made now.

Kept in the database, so that several relays on it together keep to a target's rate, and a pause or a
disabled target holds for all of them and for the next start.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from serving import tables


@dataclass(frozen=True, slots=True)
class TargetState:
    """A target as the database knows it."""

    name: str
    disabled_at: datetime | None
    reason: str | None
    paused_until: datetime | None
    tokens: float
    tokens_at: datetime | None

    def is_open(self, at: datetime) -> bool:
        """Say whether it may be called."""
        return self.disabled_at is None and (self.paused_until is None or self.paused_until <= at)

    def tokens_now(self, calls_per_minute: int | None, at: datetime) -> float:
        """Return how many calls may be made now: a token bucket.

        It holds a tenth of the minute's calls and is refilled by the rest, so that no minute sees more
        than `calls_per_minute`, wherever it begins.

        >>> at = datetime(2026, 1, 1)
        >>> fresh = TargetState("twilio", None, None, None, 0, None)
        >>> fresh.tokens_now(100, at)
        10.0
        >>> spent = TargetState("twilio", None, None, None, 0, at)
        >>> spent.tokens_now(100, datetime(2026, 1, 1, 0, 0, 4))
        6.0
        """
        if calls_per_minute is None:
            return float("inf")
        size = max(1.0, calls_per_minute / 10)
        if self.tokens_at is None:
            return size
        passed = max(0.0, (at - self.tokens_at).total_seconds())
        refill = max(calls_per_minute - size, calls_per_minute / 2) / 60
        return min(size, self.tokens + passed * refill)


def register(connection: Connection, names: Iterable[str]) -> None:
    """Make sure that each target has its row."""
    known = set(connection.scalars(sa.select(tables.push_targets.c.name)))
    for name in names:
        if name in known:
            continue
        try:
            with connection.begin_nested():
                connection.execute(tables.push_targets.insert(), {"name": name, "tokens": 0})
        except IntegrityError:  # another process starts too
            continue


def states(connection: Connection) -> dict[str, TargetState]:
    """Return what is known of every target that ever was, by name."""
    rows = connection.execute(sa.select(tables.push_targets).order_by(tables.push_targets.c.name))
    return {row.name: TargetState(**row._mapping) for row in rows}


def lock(connection: Connection, name: str) -> TargetState | None:
    """Return a target's state, held until the transaction ends; None if another relay holds it."""
    c = tables.push_targets.c
    row = connection.execute(
        sa.select(tables.push_targets).where(c.name == name).with_for_update(skip_locked=True)
    ).one_or_none()
    return None if row is None else TargetState(**row._mapping)


def spend(connection: Connection, name: str, tokens: float, at: datetime) -> None:
    """Note how many calls are left."""
    _update(connection, name, tokens=tokens, tokens_at=at)


def pause(connection: Connection, name: str, until: datetime) -> None:
    """Call the target no more until then, as it asked."""
    _update(connection, name, paused_until=until)


def disable(connection: Connection, name: str, reason: str, at: datetime) -> bool:
    """Send a target nothing more until an operator enables it; return whether there is such a target."""
    return _update(connection, name, disabled_at=at, reason=reason[:100])


def enable(connection: Connection, name: str) -> bool:
    """Send to a target again, at once; return whether there is such a target."""
    return _update(connection, name, disabled_at=None, reason=None, paused_until=None)


def _update(connection: Connection, name: str, **values: object) -> bool:
    table = tables.push_targets
    return (
        connection.execute(table.update().where(table.c.name == name).values(**values)).rowcount > 0
    )
