"""The outbox: events that must reach the sending platform, kept until they have.

An event is a CloudEvent without the number. The receiver needs the number to block it, so the row holds
it sealed beside the event; it is put in when the event is sent, and dropped from the row once delivered.
A dead letter keeps it: replayed without it, the letter would say nothing. Neither `id` nor `subject`
carries it, for those end up in logs.

A row is leased to the worker that sends it. If the worker dies between sending and marking, the lease
runs out and the event is sent again: at least once, and the receiver knows it by its id. Events about
one entry go out in their order, one at a time.
"""

import random
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from secrets import token_hex
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from serving import tables

What = Literal["created", "updated", "released"]
EVENT_TYPE = "cn.tingxin.suppression."
# Seconds before each attempt, after Standard Webhooks 1.0.0: ten attempts over 75.6 hours, then dead.
SCHEDULE = (0, 5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
JITTER = 0.1  # up to this share later, so that a receiver coming back is not met by all at once
LONGEST_WAIT = 86_400  # a receiver may ask for more with Retry-After; it gets a day
LEASE = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class Event:
    """A change of one entry, to be told. `data` holds no number."""

    what: What
    entry_id: str
    receipt_id: str
    data: dict[str, Any]
    received_at: datetime


@dataclass(frozen=True, slots=True)
class Letter:
    """A leased row, ready to be sent."""

    id: str
    event: dict[str, Any]
    phone_sealed: str = field(repr=False)
    attempts: int  # made before this one
    received_at: datetime


@dataclass(frozen=True, slots=True)
class Delivery:
    """What came of sending a letter: delivered, or why not and how long the receiver asks us to wait."""

    letter: Letter
    delivered: bool
    error: str = ""
    retry_after: float = 0.0
    gone: bool = False  # the receiver answered 410: it wants nothing more


def enqueue(connection: Connection, letters: Collection[tuple[Event, str]], at: datetime) -> None:
    """Write events, each with its sealed number, in the transaction of the changes that they tell of."""
    connection.execute(
        tables.outbox.insert(), [_letter(event, sealed, at) for event, sealed in letters]
    )


def _letter(event: Event, phone_sealed: str, at: datetime) -> dict[str, Any]:
    event_id = f"evt_{token_hex(16)}"
    envelope = {
        "specversion": "1.0",
        "id": event_id,
        "source": f"/tingxin/lists/{event.data['list']}",
        "type": EVENT_TYPE + event.what,
        "subject": event.entry_id,
        "time": at.isoformat(),
        "datacontenttype": "application/json",
        "data": event.data,
    }
    return {
        "id": event_id,
        "suppression_id": event.entry_id,
        "receipt_id": event.receipt_id,
        "event": envelope,
        "phone_sealed": phone_sealed,
        "received_at": event.received_at,
        "state": "pending",
        "attempts": 0,
        "next_at": at,
    }


def lease(connection: Connection, at: datetime, limit: int) -> list[Letter]:
    """Take up to `limit` due letters, at most one per entry, oldest first."""
    c, earlier = tables.outbox.c, tables.outbox.alias().c
    is_first = ~sa.exists().where(
        earlier.suppression_id == c.suppression_id, earlier.seq < c.seq, earlier.state == "pending"
    )
    rows = connection.execute(
        sa.select(tables.outbox)
        .where(c.state == "pending", c.next_at <= at, is_first)
        .where(sa.or_(c.leased_until.is_(None), c.leased_until <= at))
        .order_by(c.seq)
        .limit(limit)
        .with_for_update(skip_locked=True)
    ).all()
    if rows:
        connection.execute(
            tables.outbox.update()
            .where(c.id.in_([row.id for row in rows]))
            .values(leased_until=at + LEASE)
        )
    return [
        Letter(row.id, row.event, row.phone_sealed, row.attempts, row.received_at) for row in rows
    ]


def settle(connection: Connection, deliveries: Collection[Delivery], at: datetime) -> None:
    """Mark what came of the letters: delivered, to be tried again, or dead."""
    c = tables.outbox.c
    for delivery in deliveries:
        attempts = delivery.letter.attempts + 1
        values: dict[str, Any] = {
            "attempts": attempts,
            "leased_until": None,
            "last_error": delivery.error[:100] or None,
        }
        if delivery.delivered:
            values |= {"state": "delivered", "delivered_at": at, "phone_sealed": None}
        elif delivery.gone:
            # Not the letter's fault: it waits, unspent, until the target is enabled again.
            values |= {"attempts": delivery.letter.attempts, "next_at": at}
        elif attempts >= len(SCHEDULE):
            values |= {"state": "dead"}
        else:
            values |= {"next_at": at + wait(attempts, delivery.retry_after)}
        # A lapsed lease may have let another worker deliver it: what is delivered stays so.
        pending = sa.and_(c.id == delivery.letter.id, c.state == "pending")
        connection.execute(tables.outbox.update().where(pending).values(**values))


def wait(attempts: int, retry_after: float = 0.0) -> timedelta:
    """Return how long to wait after so many attempts, or as long as the receiver asks if that is more.

    >>> timedelta(seconds=5) <= wait(1) <= timedelta(seconds=5.5)
    True
    >>> wait(1, retry_after=120) >= timedelta(seconds=120)
    True
    """
    seconds = SCHEDULE[attempts] * (1 + JITTER * random.random())
    return timedelta(seconds=max(seconds, min(retry_after, LONGEST_WAIT)))


def break_leases(connection: Connection) -> None:
    """Free what a worker that died held; only where there can be no other worker."""
    connection.execute(
        tables.outbox.update()
        .where(tables.outbox.c.leased_until.is_not(None))
        .values(leased_until=None)
    )


def dead_letters(connection: Connection, limit: int = 1000) -> list[dict[str, Any]]:
    """Return the events that were given up, oldest first, with the last error."""
    c = tables.outbox.c
    rows = connection.execute(
        sa.select(tables.outbox).where(c.state == "dead").order_by(c.seq).limit(limit)
    )
    return [
        {
            "event": row.id,
            "type": row.event["type"],
            "entry": row.suppression_id,
            "receipt": row.receipt_id,
            "time": row.event["time"],
            "attempts": row.attempts,
            "last_error": row.last_error,
        }
        for row in rows
    ]


def replay(
    connection: Connection, at: datetime, event_ids: Collection[str] = ()
) -> tuple[int, int]:
    """Send dead letters (all, or those named) anew; return how many go out and how many are superseded.

    A letter about an entry that has changed since is not sent: it would undo the later change at the
    receiver. To replay is also to say that the receiver is well: a target that was disabled by its 410
    is enabled again.
    """
    c, later = tables.outbox.c, tables.outbox.alias().c
    chosen = c.state == "dead"
    if event_ids:
        chosen = sa.and_(chosen, c.id.in_(event_ids))
    has_later = sa.exists().where(later.suppression_id == c.suppression_id, later.seq > c.seq)
    superseded = connection.execute(
        tables.outbox.update()
        .where(chosen, has_later)
        .values(state="superseded", phone_sealed=None)
    )
    sent = connection.execute(
        tables.outbox.update()
        .where(chosen)
        .values(state="pending", attempts=0, next_at=at, leased_until=None)
    )
    connection.execute(tables.push_targets.update().values(disabled_at=None, reason=None))
    return sent.rowcount, superseded.rowcount


def oldest_pending(connection: Connection) -> datetime | None:
    """Return when the oldest event that has not reached the receiver, dead ones included, was learned of."""
    c = tables.outbox.c
    waiting = c.state.in_(("pending", "dead"))
    return connection.scalar(
        sa.select(c.received_at).where(waiting).order_by(c.received_at).limit(1)
    )


def counts(connection: Connection) -> dict[str, int]:
    """Return how many events there are in each state."""
    c = tables.outbox.c
    rows = connection.execute(sa.select(c.state, sa.func.count()).group_by(c.state))
    return {row[0]: row[1] for row in rows}
