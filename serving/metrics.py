"""What the service measures, by its Prometheus names."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from serving import guard, outbox, target_states
from serving.store import Store, now

_LATENCY = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3600, 86_400)


class Metrics:
    """One service's metrics, in a registry of its own so that two services can live in one process."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.replies = Counter(
            "replies", "Replies taken in", ["vendor", "action"], registry=registry
        )
        self.refused = Counter(
            "replies_refused", "Replies that could not be taken in", ["vendor"], registry=registry
        )
        self.suppressed = Histogram(
            "optout_to_suppressed_seconds",
            "From receiving an opt-out to its number being on the list, committed",
            buckets=_LATENCY,
            registry=registry,
        )
        self.pushed = Histogram(
            "optout_to_pushed_seconds",
            "From receiving an opt-out (or a release) to the target's saying that it has it",
            ["target"],
            buckets=_LATENCY,
            registry=registry,
        )
        self.oldest_unpushed = Gauge(
            "outbox_oldest_unpushed_seconds",
            "Age of the oldest change that has not reached the target, dead letters included",
            ["target"],
            registry=registry,
        )
        self.outbox = Gauge("outbox_events", "Events by state", ["state"], registry=registry)
        self.dead_letters = Gauge(
            "outbox_dead_letters", "Events that were given up", ["target"], registry=registry
        )
        self.push_enabled = Gauge(
            "push_target_enabled",
            "0: it answered 410 Gone, or an operator disabled it",
            ["target"],
            registry=registry,
        )
        self.push_failures = Counter(
            "push_failures", "Failed attempts to push", ["target"], registry=registry
        )
        self.model_ready = Gauge(
            "model_ready", "1: reads free text; 0: keywords only", registry=registry
        )
        self.waiting = Gauge(
            "intake_waiting", "Replies waiting to be read and recorded", registry=registry
        )

        self.breaker_open = Gauge(
            "breaker_open", "1: opt-outs from here are a flood", ["watch"], registry=registry
        )
        self.breaker_share = Gauge(
            "breaker_share",
            "Share of opt-outs among the latest replies",
            ["watch"],
            registry=registry,
        )
        self.breaker_usual_share = Gauge(
            "breaker_usual_share", "The share before those", ["watch"], registry=registry
        )

    def exposition(self, store: Store) -> bytes:
        """Return all metrics in Prometheus' text format, those of the outbox read afresh."""
        with store.read() as connection:
            oldest, counts = outbox.oldest_pending(connection), outbox.counts(connection)
            known = target_states.states(connection)
            watches = guard.watches(connection)
        at = now()
        for state in outbox.STATES:
            number = sum(n for (_, found), n in counts.items() if found == state)
            self.outbox.labels(state).set(number)
        configured = {target.name for target in store.settings.all_targets}
        # Events of a target that is configured no more stay in sight, and those that none has yet.
        self.oldest_unpushed.clear()
        self.dead_letters.clear()
        for name in sorted(configured | oldest.keys()):
            age = max(0.0, (at - oldest[name]).total_seconds()) if name in oldest else 0.0
            self.oldest_unpushed.labels(name).set(age)
            self.dead_letters.labels(name).set(counts.get((name, "dead"), 0))
        for name in configured:
            disabled = name in known and known[name].disabled_at is not None
            self.push_enabled.labels(name).set(not disabled)
        for watch in watches:
            self.breaker_open.labels(watch.name).set(watch.is_open)
            self.breaker_share.labels(watch.name).set(watch.share)
            self.breaker_usual_share.labels(watch.name).set(watch.usual)
        return generate_latest(self.registry)
