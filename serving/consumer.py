"""What becomes of a broker's messages: read, handed to the intake, settled; whichever broker it is.

A message may be acknowledged when `take` returns: all its replies are on disk then, or it is known that they
never will be, and why. Until then it waits: for room in the intake, for a database that is away. A message
that comes again, after a crash between the commit and the acknowledgement, is known by its replies' ids.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from threading import Event

import sqlalchemy as sa
import structlog
from sqlalchemy.exc import SQLAlchemyError

from serving import tables
from serving.events import Callback, InboundReply, MalformedCallback, Parsed
from serving.intake import IntakeClosed, IntakeFull
from serving.service import Service
from serving.settings import VendorName
from serving.store import now

CHUNK = 1000  # replies handed to the intake at once, as from a caller over HTTP
SHORTEST, LONGEST = 0.05, 5.0  # seconds between tries, doubling
TRIES = 5  # of one reply that the database refuses although it writes others

log = structlog.get_logger()


class PutOff(Exception):
    """The consumer is stopping; the message is not settled and shall not be acknowledged."""


@dataclass(frozen=True, slots=True)
class Message:
    """A message as the broker holds it.

    `position` names its place there, the same at every delivery; "" where the broker has no such thing.
    """

    body: bytes = field(repr=False)
    position: str = ""


class Consumer:
    """Takes messages to the service; may be shared by threads."""

    def __init__(self, service: Service, vendor: VendorName = "generic") -> None:
        self._service = service
        self._vendor: VendorName = vendor
        self._stopping = Event()

    @property
    def vendor(self) -> VendorName:
        return self._vendor

    @property
    def is_stopping(self) -> bool:
        return self._stopping.is_set()

    def stop(self) -> None:
        """Let what waits be put off: it stays with the broker."""
        self._stopping.set()

    def take(self, messages: Sequence[Message]) -> list[str]:
        """Return why each message, or part of it, cannot be taken ("": all of it was), once all is settled.

        Raises PutOff while stopping. The reasons hold no content.
        """
        replies: list[tuple[int, int, InboundReply]] = []  # message, entry, reply
        faults: list[dict[int, str]] = [{} for _ in messages]
        for number, message in enumerate(messages):
            try:
                parsed = self._parse(message)
            except MalformedCallback as fault:
                faults[number][-1] = str(fault)
                continue
            faults[number] = {fault.position: fault.why for fault in parsed.faults}
            entries = range(len(parsed.replies) + len(parsed.faults))
            sound = (entry for entry in entries if entry not in faults[number])
            for entry, reply in zip(sound, parsed.replies, strict=True):
                replies.append((number, entry, _named(reply, message, entry)))
        refused = sum(map(len, faults))
        self._service.metrics.refused.labels(self._vendor).inc(refused)
        size = min(CHUNK, self._service.settings.intake_capacity)
        for start in range(0, len(replies), size):
            chunk = replies[start : start + size]
            for (number, entry, _), why in zip(
                chunk, self._settled([reply for *_, reply in chunk]), strict=True
            ):
                if why:
                    faults[number][entry] = why
        return ["; ".join(_told(entry, why) for entry, why in sorted(f.items())) for f in faults]

    def _parse(self, message: Message) -> Parsed:
        """Read a message as the vendor's callback; who may write to the broker is the broker's to say."""
        is_json = message.body.lstrip()[:1] in (b"{", b"[")
        kind = "application/json" if is_json else "application/x-www-form-urlencoded"
        headers = {"content-type": kind}
        callback = Callback("POST", "", headers, message.body, now())
        return self._service.vendors[self._vendor].parse(callback)

    def _settled(self, replies: Sequence[InboundReply]) -> list[str]:
        """Return why each reply is refused for good, "" where it is on disk; wait until all are settled."""
        whys = dict.fromkeys(range(len(replies)), "")
        left = list(whys)
        pause, tries = SHORTEST, 0
        while left:
            try:
                outcomes = self._service.submit([replies[k] for k in left])
            except (
                IntakeFull
            ):  # the broker is what holds the rest back: nothing more is read meanwhile
                pass
            except IntakeClosed as closed:
                raise PutOff(str(closed)) from None
            except SQLAlchemyError as error:  # of a part of a long message
                log.error("message_waits", why=type(error).__name__)
            else:
                found = dict(zip(left, outcomes, strict=True))
                whys |= {k: o.why or o.status for k, o in found.items() if o.status == "refused"}
                left = [k for k, o in found.items() if o.status == "failed"]
                tries += 1
                if left and tries >= TRIES and self._writes():
                    return [*(whys | dict.fromkeys(left, "the database refuses it")).values()]
            if left:
                if self._stopping.wait(pause):
                    raise PutOff("the consumer is stopping")
                pause = min(2 * pause, LONGEST)
        return [*whys.values()]

    def _writes(self) -> bool:
        """Tell whether the database takes anything at all; if not, it is no fault of a reply."""
        row = tables.installation
        try:
            with self._service.store.write() as connection:
                connection.execute(sa.update(row).values(id=row.c.id))
        except SQLAlchemyError:
            return False
        return True


def _named(reply: InboundReply, message: Message, entry: int) -> InboundReply:
    """Give a reply that neither id nor time tells from another the id of its place in the stream.

    The body is part of it: a topic that is made anew counts from 0 again.
    """
    if reply.id or reply.vendor_time is not None or not message.position:
        return reply
    digest = sha256(f"{message.position}\0{entry}\0".encode() + message.body).hexdigest()
    return replace(reply, id=f"stream-{digest[:32]}")


def _told(entry: int, why: str) -> str:
    return why if entry < 0 else f"entry {entry}: {why}"
