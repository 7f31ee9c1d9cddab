"""The queues: what a person has to look at, and what their verdict does to the list."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from uuid import uuid4

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from model.classifier import Prediction
from model.policy import OPT_OUT
from serving import receipts, tables
from serving.events import InboundReply
from serving.store import Store, now
from serving.suppressions import BLOCKING, Entry, Suppressions, Wish, entries

Outcome = Literal["confirm", "correct", "release"]


class UnknownItem(LookupError):
    """There is no queue item of that id."""


class AlreadyClosed(RuntimeError):
    """Somebody has decided this item already."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A named person's word on one item. `labels` are theirs, for `correct`."""

    outcome: Outcome
    actor: str
    reason: str = field(default="", repr=False)
    labels: tuple[str, ...] = ()


def item(
    reply_id: str,
    receipt_id: str,
    phone_hmac: str,
    reply: InboundReply,
    prediction: Prediction,
) -> dict[str, Any] | None:
    """Return the row that puts a reply before a person, or None where nobody has to see it."""
    if prediction.queue is None:
        return None
    return {
        "id": f"q_{uuid4().hex}",
        "reply_id": reply_id,
        "receipt_id": receipt_id,
        "phone_hmac": phone_hmac,
        "queue": prediction.queue,
        "priority": prediction.priority,
        "action": prediction.action,
        "scope": prediction.scope,
        "state": "open",
        "created_at": reply.received_at,
        "due_at": due_at(prediction, reply),
    }


def due_at(prediction: Prediction, reply: InboundReply) -> datetime | None:
    """Return by when a person has to have acted: counted from our receipt, as the rules count it."""
    return None if prediction.due is None else prediction.due.at(reply.received_at)


def listing(
    connection: Connection, queue: str | None, state: str, limit: int, offset: int
) -> list[dict[str, Any]]:
    """Return items with their texts, the most urgent first."""
    query = _items().where(tables.queue.c.state == state)
    if queue is not None:
        query = query.where(tables.queue.c.queue == queue)
    order = (tables.queue.c.priority, tables.queue.c.due_at, tables.queue.c.id)
    rows = connection.execute(query.order_by(*order).limit(limit).offset(offset))
    return [_shown(row) for row in rows]


def one(connection: Connection, store: Store, item_id: str) -> dict[str, Any]:
    """Return an item with the full number, for the person who has to call back; raise UnknownItem."""
    row = connection.execute(_items().where(tables.queue.c.id == item_id)).one_or_none()
    if row is None:
        raise UnknownItem(item_id)
    phone = store.phones.unseal(row.phone_sealed) if row.phone_sealed else None
    return _shown(row) | {"phone": phone}


def close(store: Store, item_id: str, verdict: Verdict) -> dict[str, Any]:
    """Record a verdict and do what it says to the list; raise UnknownItem or AlreadyClosed.

    `confirm` makes a provisional entry active. `release`, and a correction without opt-out, take back
    what this reply did, unless the entry stands on another reply too. A correction to opt-out blocks.
    """
    at = now()
    with store.write() as connection, receipts.Chain(connection) as chain:
        row = connection.execute(_items().where(tables.queue.c.id == item_id)).one_or_none()
        if row is None:
            raise UnknownItem(item_id)
        if row.state != "open":
            raise AlreadyClosed(item_id)
        receipt_id = receipts.new_id()
        before = _entry(connection, row)
        after = _carry_out(
            Suppressions(connection, store, at), connection, store, row, verdict, receipt_id
        )
        connection.execute(
            tables.queue.update()
            .where(tables.queue.c.id == item_id)
            .values(
                state="done",
                outcome=verdict.outcome,
                labels=list(verdict.labels) if verdict.outcome == "correct" else None,
                actor=verdict.actor,
                reason=verdict.reason,
                closed_at=at,
            )
        )
        body = {
            "kind": "verdict",
            "item": item_id,
            "reply": row.reply_id,
            "decided_in": row.receipt_id,
            "outcome": verdict.outcome,
            "labels": list(verdict.labels),
            "actor": verdict.actor,
            "reason": verdict.reason,
            "entry": after.id if after else None,
            "state_before": before.state if before else None,
            "state_after": after.state if after else None,
        }
        chain.append(receipt_id, body, at)
    return {
        "id": item_id,
        "state": "done",
        "outcome": verdict.outcome,
        "receipt": receipt_id,
        "entry": after.public() if after else None,
    }


def _carry_out(
    suppressions: Suppressions,
    connection: Connection,
    store: Store,
    row: Any,
    verdict: Verdict,
    receipt_id: str,
) -> Entry | None:
    entry = _entry(connection, row)
    says_opt_out = verdict.outcome == "correct" and OPT_OUT in verdict.labels
    scope = row.scope or "marketing"
    left = row.decision.get("breaker")  # what the model wanted, and the breaker left to this person
    if left is not None and row.action == "review":
        says_opt_out = says_opt_out or verdict.outcome == "confirm"
        scope = left["scope"]
    wish = Wish(
        list=row.list,
        phone=store.phones.unseal(row.phone_sealed),
        method="human",
        actor=verdict.actor,
        reason=verdict.reason.strip() or f"人工{verdict.outcome}",
        receipt_id=receipt_id,
        asked_at=row.vendor_time or row.received_at,
        received_at=now(),
    )
    if says_opt_out:
        return suppressions.block(wish, scope, "active")
    if verdict.outcome == "confirm":
        if entry is None or entry.state != "provisional" or row.scope is None:
            return entry
        return suppressions.block(wish, row.scope, "active")
    if entry is None or entry.state not in BLOCKING or not _is_alone(connection, row, entry):
        return entry
    released = suppressions.release(wish, entry.scope)
    return released[0] if released else entry


def _is_alone(connection: Connection, row: Any, entry: Entry) -> bool:
    """Say whether the entry stands on this item's reply only."""
    if entry.state == "active":
        return bool(entry.receipt_id == row.receipt_id)
    others = sa.select(sa.func.count()).where(
        tables.queue.c.phone_hmac == row.phone_hmac,
        tables.queue.c.id != row.id,
        tables.queue.c.state == "open",
        tables.queue.c.action == "hold",
    )
    return not connection.scalar(others)


def _entry(connection: Connection, row: Any) -> Entry | None:
    if row.scope is None:
        return None
    return next(iter(entries(connection, row.list, row.phone_hmac, row.scope)), None)


def _items() -> sa.Select[Any]:
    r = tables.replies.c
    return sa.select(
        tables.queue,
        r.list,
        r.vendor,
        r.phone_masked,
        r.phone_sealed,
        r.text,
        r.signature,
        r.received_at,
        r.vendor_time,
        r.decision,
    ).join(tables.replies, r.id == tables.queue.c.reply_id)


def _shown(row: Any) -> dict[str, Any]:
    return {
        "id": row.id,
        "queue": row.queue,
        "priority": row.priority,
        "due_at": row.due_at.isoformat(),
        "state": row.state,
        "action": row.action,
        "phone_masked": row.phone_masked,
        "text": row.text,
        "signature": row.signature,
        "vendor": row.vendor,
        "received_at": row.received_at.isoformat(),
        "labels": row.decision["labels"],
        "scores": row.decision["scores"],
        "reason": row.decision["reason"],
        "span": row.decision["span"],
        "receipt": row.receipt_id,
        "outcome": row.outcome,
        "corrected_labels": row.labels,
        "actor": row.actor,
    }
