"""What the service measures, by its Prometheus names."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from serving import outbox
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
            "From receiving an opt-out (or a release) to the receiver's 2xx",
            buckets=_LATENCY,
            registry=registry,
        )
        self.oldest_unpushed = Gauge(
            "outbox_oldest_unpushed_seconds",
            "Age of the oldest change that has not reached the receiver, dead letters included",
            registry=registry,
        )
        self.outbox = Gauge("outbox_events", "Events by state", ["state"], registry=registry)
        self.push_enabled = Gauge(
            "push_target_enabled", "0: no receiver, or it answered 410 Gone", registry=registry
        )
        self.push_failures = Counter("push_failures", "Failed attempts to push", registry=registry)
        self.model_ready = Gauge(
            "model_ready", "1: reads free text; 0: keywords only", registry=registry
        )
        self.waiting = Gauge(
            "intake_waiting", "Replies waiting to be read and recorded", registry=registry
        )

    def exposition(self, store: Store) -> bytes:
        """Return all metrics in Prometheus' text format, those of the outbox read afresh."""
        with store.read() as connection:
            oldest, counts = outbox.oldest_pending(connection), outbox.counts(connection)
        age = 0.0 if oldest is None else max(0.0, (now() - oldest).total_seconds())
        self.oldest_unpushed.set(age)
        for state in ("pending", "delivered", "dead", "superseded"):
            self.outbox.labels(state).set(counts.get(state, 0))
        return generate_latest(self.registry)
