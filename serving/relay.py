"""The relay: takes each target's letters from the outbox and sends them, one thread for each target.

A target that is slow, down or talking nonsense delays its own letters and no others. Within a target
up to AT_ONCE calls are under way, each given TIMEOUT seconds in all, whatever the target does meanwhile.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from threading import Event, Thread

import structlog
from sqlalchemy.engine import Connection

from serving import outbox, suppressions, target_states
from serving.metrics import Metrics
from serving.outbox import Letter
from serving.store import Store, now
from serving.targets import Adapter, Message, Outcome, TargetFault
from serving.targets.config import Target
from serving.targets.opening import open_target
from serving.traces import OFF, Traces

AT_ONCE = 8  # calls under way
ROUND = 32  # calls made together; at 10 s each, eight at once, well within the lease
TIMEOUT = 10.0
POLL = 0.5  # seconds between looks at an outbox that other processes write to as well

log = structlog.get_logger()
Clock = Callable[[], datetime]


class Relay:
    """The workers of all targets. Without a target it does nothing and the events wait, in sight."""

    def __init__(
        self, store: Store, metrics: Metrics, clock: Clock = now, traces: Traces = OFF
    ) -> None:
        """Open the targets; raise TargetFault if one cannot work as configured."""
        self._store = store
        targets = store.settings.all_targets
        self._lanes = [
            _Lane(store, metrics, clock, traces, t, open_target(t), targets) for t in targets
        ]
        if targets:
            with store.write() as connection:
                target_states.register(connection, [t.name for t in targets])

    def start(self) -> None:
        if not self._lanes:
            return
        if self._store.engine.dialect.name == "sqlite":  # one process: whoever held a lease is gone
            with self._store.write() as connection:
                outbox.break_leases(connection)
        for lane in self._lanes:
            lane.thread.start()

    def stop(self) -> None:
        """Finish the calls under way and stop."""
        for lane in self._lanes:
            lane.stopping.set()
            lane.wake.set()
        for lane in self._lanes:
            lane.close()

    def wake(self) -> None:
        """Look at the outbox now: something was committed."""
        for lane in self._lanes:
            lane.wake.set()

    def deliver_due(self) -> int:
        """Make one round of every target, here and now; return how many letters were tried."""
        return sum(lane.deliver_due() for lane in self._lanes)


@dataclass(frozen=True, slots=True)
class _Call:
    """Letters that go to the target in one call."""

    letters: tuple[Letter, ...]
    messages: tuple[Message, ...]
    alone: bool


class _Lane:
    """One target's letters, and the thread that sends them."""

    def __init__(
        self,
        store: Store,
        metrics: Metrics,
        clock: Clock,
        traces: Traces,
        target: Target,
        adapter: Adapter,
        targets: Sequence[Target],
    ) -> None:
        self._store = store
        self._metrics = metrics
        self._clock = clock
        self._traces = traces
        self._target = target
        self._adapter = adapter
        self._targets = targets  # of this process: new events are handed to all of them
        self._runner = asyncio.Runner()
        self.wake = Event()
        self.stopping = Event()
        self.thread = Thread(target=self._run, name=f"push-{target.name}", daemon=True)

    def close(self) -> None:
        if self.thread.ident is None:  # it never ran
            self._close_adapter()
        else:
            self.thread.join()

    def _close_adapter(self) -> None:
        with self._runner as runner:
            runner.run(self._adapter.close())

    def deliver_due(self) -> int:
        """Send one round of due letters and mark what came of them; return how many were tried."""
        at = self._clock()
        with self._store.read() as connection:
            if not outbox.is_due(connection, self._target.name, at):
                return 0
        with self._store.write() as connection:
            outbox.fan_out(connection, self._targets)
            calls, unreadable = self._take(connection, at)
        if not calls and not unreadable:
            return 0
        with self._traces.span("push", target=self._target.name, calls=len(calls)):
            outcomes = self._runner.run(self._send_all(calls))
        results = list(unreadable)
        for call, said in zip(calls, outcomes, strict=True):
            results += [(le, out, call.alone) for le, out in zip(call.letters, said, strict=True)]
        at = self._clock()
        with self._store.write() as connection:
            outbox.settle(connection, results, at)
            self._heed(connection, [outcome for _, outcome, _ in results], at)
        self._measure(results, at)
        return len(results)

    def _take(
        self, connection: Connection, at: datetime
    ) -> tuple[list[_Call], list[tuple[Letter, Outcome, bool]]]:
        """Lease what may be sent now and sort it into calls; beside them, letters that cannot be opened."""
        name, rate = self._target.name, self._target.calls_per_minute
        state = target_states.lock(connection, name)
        if state is None or not state.is_open(at):
            return [], []
        tokens = state.tokens_now(rate, at)
        allowed = int(min(tokens, ROUND))
        if not allowed:
            return [], []
        letters = outbox.lease(connection, name, at, allowed * self._adapter.per_call)
        opened, unreadable = [], []
        blocked = self._blocked(connection, letters)
        for letter in letters:
            try:
                opened.append((letter, self._message(letter, blocked)))
            except Exception as error:  # it is this letter's failed attempt and no other's
                unreadable.append((letter, Outcome("failed", type(error).__name__), True))
        calls = list(_calls(opened, self._adapter.per_call))
        for call in calls[allowed:]:  # letters that go alone need more calls than were reckoned
            outbox.give_back(connection, call.letters)
        calls = calls[:allowed]
        if rate is not None:
            target_states.spend(connection, name, tokens - len(calls), at)
        return calls, unreadable

    def _blocked(self, connection: Connection, letters: Sequence[Letter]) -> set[str]:
        """Return the keys of the numbers that this target is to block, as the lists stand now."""
        if not self._adapter.mirrors_numbers:
            return set()
        keys = {letter.phone_hmac for letter in letters}
        return set(suppressions.blocking(connection, keys, self._target.takes))

    def _message(self, letter: Letter, blocked: set[str]) -> Message:
        state = letter.event["data"]["state"]
        mirrors = self._adapter.mirrors_numbers
        return Message(
            id=letter.id,
            event=letter.event,
            phone=self._store.phones.unseal(letter.phone_sealed),
            blocked=letter.phone_hmac in blocked if mirrors else state != "released",
            at=datetime.fromisoformat(letter.event["time"]),
        )

    async def _send_all(self, calls: Sequence[_Call]) -> list[list[Outcome]]:
        under_way = asyncio.Semaphore(AT_ONCE)

        async def send(call: _Call) -> list[Outcome]:
            async with under_way:
                try:
                    async with asyncio.timeout(TIMEOUT):
                        return await self._adapter.send(call.messages)
                except TargetFault as fault:
                    error = str(fault)
                except Exception as problem:
                    # The class only: the text may quote the URL, and the URL may hold a secret.
                    error = type(problem).__name__
            return [Outcome("failed", error)] * len(call.letters)

        return await asyncio.gather(*map(send, calls))

    def _heed(self, connection: Connection, outcomes: Sequence[Outcome], at: datetime) -> None:
        """Do what the target asked for: send nothing more, or nothing for a while."""
        name = self._target.name
        gone = next((o.error for o in outcomes if o.what == "gone"), None)
        if gone is not None:
            log.error("push_target_disabled", target=name, reason=gone)
            target_states.disable(connection, name, gone, at)
        asked = min(max((o.retry_after for o in outcomes), default=0.0), outbox.LONGEST_WAIT)
        if asked > 0:
            log.warning("push_target_paused", target=name, seconds=asked)
            target_states.pause(connection, name, at + timedelta(seconds=asked))

    def _measure(self, results: Sequence[tuple[Letter, Outcome, bool]], at: datetime) -> None:
        name = self._target.name
        for letter, outcome, _ in results:
            if outcome.what == "delivered":
                latency = max(0.0, (at - letter.received_at).total_seconds())
                self._metrics.pushed.labels(name).observe(latency)
                continue
            self._metrics.push_failures.labels(name).inc()
            log.warning(
                "push_failed",
                target=name,
                letter=letter.id,
                attempt=letter.attempts + 1,
                error=outcome.error,
            )

    def _run(self) -> None:
        while not self.stopping.is_set():
            tried = 0
            try:
                tried = self.deliver_due()
            except Exception as error:  # a locked or lost database; the letters are still in it
                log.error("relay_failed", target=self._target.name, error=type(error).__name__)
            if not tried:
                self.wake.wait(POLL)
                self.wake.clear()
        self._close_adapter()


def _calls(opened: Sequence[tuple[Letter, Message]], per_call: int) -> Iterator[_Call]:
    """Yield letters as calls: those that go alone, then blocks and releases in parts of `per_call`."""

    def kind(pair: tuple[Letter, Message]) -> tuple[bool, bool]:
        return pair[0].alone, pair[1].blocked

    for (alone, _), group in groupby(sorted(opened, key=kind, reverse=True), kind):
        pairs = list(group)
        size = 1 if alone else per_call
        for start in range(0, len(pairs), size):
            letters, messages = zip(*pairs[start : start + size], strict=True)
            yield _Call(letters, messages, alone=len(letters) == 1)
