"""The outbox: events that must reach the sending platforms, kept until they have.

An event is a CloudEvent without the number. The receiver needs the number to block it, so the row holds
it sealed beside the event; it is put in when the event is sent, and dropped from the row once delivered.
A dead letter keeps it: replayed without it, the letter would say nothing. Neither `id` nor `subject`
carries it, for those end up in logs.

An event is written once, for no target yet, in the transaction of the change. A relay hands it to the
targets that it has (`fan_out`): from there on it is one letter for each, and each fares alone. While
there is no target, events wait, in sight.

A letter is leased to the relay that sends it. If the relay dies between sending and marking, the lease
runs out and the letter is sent again: at least once, and the receiver knows it by its id. Within a
target, letters about one number go out in their order, one at a time.
"""

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from secrets import token_hex
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from serving import tables
from serving.targets import Outcome
from serving.targets.config import Target

What = Literal["created", "updated", "released"]
STATES = ("pending", "delivered", "dead", "superseded", "skipped")
EVENT_TYPE = "cn.tingxin.suppression."
# Seconds before each attempt, after Standard Webhooks 1.0.0: ten attempts over 75.6 hours, then dead.
SCHEDULE = (0, 5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
JITTER = 0.1  # up to this share later, so that a receiver coming back is not met by all at once
LONGEST_WAIT = 86_400  # a receiver may ask for more with Retry-After; it gets a day
LEASE = timedelta(seconds=90)  # a round takes half of it (relay.py)
NOBODY = ""  # the target of an event that was not handed to any yet
REFUSED = "refused: "
FANNED_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Event:
    """A change of one entry, to be told. `data` holds no number."""

    what: What
    entry_id: str
    phone_hmac: str = field(repr=False)
    receipt_id: str
    data: dict[str, Any]
    received_at: datetime


@dataclass(frozen=True, slots=True)
class Letter:
    """An event leased for one target, ready to be sent."""

    seq: int
    id: str
    event: dict[str, Any]
    phone_hmac: str = field(repr=False)
    phone_sealed: str = field(repr=False)
    attempts: int  # made before this one
    received_at: datetime
    leased_until: datetime
    alone: bool  # it was refused in company, and goes by itself


def enqueue(
    connection: Connection,
    letters: Collection[tuple[Event, str]],
    at: datetime,
    target: str = NOBODY,
) -> None:
    """Write events, each with its sealed number, in the transaction of the changes that they tell of.

    For one target only if named.
    """
    connection.execute(
        tables.outbox.insert(), [_letter(event, sealed, at, target) for event, sealed in letters]
    )


def _letter(event: Event, phone_sealed: str, at: datetime, target: str) -> dict[str, Any]:
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
        "target": target,
        "suppression_id": event.entry_id,
        "phone_hmac": event.phone_hmac,
        "receipt_id": event.receipt_id,
        "event": envelope,
        "phone_sealed": phone_sealed,
        "received_at": event.received_at,
        "state": "pending",
        "attempts": 0,
        "next_at": at,
    }


def fan_out(connection: Connection, targets: Collection[Target]) -> None:
    """Hand new events to the targets that they concern, oldest first; what concerns none is skipped.

    Each gets rows of its own in the events' order. The lock makes several relays do it one after the
    other: a later event never gets an earlier place than the one before it.
    """
    table, c = tables.outbox, tables.outbox.c
    events = connection.execute(
        sa.select(table)
        .where(c.target == NOBODY, c.state == "pending")
        .order_by(c.seq)
        .limit(FANNED_AT_ONCE)
        .with_for_update()
    ).all()
    letters: list[dict[str, Any]] = []
    handed: list[int] = []
    skipped: list[int] = []
    for event in events:
        data = event.event["data"]
        takers = [t.name for t in targets if t.takes(data["list"], data["scope"])]
        own = {k: v for k, v in event._mapping.items() if k != "seq"}
        letters += [own | {"target": name} for name in takers]
        (handed if takers else skipped).append(event.seq)
    if handed:
        connection.execute(table.delete().where(c.seq.in_(handed)))
        connection.execute(table.insert(), letters)
    if skipped:
        values = {"state": "skipped", "phone_sealed": None}
        connection.execute(table.update().where(c.seq.in_(skipped)).values(**values))


def _due(at: datetime) -> sa.ColumnElement[bool]:
    """Say which letters it is time for: their hour has come, or they were never tried.

    A letter written before the clock stepped back would else wait for the clock to catch up.
    """
    return sa.or_(tables.outbox.c.next_at <= at, tables.outbox.c.attempts == 0)


def _free(at: datetime) -> sa.ColumnElement[bool]:
    """Say which letters no relay holds. A lease that ends far later than one begun now is of another time.

    Twice as far: the clocks of machines differ, and each keeps its own leases.
    """
    until = tables.outbox.c.leased_until
    return sa.or_(until.is_(None), until <= at, until > at + 2 * LEASE)


