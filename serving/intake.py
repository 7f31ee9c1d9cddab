"""The intake: replies of many callers make one batch, are read in one go and committed in one transaction.

A caller is answered only after its replies are on disk with everything that follows from them. Batching
is what makes that cheap: a hundred replies share one pass of the encoder and one fsync.
"""

import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from threading import Condition, Thread
from typing import Any, Literal

import structlog

from model.classifier import Classifier, Prediction, TextTooLong
from serving.events import InboundReply
from serving.meaning import meant
from serving.metrics import Metrics
from serving.record import Read, record, stored
from serving.store import DatabaseFails, Store, now
from serving.templates import Templates
from serving.traces import OFF, Traces

BATCH = 256
LINGER = 0.003  # seconds a batch waits for company

log = structlog.get_logger()


class IntakeFull(RuntimeError):
    """More replies wait than the service takes; try again shortly. Nothing of the call was taken."""


class IntakeClosed(RuntimeError):
    """The service is stopping; nothing of the call was taken."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one reply.

    stored: recorded now. replayed: recorded before; `decision` is the one made then.
    refused: will never be taken, `why` says so. failed: not recorded, send it again.
    waiting: a part of a message whose other parts have not come; it is on disk.
    """

    message_id: str
    status: Literal["stored", "replayed", "refused", "failed", "waiting"]
    decision: dict[str, Any] = field(default_factory=dict)
    why: str = ""


@dataclass(frozen=True, slots=True)
class _Waiting:
    reply: InboundReply
    answer: "Future[Outcome]"


