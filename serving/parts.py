"""Long messages that come in parts: kept on disk until they are whole, then read as one.

A part is acknowledged once it is on disk. When the last one comes the message goes to the intake; one
whose rest stays away is read as it is after WAIT, with … where parts are missing, so that nothing is lost. Of a
part that was read only its id is kept, for KEPT, so that one delivered again is known. The joined message's
id is made of its parts' ids: read twice, after a crash between reading and noting it, it is recorded once.
"""

from collections.abc import Callable, Sequence
from datetime import timedelta
from hashlib import sha256
from threading import Event, Thread
from typing import Any
from uuid import uuid4

import sqlalchemy as sa
import structlog
from sqlalchemy.engine import Connection

from serving import tables
from serving.events import InboundReply, Part
from serving.intake import IntakeClosed, IntakeFull, Outcome
from serving.store import Store, now

WAIT = timedelta(seconds=60)  # from the first part; phones and carriers send them within seconds
KEPT = timedelta(days=3)  # vendors send again for a day
SWEEP = 2.0  # seconds between looks

log = structlog.get_logger()


class Parts:
    """The parts that wait, and the thread that reads what has waited long enough."""

    def __init__(
        self, store: Store, submit: Callable[[Sequence[InboundReply]], list[Outcome]]
    ) -> None:
        self._store = store
        self._submit = submit
        self._stopping = Event()
        self._thread = Thread(target=self._run, name="parts", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Read no more; what waits is on disk, and is read after the next start."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def take(self, reply: InboundReply, part: Part) -> Outcome:
        """Keep a part; return what became of its message, or `waiting` until the rest is there."""
        part_id = self._store.phones.message_id(reply)
        p = tables.parts.c
        with self._store.write() as connection:
            # One writer at a time, also between processes: two parts that come at once must meet.
            connection.execute(sa.select(tables.chain.c.seq).with_for_update())
            known = connection.scalar(
                sa.select(p.message).where(p.vendor == reply.vendor, p.vendor_id == part_id)
            )
            if known is not None:
                return Outcome(part_id, "waiting")
            message = self._put(connection, reply, part, part_id)
            numbers = sa.select(sa.func.count()).where(p.message == message)
            is_whole = connection.scalar(numbers) == part.total
        return (self._read(message) if is_whole else None) or Outcome(part_id, "waiting")

    def sweep(self) -> int:
        """Read whole messages that were left, and incomplete ones that waited; return how many."""
        p, at = tables.parts.c, now()
        first = sa.func.min(p.received_at)
        due = (
            sa.select(p.message)
            .where(p.read_at.is_(None))
            .group_by(p.message)
            .having(sa.or_(first <= at - WAIT, sa.func.count() == sa.func.max(p.total)))
        )
        with self._store.read() as connection:
            messages = list(connection.scalars(due))
        read = sum(self._read(message) is not None for message in messages)
        old = sa.and_(p.read_at.is_not(None), p.read_at < at - KEPT)
        with self._store.read() as connection:
            has_old = connection.scalar(sa.select(p.id).where(old).limit(1)) is not None
        if has_old:
            with self._store.write() as connection:
                connection.execute(tables.parts.delete().where(old))
        return read

    def _put(self, connection: Connection, reply: InboundReply, part: Part, part_id: str) -> str:
        """Store a part with the waiting message that lacks it, or as the first of a new one."""
        p, sender = tables.parts.c, self._store.phones.key(reply.phone)
        siblings = connection.execute(
            sa.select(p.message, p.number)
            .where(
                p.vendor == reply.vendor,
                p.phone_hmac == sender,
                p.recipient == reply.to,
                p.ref == part.ref,
                p.total == part.total,
                p.read_at.is_(None),
            )
            .order_by(p.received_at, p.id)
        ).all()
        # A phone counts its messages to 255 and begins again: the same number twice is another message.
        taken = {s.message for s in siblings if s.number == part.number}
        lacking = (s.message for s in siblings if s.message not in taken)
        message = next(lacking, f"pm_{uuid4().hex}")
        values = {
            "id": f"pt_{uuid4().hex}",
            "message": message,
            "vendor": reply.vendor,
            "vendor_id": part_id,
            "phone_hmac": sender,
            "phone_sealed": self._store.phones.seal(reply.phone),
            "recipient": reply.to,
            "ref": part.ref,
            "number": part.number,
            "total": part.total,
            "text": reply.text,
            "signature": reply.signature,
            "vendor_time": reply.vendor_time,
            "received_at": reply.received_at,
        }
        connection.execute(tables.parts.insert(), values)
        return message

    def _read(self, message: str) -> Outcome | None:
        """Give a message to the intake; return None, and leave it waiting, if that did not work."""
        p = tables.parts.c
        query = sa.select(tables.parts).where(p.message == message, p.read_at.is_(None))
        with self._store.read() as connection:
            rows = connection.execute(query.order_by(p.number)).all()
        if not rows:  # another process has just read it
            return None
        if len(rows) < rows[0].total:
            log.warning(
                "message_incomplete", vendor=rows[0].vendor, got=len(rows), of=rows[0].total
            )
        try:
            [outcome] = self._submit([self._joined(rows)])
        except (IntakeFull, IntakeClosed):
            return None
        if outcome.status in ("failed", "refused"):
            log.error("message_not_read", vendor=rows[0].vendor, status=outcome.status)
            return None
        with self._store.write() as connection:
            ids = [row.id for row in rows]
            done = {"read_at": now(), "text": "", "phone_sealed": "", "signature": ""}
            connection.execute(tables.parts.update().where(p.id.in_(ids)).values(**done))
        return outcome

    def _joined(self, rows: Sequence[Any]) -> InboundReply:
        first = rows[0]
        times = [row.vendor_time for row in rows if row.vendor_time is not None]
        ids = "\0".join(sorted(row.vendor_id for row in rows))
        return InboundReply(
            vendor=first.vendor,
            id=f"parts-{sha256(ids.encode()).hexdigest()[:32]}",
            phone=self._store.phones.unseal(first.phone_sealed),
            text=joined({row.number: row.text for row in rows}, first.total),
            received_at=min(row.received_at for row in rows),
            vendor_time=min(times, default=None),
            to=first.recipient,
            signature=first.signature,
        )

    def _run(self) -> None:
        while not self._stopping.wait(SWEEP):
            try:
                self.sweep()
            except Exception as error:  # a locked or lost database; the parts are still in it
                log.error("parts_failed", error=type(error).__name__)


def joined(texts: dict[int, str], total: int) -> str:
    """Return the parts 1 … total in order, … for each stretch that is missing.

    >>> joined({3: "了", 1: "别再"}, 4), joined({2: "发了", 1: "别再"}, 2)
    ('别再…了…', '别再发了')
    """
    pieces: list[str] = []
    for number in range(1, total + 1):
        piece = texts.get(number, "…")
        if piece != "…" or number in texts or pieces[-1:] != ["…"]:
            pieces.append(piece)
    return "".join(pieces)
