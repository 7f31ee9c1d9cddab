"""The service: store, classifier, vendors, intake, parts and relay, started and stopped together."""

from collections.abc import Sequence

import structlog

from model.bundle import SHIPPED, BundleError
from model.classifier import Classifier
from serving.auth import RateLimit
from serving.events import InboundReply
from serving.intake import Intake, Outcome
from serving.metrics import Metrics
from serving.parts import Parts
from serving.relay import Relay
from serving.settings import Settings
from serving.store import Store
from serving.templates import Templates
from serving.traces import Traces
from serving.vendors import vendors

log = structlog.get_logger()


def load_classifier(settings: Settings) -> Classifier:
    """Load the bundle; where its encoder does not load, its keywords, so that 退订 is honoured all the same.

    Raises BundleError if not even those can be read: without rules nothing can be decided.
    """
    path = settings.bundle or SHIPPED
    try:
        return Classifier.load(path)
    except BundleError as error:
        degraded = Classifier.load_keywords(path)
        log.error("model_not_loaded", remedy="keywords only; restore the bundle", error=str(error))
        return degraded


class Service:
    """Everything behind the HTTP routes."""

    def __init__(self, settings: Settings, classifier: Classifier | None = None) -> None:
        self.settings = settings
        self.traces = Traces.open(settings)
        self.classifier = classifier or load_classifier(settings)
        self.store = Store.open(settings)
        self.rate_limit = RateLimit(settings.requests_per_minute)
        self.metrics = Metrics()
        self.metrics.model_ready.set(self.classifier.reads_free_text)
        self.vendors = vendors(settings)
        self.templates = Templates(self.store, self.classifier.bundle.rules)
        self.relay = Relay(self.store, self.metrics, traces=self.traces)
        self.intake = Intake(
            self.store, self.classifier, self.templates, self.metrics, self.relay.wake, self.traces
        )
        self.parts = Parts(self.store, self.intake.submit)

    def start(self) -> None:
        self.relay.start()
        self.intake.start()
        self.parts.start()
        for name, vendor in self.vendors.items():
            if vendor.lacks:  # its callbacks are answered 503
                log.info("vendor_not_set_up", vendor=name, missing=vendor.lacks)

    def stop(self) -> None:
        """Finish what was taken in, then what is being sent."""
        self.parts.stop()
        self.intake.stop()
        self.relay.stop()
        self.store.close()
        self.traces.close()
        log.info("stopped")

    def submit(self, replies: Sequence[InboundReply]) -> list[Outcome]:
        """Take replies in; return once all are on disk with what follows from them.

        Parts of long messages are on disk too, but wait for the rest before anything follows.
        """
        taken = {k: self.parts.take(r, r.part) for k, r in enumerate(replies) if r.part}
        outcomes = iter(self.intake.submit([r for r in replies if r.part is None]))
        return [taken.get(k) or next(outcomes) for k in range(len(replies))]
