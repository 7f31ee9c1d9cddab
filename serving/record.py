"""What one batch of decisions writes, all in one transaction: replies, receipts, entries, items, events."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from model.classifier import Classifier, Prediction
from serving import receipts, tables, triage
from serving.echoes import Subtracted
from serving.events import InboundReply
from serving.guard import Guard
from serving.phones import masked
from serving.store import Store, now
from serving.suppressions import Ask, Entry, State, Suppressions, Wish

ACTOR = "tingxin"
_STATES: dict[str, State] = {"suppress": "active", "hold": "provisional"}


@dataclass(frozen=True, slots=True)
class Read:
    """A reply with the id it is known by, what it was read as, and what in it is not the person's own."""

    message_id: str
    reply: InboundReply
    prediction: Prediction
    subtracted: tuple[Subtracted, ...] = ()


def stored(
    connection: Connection, wanted: Sequence[tuple[str, str]]
) -> dict[tuple[str, str], dict[str, Any]]:
    """Return the decisions already made on (vendor, message id) pairs, by pair."""
    r = tables.replies.c
    rows = connection.execute(
        sa.select(r.vendor, r.vendor_id, r.decision).where(
            sa.tuple_(r.vendor, r.vendor_id).in_(wanted)
        )
    )
    return {(row.vendor, row.vendor_id): row.decision for row in rows}


def record(store: Store, classifier: Classifier, batch: Sequence[Read]) -> list[dict[str, Any]]:
    """Commit a batch and return its decisions, in order, as callers are answered.

    Raises sqlalchemy.exc.IntegrityError, with nothing written, if another process has just recorded one
    of the messages.
    """
    at = now()
    receipt_ids = [receipts.new_id() for _ in batch]
    decisions, rows, items = [], [], []
    with store.write() as connection, receipts.Chain(connection) as chain:
        suppressions = Suppressions(connection, store, at)
        guard = Guard(connection, chain, store, at)
        guard.meet([read.reply for read in batch])
        allowed = [_allowed(guard, classifier, read) for read in batch]
        touched = _apply(
            suppressions, store.settings.brand_list, [read for read, _ in allowed], receipt_ids
        )
        for (read, said), receipt_id, entries in zip(allowed, receipt_ids, touched, strict=True):
            decision, row, item = _recorded(store, read, receipt_id, entries, said)
            chain.append(receipt_id, _body(decision, row, store, classifier, read), at)
            decisions.append(decision)
            rows.append(row)
            if item is not None:
                items.append(item)
        if items:
            connection.execute(tables.queue.insert(), items)
        connection.execute(tables.replies.insert(), rows)
        guard.keep()
    guard.announce()
    return decisions


def _allowed(
    guard: Guard, classifier: Classifier, read: Read
) -> tuple[Read, dict[str, Any] | None]:
    """Return a reply with what may be done about it, and what the breaker says if that is less."""
    policy, reads = classifier.bundle.policy, classifier.reads_free_text
    prediction, said = guard.passed(read.reply, read.prediction, policy, reads)
    return replace(read, prediction=prediction), said


def _recorded(
    store: Store,
    read: Read,
    receipt_id: str,
    touched: Sequence[Entry],
    breaker: dict[str, Any] | None,
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any] | None]:
    """Return the decision on a reply as callers are answered, the reply's row, and its queue item's if any."""
    reply, prediction = read.reply, read.prediction
    reply_id = f"rp_{uuid4().hex}"
    key = store.phones.key(reply.phone)
    item = triage.item(reply_id, receipt_id, key, reply, prediction)
    due = triage.due_at(prediction, reply)
    decision = prediction.row() | {
        "reply": reply_id,
        "receipt": receipt_id,
        "due_at": due.isoformat() if due else None,
        "resumed": prediction.resumes,
        "subtracted": [stretch.row() for stretch in read.subtracted],
        "entries": [{"id": e.id, "scope": e.scope, "state": e.state} for e in touched],
        "queue_item": None if item is None else item["id"],
        "breaker": breaker,  # None: it let the decision stand
    }
    row = {
        "id": reply_id,
        "vendor": reply.vendor,
        "vendor_id": read.message_id,
        "list": store.settings.brand_list,
        "phone_hmac": key,
        "phone_masked": masked(reply.phone),
        "phone_sealed": store.phones.seal(reply.phone),
        "recipient": reply.to,
        "signature": reply.signature,
        "campaign": reply.campaign,
        "text": reply.text,
        "vendor_time": reply.vendor_time,
        "received_at": reply.received_at,
        "action": prediction.action,
        "decision": decision,
        "receipt_id": receipt_id,
    }
    return decision, row, item


def _body(
    decision: dict[str, Any],
    row: dict[str, Any],
    store: Store,
    classifier: Classifier,
    read: Read,
) -> dict[str, Any]:
    """Return what the receipt says of a reply."""
    reply = read.reply
    body = decision | {
        "kind": "reply",
        "vendor": reply.vendor,
        "vendor_id": read.message_id,
        "phone_hmac": row["phone_hmac"],
        "text_hmac": store.phones.text_key(reply.text),
        "received_at": reply.received_at.isoformat(),
        "vendor_time": reply.vendor_time.isoformat() if reply.vendor_time else None,
    }
    return body | evidence(classifier, read.prediction)


def _apply(
    suppressions: Suppressions, list_name: str, batch: Sequence[Read], receipt_ids: Sequence[str]
) -> list[list[Entry]]:
    """Do to the list what the decisions say, in their order; return the entries that each touched.

    Wishes to block that follow one another are carried out together.
    """
    touched: list[list[Entry]] = [[] for _ in batch]
    asks: dict[int, Ask] = {}

    def block() -> None:
        for k, done in zip(asks, suppressions.block_all([*asks.values()]), strict=True):
            touched[k] = [done.entry]
        asks.clear()

    for k, (read, receipt_id) in enumerate(zip(batch, receipt_ids, strict=True)):
        prediction = read.prediction
        wish = Wish(
            list=list_name,
            phone=read.reply.phone,
            method="model" if prediction.hit is None else "keyword",
            actor=ACTOR,
            reason=prediction.reason,
            receipt_id=receipt_id,
            asked_at=read.reply.asked_at,
            received_at=read.reply.received_at,
        )
        if prediction.resumes:
            block()  # what came before it is what it may release
            touched[k] = suppressions.release(wish)
        elif prediction.scope is not None and prediction.action in _STATES:
            asks[k] = Ask(wish, prediction.scope, _STATES[prediction.action])
    block()
    return touched


def evidence(classifier: Classifier, prediction: Prediction) -> dict[str, Any]:
    """Return what a decision rests on: rule, model, thresholds, and the promise behind them."""
    bundle = classifier.bundle
    thresholds, policy = bundle.calibration.thresholds, bundle.policy
    hit = prediction.hit
    return {
        "bundle": bundle.version,
        "free_text_read": classifier.reads_free_text,
        "rule": None if hit is None else {"effect": hit.effect, "keyword": hit.keyword},
        "thresholds": {
            "labels": thresholds.labels,
            "suppress": thresholds.suppress,
            "hold": thresholds.hold,
        },
        "promise": {"max_wrong": policy.max_wrong, "confidence": policy.confidence},
    }
