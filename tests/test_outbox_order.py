"""Whatever fails, whenever and in whichever relay: per number nothing is overtaken, lost, or held up by others."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from tempfile import TemporaryDirectory

import sqlalchemy as sa
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from pydantic import SecretStr

from serving import outbox, tables
from serving.outbox import Event, Letter
from serving.settings import Settings
from serving.store import Store
from serving.targets import Outcome
from serving.targets.config import WebhookTarget

SECRET = SecretStr("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
TARGETS = tuple(WebhookTarget(name=n, url="http://127.0.0.1", secret=SECRET) for n in ("a", "b"))
NUMBERS = st.sampled_from(["one", "two", "three"])
NAMES = st.sampled_from(["a", "b"])


@dataclass
class Model:
    """What ought to be true of one target: what was written, by number, and what arrived, by number."""

    written: dict[str, list[str]] = field(default_factory=dict)
    arrived: dict[str, list[str]] = field(default_factory=dict)


class Ordering(RuleBasedStateMachine):
    """Two relays lease, send, fail, die and settle late; the clock jumps."""

    store: Store

    @initialize()
    def start(self) -> None:
        with self.store.write() as connection:
            connection.execute(tables.outbox.delete())
        self.at = datetime(2026, 1, 1, tzinfo=UTC)
        self.models = {target.name: Model() for target in TARGETS}
        self.held: list[tuple[str, Letter]] = []
        self.events = 0

    @rule(number=NUMBERS)
    def write(self, number: str) -> None:
        self.events += 1
        data = {"list": "default", "scope": "marketing", "state": "active", "n": self.events}
        event = Event("created", f"sp_{self.events}", number, "rc", data, self.at)
        with self.store.write() as connection:
            outbox.enqueue(connection, [(event, "sealed")], self.at)
        for model in self.models.values():
            model.written.setdefault(number, []).append(f"sp_{self.events}")

    @rule(name=NAMES, limit=st.integers(1, 3))
    def lease(self, name: str, limit: int) -> None:
        with self.store.write() as connection:
            outbox.fan_out(connection, TARGETS)
            letters = outbox.lease(connection, name, self.at, limit)
        assert len({letter.phone_hmac for letter in letters}) == len(letters)
        for letter in letters:
            # What a receiver sees, should the call succeed: exactly the next one of the number.
            model = self.models[name]
            arrived = model.arrived.get(letter.phone_hmac, [])
            assert letter.event["subject"] == model.written[letter.phone_hmac][len(arrived)]
        self.held += [(name, letter) for letter in letters]

    @rule(pick=st.integers(0, 10), what=st.sampled_from(["delivered", "failed", "gone", "refused"]))
    def settle(self, pick: int, what: str) -> None:
        if not self.held:
            return
        name, letter = self.held.pop(pick % len(self.held))
        if letter.attempts >= len(outbox.SCHEDULE) - 1:
            what = "delivered"  # dead letters let later ones pass; they are another test's
        with self.store.write() as connection:
            outcome = Outcome(what)  # type: ignore[arg-type]
            outbox.settle(connection, [(letter, outcome, False)], self.at)
        arrived = self.models[name].arrived.setdefault(letter.phone_hmac, [])
        if what == "delivered" and letter.event["subject"] not in arrived:
            arrived.append(letter.event["subject"])

    @rule(pick=st.integers(0, 10))
    def die(self, pick: int) -> None:
        if self.held:
            self.held.pop(pick % len(self.held))

    @rule(seconds=st.sampled_from([1, 6, 100, 400, 90_000]))
    def wait(self, seconds: int) -> None:
        self.at += timedelta(seconds=seconds)

    @invariant()
    def what_arrived_is_a_beginning_of_what_was_written(self) -> None:
        for model in getattr(self, "models", {}).values():
            for number, arrived in model.arrived.items():
                assert arrived == model.written[number][: len(arrived)]

    def teardown(self) -> None:
        """In the end, with a receiver that works, everything arrives."""
        if not hasattr(self, "models"):
            return
        for _ in range(self.events + 2):
            self.at += timedelta(days=2)
            for name in self.models:
                with self.store.write() as connection:
                    outbox.fan_out(connection, TARGETS)
                    letters = outbox.lease(connection, name, self.at, 100)
                    done = [(letter, Outcome("delivered"), True) for letter in letters]
                    outbox.settle(connection, done, self.at)
        with self.store.read() as connection:
            states = set(connection.scalars(sa.select(tables.outbox.c.state)))
        assert states <= {"delivered"}


def test_no_change_of_a_number_overtakes_an_earlier_one() -> None:
    with TemporaryDirectory() as home:
        store = Store.open(Settings(home=home))  # type: ignore[arg-type]

        class OnStore(Ordering):
            pass

        OnStore.store = store
        run_state_machine_as_test(  # type: ignore[no-untyped-call]
            OnStore,
            settings=settings(
                max_examples=40,
                stateful_step_count=30,
                deadline=None,
                suppress_health_check=list(HealthCheck),
                derandomize=True,
                database=None,
            ),
        )
        store.close()