def is_due(connection: Connection, target: str, at: datetime) -> bool:
    """Say whether a target has something to do, or an event waits to be handed out; it changes nothing."""
    c = tables.outbox.c
    due = sa.select(c.seq).where(c.state == "pending", c.target.in_((NOBODY, target)), _due(at))
    return connection.scalar(due.limit(1)) is not None


def lease(connection: Connection, target: str, at: datetime, limit: int) -> list[Letter]:
    """Take up to `limit` due letters of a target, at most one per number, oldest first."""
    c, earlier = tables.outbox.c, tables.outbox.alias().c
    is_first = ~sa.exists().where(
        earlier.phone_hmac == c.phone_hmac,
        earlier.target == c.target,
        earlier.state == "pending",
        earlier.seq < c.seq,
    )
    rows = connection.execute(
        sa.select(tables.outbox)
        .where(c.target == target, c.state == "pending", _due(at), _free(at), is_first)
        .order_by(c.seq)
        .limit(limit)
        .with_for_update(skip_locked=True)
    ).all()
    until = at + LEASE
    if rows:
        _update(connection, [row.seq for row in rows], leased_until=until)
    return [
        Letter(
            seq=row.seq,
            id=row.id,
            event=row.event,
            phone_hmac=row.phone_hmac,
            phone_sealed=row.phone_sealed,
            attempts=row.attempts,
            received_at=row.received_at,
            leased_until=until,
            alone=(row.last_error or "").startswith(REFUSED),
        )
        for row in rows
    ]


def give_back(connection: Connection, letters: Sequence[Letter]) -> None:
    """End the lease of letters that were not sent after all."""
    if letters:
        _update(connection, [letter.seq for letter in letters], leased_until=None)


def settle(
    connection: Connection,
    results: Collection[tuple[Letter, Outcome, bool]],
    at: datetime,
) -> None:
    """Mark what came of letters, each sent alone or in company: delivered, to be tried again, or dead."""
    c = tables.outbox.c
    for letter, outcome, was_alone in results:
        # A lapsed lease may have let another relay take it. What that one delivered stays delivered,
        # and only who holds the lease may say that it failed.
        where = [c.seq == letter.seq, c.state == "pending"]
        if outcome.what != "delivered":
            where.append(c.leased_until == letter.leased_until)
        values = _settled(letter, outcome, was_alone, at) | {"leased_until": None}
        connection.execute(tables.outbox.update().where(*where).values(**values))


def _settled(letter: Letter, outcome: Outcome, was_alone: bool, at: datetime) -> dict[str, Any]:
    attempts = letter.attempts + 1
    values: dict[str, Any] = {"attempts": attempts, "last_error": outcome.error[:100] or None}
    if outcome.what == "delivered":
        return values | {"state": "delivered", "delivered_at": at, "phone_sealed": None}
    if outcome.what == "gone":
        # Not the letter's fault: it waits, unspent, until the target is enabled again.
        return values | {"attempts": letter.attempts, "next_at": at}
    if outcome.what == "refused" and not was_alone:
        # One of the call's letters is at fault, perhaps not this one: each shows it by itself.
        error = (REFUSED + outcome.error)[:100]
        return values | {"attempts": letter.attempts, "next_at": at, "last_error": error}
    if outcome.what in ("dead", "refused") or attempts >= len(SCHEDULE):
        return values | {"state": "dead"}
    return values | {"next_at": at + wait(attempts, outcome.retry_after)}


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
    """Free what a relay that died held; only where there can be no other relay."""
    connection.execute(
        tables.outbox.update()
        .where(tables.outbox.c.leased_until.is_not(None))
        .values(leased_until=None)
    )


def oldest_pending(connection: Connection) -> dict[str, datetime]:
    """Return, by target, when the oldest event that has not reached it, dead ones included, was learned of."""
    c = tables.outbox.c
    rows = connection.execute(
        sa.select(c.target, sa.func.min(c.received_at, type_=tables.Moment()))
        .where(c.state.in_(("pending", "dead")))
        .group_by(c.target)
    )
    return {row[0]: row[1] for row in rows}


def counts(connection: Connection) -> dict[tuple[str, str], int]:
    """Return how many letters there are, by target and state."""
    c = tables.outbox.c
    rows = connection.execute(
        sa.select(c.target, c.state, sa.func.count()).group_by(c.target, c.state)
    )
    return {(row[0], row[1]): row[2] for row in rows}


def _update(connection: Connection, seqs: Sequence[int], **values: object) -> None:
    connection.execute(tables.outbox.update().where(tables.outbox.c.seq.in_(seqs)).values(**values))
