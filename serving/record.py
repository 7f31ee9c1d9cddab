"""What one batch of decisions writes, all in one transaction: replies, receipts, entries, items, events."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
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
from serving.suppressions import Entry, Suppressions, Wish

ACTOR = "tingxin"


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
    decisions, rows = [], []
    with store.write() as connection, receipts.Chain(connection) as chain:
        suppressions = Suppressions(connection, store, at)
        guard = Guard(connection, chain, store, at)
        guard.meet([read.reply for read in batch])
        for read in batch:
            decision, row = _record_one(
                connection, chain, suppressions, guard, store, classifier, read, at
            )
            decisions.append(decision)
            rows.append(row)
        connection.execute(tables.replies.insert(), rows)
        guard.keep()
    guard.announce()
    return decisions


def _record_one(
    connection: Connection,
    chain: receipts.Chain,
    suppressions: Suppressions,
    guard: Guard,
    store: Store,
    classifier: Classifier,
    read: Read,
    at: datetime,
) -> tuple[dict[str, Any], dict[str, Any]]:
    reply = read.reply
    prediction, breaker = guard.passed(
        reply, read.prediction, classifier.bundle.policy, classifier.reads_free_text
    )
    read = replace(read, prediction=prediction)
    reply_id, receipt_id = f"rp_{uuid4().hex}", receipts.new_id()
    key = store.phones.key(reply.phone)
    touched = _apply(suppressions, store.settings.brand_list, read, receipt_id)
    item_id = None
    if prediction.queue is not None:
        item_id = triage.put(connection, reply_id, receipt_id, key, reply, prediction)
    due = triage.due_at(prediction, reply)
    decision = prediction.row() | {
        "reply": reply_id,
        "receipt": receipt_id,
        "due_at": due.isoformat() if due else None,
        "resumed": prediction.resumes,
        "subtracted": [stretch.row() for stretch in read.subtracted],
        "entries": [{"id": e.id, "scope": e.scope, "state": e.state} for e in touched],
        "queue_item": item_id,
        "breaker": breaker,  # None: it let the decision stand
    }
    body = decision | {
        "kind": "reply",
        "vendor": reply.vendor,
        "vendor_id": read.message_id,
        "phone_hmac": key,
        "text_hmac": store.phones.text_key(reply.text),
        "received_at": reply.received_at.isoformat(),
        "vendor_time": reply.vendor_time.isoformat() if reply.vendor_time else None,
    }
    chain.append(receipt_id, body | evidence(classifier, prediction), at)
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
    return decision, row


def _apply(suppressions: Suppressions, list_name: str, read: Read, receipt_id: str) -> list[Entry]:
    """Do to the list what the decision says; return the entries it touched."""
    reply, prediction = read.reply, read.prediction
    wish = Wish(
        list=list_name,
        phone=reply.phone,
        method="model" if prediction.hit is None else "keyword",
        actor=ACTOR,
        reason=prediction.reason,
        receipt_id=receipt_id,
        asked_at=reply.asked_at,
        received_at=reply.received_at,
    )
    if prediction.resumes:
        return suppressions.release(wish)
    if prediction.scope is None:
        return []
    if prediction.action == "suppress":
        return [suppressions.block(wish, prediction.scope, "active")]
    if prediction.action == "hold":
        return [suppressions.block(wish, prediction.scope, "provisional")]
    return []


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
