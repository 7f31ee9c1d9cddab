"""Receipts: one per decision, each bound to the one before it, so that none can be changed or taken out.

    digest = SHA-256(canonical JSON of the body)
    hash = SHA-256(previous hash + "\\n" + digest), both in hexadecimal

The body is stored as the very text that was hashed. It holds keyed hashes of the number and the text,
never themselves, and so may be kept, shown and exported after the text's own retention has ended. Its digest
stands in for it where one person's receipts are shown in their places and others' are not (`dossier.py`).
Receipts up to `chain.plain_until` are from before: there the body itself stands in place of its digest.
"""

import json
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from types import TracebackType
from typing import Any
from uuid import uuid4

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from serving import tables


def canonical(body: dict[str, Any]) -> str:
    """Return the one JSON text of a body.

    >>> canonical({"动作": "suppress", "a": 1})
    '{"a":1,"动作":"suppress"}'
    """
    return json.dumps(body, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def digest(body: str) -> str:
    """Return what stands for a body in the chain."""
    return sha256(body.encode()).hexdigest()


def chained(previous: str, what: str) -> str:
    """Return the hash of what follows a receipt with hash `previous`: a body's digest."""
    return sha256(f"{previous}\n{what}".encode()).hexdigest()


def new_id() -> str:
    return f"rc_{uuid4().hex}"


class Chain:
    """The open end of the chain, locked for one transaction: `with Chain(connection) as chain`.

    Its lock puts all writers in one order, also between processes on PostgreSQL; that is what makes the
    cursors of the change feed grow in the order in which they become visible.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._new: list[dict[str, Any]] = []

    def __enter__(self) -> "Chain":
        head = sa.select(tables.chain.c.seq, tables.chain.c.hash).with_for_update()
        self._seq, self._hash = self._connection.execute(head).one()
        return self

    def append(self, receipt_id: str, body: dict[str, Any], at: datetime) -> None:
        """Add a receipt; it is written when the block ends."""
        text = canonical({"id": receipt_id, "at": at.isoformat(), **body})
        following = chained(self._hash, digest(text))
        self._seq += 1
        self._new.append(
            {
                "id": receipt_id,
                "seq": self._seq,
                "prev_hash": self._hash,
                "hash": following,
                "body": text,
                "created_at": at,
            }
        )
        self._hash = following

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None and self._new:
            self._connection.execute(tables.receipts.insert(), self._new)
            self._connection.execute(tables.chain.update().values(seq=self._seq, hash=self._hash))


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the chain holds; if not, the number of the first receipt at fault and what is wrong."""

    checked: int
    fault_at: int | None = None
    fault: str = ""
    number: int = 0  # of the last receipt
    hash: str = (
        ""  # of the last receipt: whoever has noted it can tell a chain that was written anew
    )

    @property
    def holds(self) -> bool:
        return self.fault_at is None


def verify(connection: Connection) -> Verdict:
    """Walk the whole chain from its beginning to its head.

    It begins after what was purged (`retention.py`); a receipt that is kept must speak of that purge.
    """
    head = connection.execute(sa.select(tables.chain)).one()
    previous, seq, purged = head.base_hash, head.base_seq, 0
    query = sa.select(tables.receipts).order_by(tables.receipts.c.seq)
    with connection.execute(query, execution_options={"yield_per": 1000}) as rows:
        for row in rows:
            if row.seq != seq + 1:
                return Verdict(seq, seq + 1, "is missing")
            seq = row.seq
            if row.prev_hash != previous or row.hash != _following(previous, row, head):
                return Verdict(seq - 1, seq, "was changed after it was written")
            body = json.loads(row.body)
            if body["id"] != row.id:
                return Verdict(seq - 1, seq, "was given another receipt's id")
            if body.get("kind") == "purge":
                purged = body["base"]
            previous = row.hash
    if head.base_seq != purged:
        return Verdict(seq, head.base_seq, "is missing: no receipt speaks of its purge")
    if (head.seq, head.hash) != (seq, previous):
        return Verdict(seq, seq + 1, "is missing: the chain's head knows of more")
    return Verdict(seq - head.base_seq, number=seq, hash=previous)


def _following(previous: str, row: Any, head: Any) -> str:
    return chained(previous, row.body if row.seq <= head.plain_until else digest(row.body))


def read(connection: Connection, receipt_id: str) -> dict[str, Any] | None:
    """Return a receipt with its hashes and what became of its pushes, or None if there is none."""
    row = connection.execute(
        sa.select(tables.receipts).where(tables.receipts.c.id == receipt_id)
    ).one_or_none()
    if row is None:
        return None
    box = tables.outbox.c
    pushes = connection.execute(
        sa.select(box.id, box.target, box.state, box.attempts, box.delivered_at, box.last_error)
        .where(box.receipt_id == receipt_id)
        .order_by(box.seq)
    )
    return {
        "receipt": json.loads(row.body),
        "number": row.seq,
        "previous_hash": row.prev_hash,
        "hash": row.hash,
        "pushes": [
            {
                "event": p.id,
                "target": p.target,
                "state": p.state,
                "attempts": p.attempts,
                "delivered_at": p.delivered_at.isoformat() if p.delivered_at else None,
                "last_error": p.last_error,
            }
            for p in pushes
        ],
    }
