"""Dead letters: what was given up, kept in sight until somebody replays it."""

from collections.abc import Collection
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from serving import tables


def listing(
    connection: Connection, target: str | None = None, limit: int = 1000
) -> list[dict[str, Any]]:
    """Return the letters that were given up, oldest first, with the last error."""
    c = tables.outbox.c
    query = sa.select(tables.outbox).where(c.state == "dead").order_by(c.seq).limit(limit)
    if target is not None:
        query = query.where(c.target == target)
    return [_shown(row) for row in connection.execute(query)]


def one(connection: Connection, event_id: str) -> list[dict[str, Any]]:
    """Return a dead letter in full, once for each target that has not got it; number masked."""
    c, entry = tables.outbox.c, tables.suppressions.c
    rows = connection.execute(
        sa.select(tables.outbox, entry.phone_masked)
        .join(tables.suppressions, entry.id == c.suppression_id, isouter=True)
        .where(c.state == "dead", c.id == event_id)
        .order_by(c.seq)
    )
    return [
        _shown(row)
        | {
            "phone_masked": row.phone_masked,
            "received_at": row.received_at.isoformat(),
            "cloud_event": row.event,
        }
        for row in rows
    ]


def replay(
    connection: Connection,
    at: datetime,
    event_ids: Collection[str] = (),
    target: str | None = None,
) -> tuple[int, int]:
    """Send dead letters (all, or those named) anew; return how many go out and how many are superseded.

    A letter about an entry that has changed since is not sent: it would undo the later change at the
    receiver. A target that is disabled stays so until it is enabled.
    """
    c, later = tables.outbox.c, tables.outbox.alias().c
    chosen = [c.state == "dead"]
    if event_ids:
        chosen.append(c.id.in_(event_ids))
    if target is not None:
        chosen.append(c.target == target)
    has_later = sa.exists().where(
        later.suppression_id == c.suppression_id, later.target == c.target, later.seq > c.seq
    )
    superseded = connection.execute(
        tables.outbox.update()
        .where(*chosen, has_later)
        .values(state="superseded", phone_sealed=None)
    )
    sent = connection.execute(
        tables.outbox.update()
        .where(*chosen)
        .values(state="pending", attempts=0, next_at=at, leased_until=None, last_error=None)
    )
    return sent.rowcount, superseded.rowcount


def _shown(row: Row[Any]) -> dict[str, Any]:
    return {
        "event": row.id,
        "target": row.target,
        "type": row.event["type"],
        "entry": row.suppression_id,
        "receipt": row.receipt_id,
        "time": row.event["time"],
        "attempts": row.attempts,
        "last_error": row.last_error,
    }
