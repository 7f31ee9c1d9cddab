"""The relay: sends the outbox's letters to the receiver, signed after Standard Webhooks."""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from hashlib import sha256
from threading import Event, Thread
from urllib.parse import urlsplit

import httpx2
import sqlalchemy as sa
import structlog
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError
from standardwebhooks import Webhook

from serving import outbox, tables
from serving.metrics import Metrics
from serving.outbox import Delivery, Letter
from serving.phones import Phones
from serving.store import Store, now

AT_ONCE = 8  # letters in flight
ROUND = 32  # letters leased together; at 10 s each, eight at once, well within the lease
TIMEOUT = 10.0
POLL = 0.5  # seconds between looks at an outbox that other processes write to as well
LOOPBACK = ("127.0.0.1", "::1", "localhost")

log = structlog.get_logger()


class Relay:
    """The worker. Without a push URL it does nothing and the letters wait, in sight."""

    def __init__(self, store: Store, metrics: Metrics) -> None:
        self._store = store
        self._metrics = metrics
        self._url = store.settings.push_url or ""
        secret = store.settings.push_secret
        self._webhook = Webhook(secret.get_secret_value()) if self._url and secret else None
        self._wake = Event()
        self._stopping = Event()
        self._thread = Thread(target=self._run, name="relay", daemon=True)
        # A proxy from the environment is for the world outside.
        trusts_environment = urlsplit(self._url).hostname not in LOOPBACK
        self._client = httpx2.Client(timeout=TIMEOUT, trust_env=trusts_environment)

    def start(self) -> None:
        if self._webhook is None:
            return
        if self._store.engine.dialect.name == "sqlite":  # one process: whoever held a lease is gone
            with self._store.write() as connection:
                outbox.break_leases(connection)
        self._thread.start()

    def stop(self) -> None:
        """Finish the letters in flight and stop."""
        self._stopping.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()
        self._client.close()

    def wake(self) -> None:
        """Look at the outbox now: something was committed."""
        self._wake.set()

    def deliver_due(self) -> int:
        """Send one round of due letters and mark what came of them; return how many were tried."""
        with self._store.read() as connection:
            enabled = self._webhook is not None and is_enabled(connection, self._url)
        self._metrics.push_enabled.set(enabled)
        if not enabled:
            return 0
        with self._store.write() as connection:
            letters = outbox.lease(connection, now(), ROUND)
        if not letters:
            return 0
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="push") as pool:
            deliveries = list(pool.map(self._send, letters))
        at = now()
        with self._store.write() as connection:
            outbox.settle(connection, deliveries, at)
            if any(d.gone for d in deliveries):
                disable(connection, self._url, "410 Gone", at)
        self._measure(deliveries, at)
        return len(letters)

    def _send(self, letter: Letter) -> Delivery:
        if self._webhook is None:
            return Delivery(letter, False, "no push secret")
        at = now()
        try:
            body = payload(letter, self._store.phones)
            headers = {
                "content-type": "application/cloudevents+json; charset=utf-8",
                "webhook-id": letter.id,
                "webhook-timestamp": str(int(at.timestamp())),
                "webhook-signature": self._webhook.sign(letter.id, at, body),
            }
            response = self._client.post(self._url, content=body.encode(), headers=headers)
        except (
            Exception
        ) as error:  # whatever it is, it is this letter's failed attempt and no other's
            # The class only: the text may quote the URL, and the URL may hold a secret.
            return Delivery(letter, False, type(error).__name__)
        if response.is_success:
            return Delivery(letter, True)
        asked = retry_after(response.headers.get("retry-after", ""), at)
        status = response.status_code
        return Delivery(letter, False, f"HTTP {status}", asked, gone=status == 410)

    def _measure(self, deliveries: Sequence[Delivery], at: datetime) -> None:
        for delivery in deliveries:
            if delivery.delivered:
                latency = (at - delivery.letter.received_at).total_seconds()
                self._metrics.pushed.observe(max(0.0, latency))
                continue
            self._metrics.push_failures.inc()
            attempt = delivery.letter.attempts + 1
            log.warning(
                "push_failed", letter=delivery.letter.id, attempt=attempt, error=delivery.error
            )

    def _run(self) -> None:
        while not self._stopping.is_set():
            tried = 0
            try:
                tried = self.deliver_due()
            except Exception as error:  # a locked or lost database; the letters are still in it
                log.error("relay_failed", error=type(error).__name__)
            if not tried:
                self._wake.wait(POLL)
                self._wake.clear()


def payload(letter: Letter, phones: Phones) -> str:
    """Return the CloudEvent as it is sent: with the number, which is stored apart from it."""
    event = letter.event
    data = event["data"] | {"phone": phones.unseal(letter.phone_sealed)}
    return json.dumps(event | {"data": data}, ensure_ascii=False, separators=(",", ":"))


def retry_after(header: str, at: datetime) -> float:
    """Return the seconds that a Retry-After header asks for; 0 if it asks for nothing readable.

    >>> retry_after("120", now()), retry_after("soon", now())
    (120.0, 0.0)
    >>> retry_after("Thu, 01 Jan 2026 00:01:00 GMT", datetime(2026, 1, 1, tzinfo=UTC))
    60.0
    """
    if header.isascii() and header.isdigit():
        return float(header)
    try:
        moment = parsedate_to_datetime(header)
    except ValueError:
        return 0.0
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (moment - at).total_seconds())


def is_enabled(connection: Connection, url: str) -> bool:
    """Say whether the receiver still wants events."""
    target = tables.push_targets.c
    disabled = sa.select(target.disabled_at).where(target.url_hash == _hash(url))
    return connection.scalar(disabled) is None


def disable(connection: Connection, url: str, reason: str, at: datetime) -> None:
    """Send nothing more to a receiver until an operator replays (`outbox.replay`)."""
    log.error("push_target_disabled", reason=reason)
    values = {"disabled_at": at, "reason": reason}
    target = tables.push_targets
    updated = connection.execute(
        target.update().where(target.c.url_hash == _hash(url)).values(**values)
    )
    if updated.rowcount:
        return
    try:
        with connection.begin_nested():
            connection.execute(target.insert(), values | {"url_hash": _hash(url)})
    except IntegrityError:  # another worker was told the same
        return


def _hash(url: str) -> str:
    return sha256(url.encode()).hexdigest()