class Intake:
    """The batcher: one thread, a bounded queue in front of it."""

    def __init__(
        self,
        store: Store,
        classifier: Classifier,
        templates: Templates,
        metrics: Metrics,
        on_commit: Callable[[], None],
        traces: Traces = OFF,
    ) -> None:
        self._store = store
        self._classifier = classifier
        # Reads what the encoder stumbles over: an opt-out keyword still counts, the rest goes to a person.
        self._keywords = Classifier(classifier.bundle, None)
        self._templates = templates
        self._metrics = metrics
        self._on_commit = on_commit
        self._traces = traces
        self._capacity = store.settings.intake_capacity
        self._waiting: deque[_Waiting] = deque()
        self._changed = Condition()
        self._open = False
        self._thread = Thread(target=self._run, name="intake", daemon=True)

    def start(self) -> None:
        self._open = True
        self._thread.start()

    def stop(self) -> None:
        """Take no more, finish what waits."""
        with self._changed:
            self._open = False
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join()

    @property
    def takes_replies(self) -> bool:
        return self._open and self._thread.is_alive()

    def submit(self, replies: Sequence[InboundReply]) -> list[Outcome]:
        """Return an outcome for each reply once all are settled; raise IntakeFull or IntakeClosed at once."""
        waiting = [_Waiting(reply, Future()) for reply in replies]
        with self._changed:
            if not self.takes_replies:
                raise IntakeClosed(
                    "the service takes no replies: it is stopping, or its intake died"
                )
            if len(self._waiting) + len(waiting) > self._capacity:
                raise IntakeFull(
                    f"{self._capacity} replies may wait; no room for {len(waiting)} more"
                )
            self._waiting.extend(waiting)
            self._metrics.waiting.set(len(self._waiting))
            self._changed.notify_all()
        return [w.answer.result() for w in waiting]

    def _run(self) -> None:
        while batch := self._next_batch():
            outcomes = self._settle_safely([w.reply for w in batch])
            self._measure([w.reply for w in batch], outcomes)
            for w, outcome in zip(batch, outcomes, strict=True):
                w.answer.set_result(outcome)

    def _next_batch(self) -> list[_Waiting]:
        """Wait for replies and return up to BATCH of them; none once the intake is stopped and empty."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or not self._open)
            deadline = time.monotonic() + LINGER
            while self._open and len(self._waiting) < BATCH:
                if not self._changed.wait(deadline - time.monotonic()):
                    break
            batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
            self._metrics.waiting.set(len(self._waiting))
            return batch

    def _settle_safely(self, replies: Sequence[InboundReply]) -> list[Outcome]:
        """Settle a batch; where that fails, each reply for itself, so that one cannot sink the others.

        Where the database fails for a single reply as well, it is not asked about the rest: each might wait
        as long for a lock, and the callers of the last would wait for all before them.
        """
        try:
            return self._settle_all(replies)
        except Exception as error:  # whatever it is, the thread must live and the callers must hear
            _tell(error, len(replies))
            if len(replies) == 1:
                return [_failed(replies[0])]
        outcomes: list[Outcome] = []
        for reply in replies:
            try:
                outcomes += self._settle_all([reply])
            except DatabaseFails as error:
                _tell(error, len(replies) - len(outcomes))
                return outcomes + [_failed(r) for r in replies[len(outcomes) :]]
            except Exception as error:
                _tell(error, 1)
                outcomes.append(_failed(reply))
        return outcomes

    def _settle_all(self, replies: Sequence[InboundReply]) -> list[Outcome]:
        with self._traces.span("intake.batch", replies=len(replies)):
            outcomes = self._settle(replies)
        self._on_commit()
        return outcomes

    def _settle(self, replies: Sequence[InboundReply]) -> list[Outcome]:
        keys = [(reply.vendor, self._store.phones.message_id(reply)) for reply in replies]
        with self._store.read() as connection:
            known = stored(connection, list(dict.fromkeys(keys)))
        # A message that stands twice in the batch is recorded once; the second is a replay of the first.
        fresh: dict[tuple[str, str], InboundReply] = {}
        for key, reply in zip(keys, replies, strict=True):
            if key not in known:
                fresh.setdefault(key, reply)
        with self._traces.span("intake.read", replies=len(fresh)):
            read, refused = self._read(fresh)
        with self._traces.span("intake.record", replies=len(read)):
            made = record(self._store, self._classifier, read) if read else []
        fresh_decisions = {
            (r.reply.vendor, r.message_id): decision for r, decision in zip(read, made, strict=True)
        }
        outcomes = []
        for key in keys:
            if key in refused:
                outcomes.append(Outcome(key[1], "refused", why=refused[key]))
            elif key in known:
                outcomes.append(Outcome(key[1], "replayed", known[key]))
            else:
                outcomes.append(Outcome(key[1], "stored", fresh_decisions[key]))
                known[key] = fresh_decisions[key]
        return outcomes

    def _read(
        self, fresh: dict[tuple[str, str], InboundReply]
    ) -> tuple[list[Read], dict[tuple[str, str], str]]:
        """Return what the replies were read as, and why those that cannot be read are refused."""
        read: list[Read] = []
        refused: dict[tuple[str, str], str] = {}
        echoes = self._templates.echoes()
        heard = [echoes.heard(reply.text) for reply in fresh.values()]
        try:
            predictions: list[Prediction | str] = [
                *self._classifier.classify([words.text for words in heard])
            ]
        except Exception:  # one of them, we shall see which
            predictions = [self._read_one(words.text) for words in heard]
        for (key, reply), words, prediction in zip(fresh.items(), heard, predictions, strict=True):
            if isinstance(prediction, str):
                refused[key] = prediction
            else:
                told = meant(reply, words, prediction, self._classifier.bundle)
                read.append(Read(key[1], reply, told, words.subtracted))
        return read, refused

    def _read_one(self, text: str) -> Prediction | str:
        try:
            return self._classifier.classify([text])[0]
        except TextTooLong as error:
            return str(error)
        except (
            Exception
        ) as error:  # fail towards the person who wrote: keywords and a human, not nothing
            log.error("model_failed", error=type(error).__name__)
            return self._keywords.classify([text])[0]

    def _measure(self, replies: Sequence[InboundReply], outcomes: Sequence[Outcome]) -> None:
        at = now()
        for reply, outcome in zip(replies, outcomes, strict=True):
            if outcome.status == "stored":
                action = outcome.decision["action"]
                self._metrics.replies.labels(reply.vendor, action).inc()
                if action in ("suppress", "hold"):
                    seconds = (at - reply.received_at).total_seconds()
                    self._metrics.suppressed.observe(max(0.0, seconds))  # a clock may step back
            elif outcome.status != "replayed":
                self._metrics.refused.labels(reply.vendor).inc()


def _failed(reply: InboundReply) -> Outcome:
    return Outcome(reply.id, "failed", why="not recorded; send it again")


def _tell(error: Exception, replies: int) -> None:
    # The class only: a database driver's message may quote what it choked on.
    log.error("batch_failed", error=type(error).__name__, replies=replies)
