"""Several targets: each gets every change that concerns it, at its own pace, whatever the others do."""

import base64
import hashlib
import hmac
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from email.utils import format_datetime
from typing import Any

import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from serving import exchange, outbox, relay, tables, target_states
from serving.metrics import Metrics
from serving.receiver import Receiver
from serving.relay import Relay
from serving.settings import Settings
from serving.store import Store, now
from serving.target_views import views
from serving.targets.config import WebhookTarget

OLD = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
NEW = "whsec_dGluZ3hpbiB0ZXN0LCBub3QgYSBzZWNyZXQgYXQgYWxs"

OpenRelay = Callable[..., Relay]


def hook(name: str, url: str, secret: str = OLD, **fields: Any) -> WebhookTarget:
    return WebhookTarget(name=name, url=url, secret=SecretStr(secret), **fields)


def add(relay: Relay, number: int, scope: str = "marketing", list_name: str = "default") -> None:
    phone = f"+8613800{number:06}"
    exchange.add(relay._store, list_name, phone, scope, "李雷", "来电")


def release(relay: Relay, number: int, scope: str | None = None) -> None:
    exchange.release(relay._store, "default", f"+8613800{number:06}", scope, "李雷", "来电")


def letters(relay: Relay) -> list[Any]:
    with relay._store.read() as connection:
        return list(connection.execute(sa.select(tables.outbox).order_by(tables.outbox.c.seq)))


def states(relay: Relay, target: str) -> list[str]:
    return [letter.state for letter in letters(relay) if letter.target == target]


def phones(receiver: Receiver) -> list[str]:
    return [event["data"]["phone"][-2:] for event in receiver.events]


@pytest.fixture
def second() -> Iterator[Receiver]:
    with Receiver(NEW).listening() as receiver:
        yield receiver


@contextmanager
def raw_server(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """Serve connections with a function over the socket, for what no honest server says."""
    listening = socket.create_server(("127.0.0.1", 0))
    threads: list[threading.Thread] = []

    def talk(connection: socket.socket) -> None:
        with connection:
            try:
                answer(connection)
            except OSError:
                return

    def accept() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            threads.append(threading.Thread(target=talk, args=(connection,), daemon=True))
            threads[-1].start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/hook"
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join()
        for thread in threads:
            thread.join(5)


def test_every_target_gets_its_own_letter(
    open_relay: OpenRelay, receiver: Receiver, second: Receiver
) -> None:
    relay = open_relay(hook("a", receiver.url), hook("b", second.url, NEW))
    second.answers.append((500, {}))
    add(relay, 1)
    assert relay.deliver_due() == 2
    assert (states(relay, "a"), states(relay, "b")) == (["delivered"], ["pending"])
    assert receiver.events[0]["id"] == second.events[0]["id"]
    sealed = {letter.target: letter.phone_sealed for letter in letters(relay)}
    assert sealed["a"] is None
    assert sealed["b"]


def test_a_target_is_told_only_what_concerns_it(
    open_relay: OpenRelay, receiver: Receiver, second: Receiver
) -> None:
    relay = open_relay(
        hook("a", receiver.url, lists=("brand-a",)), hook("b", second.url, NEW, scopes=("all",))
    )
    add(relay, 1, list_name="brand-a")
    add(relay, 2, "all")
    add(relay, 3)  # concerns neither
    relay.deliver_due()
    assert (phones(receiver), phones(second)) == (["01"], ["02"])
    [skipped] = [letter for letter in letters(relay) if letter.state == "skipped"]
    assert (skipped.target, skipped.phone_sealed) == ("", None)
    assert relay.deliver_due() == 0


def test_events_wait_for_the_first_target_that_there_is(
    open_relay: OpenRelay, receiver: Receiver
) -> None:
    add(open_relay(), 1)
    relay = open_relay(hook("a", receiver.url))
    assert relay.deliver_due() == 1
    assert phones(receiver) == ["01"]


def test_every_secret_signs_while_they_are_rotated(
    open_relay: OpenRelay, platform: Any, receiver: Receiver, second: Receiver
) -> None:
    # The receivers know one secret each; the target is known by both.
    relay = open_relay(
        hook("old", receiver.url, f"{NEW} {OLD}"),
        hook("new", second.url, f"{NEW} {OLD}"),
        hook("raw", platform.url, f"{NEW} {OLD}"),
    )
    add(relay, 1)
    relay.deliver_due()
    assert (len(receiver.events), len(second.events)) == (1, 1)
    assert (receiver.rejected, second.rejected) == (0, 0)
    [request] = platform.requests
    signed = (
        f"{request.headers['webhook-id']}.{request.headers['webhook-timestamp']}.".encode()
        + request.body
    )
    keys = [base64.b64decode(secret.removeprefix("whsec_")) for secret in (NEW, OLD)]
    expected = [base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode() for key in keys]
    assert request.headers["webhook-signature"].split(" ") == [f"v1,{s}" for s in expected]


def test_an_earlier_change_of_the_number_is_never_overtaken(
    open_relay: OpenRelay, receiver: Receiver, clock: Any
) -> None:
    relay = open_relay(hook("a", receiver.url))
    receiver.answers.append((500, {}))
    add(relay, 1)
    relay.deliver_due()
    add(relay, 1, "all")  # another entry of the same number
    add(relay, 2)
    assert relay.deliver_due() == 1  # the other number's
    assert phones(receiver) == ["01", "02"]
    clock.forward(6)
    assert [relay.deliver_due() for _ in range(3)] == [1, 1, 0]
    scopes = [e["data"]["scope"] for e in receiver.events if e["data"]["phone"].endswith("01")]
    assert scopes == ["marketing", "marketing", "all"]


def test_the_schedule_is_standard_webhooks_with_jitter(
    open_relay: OpenRelay, receiver: Receiver, clock: Any
) -> None:
    relay = open_relay(hook("a", receiver.url))
    receiver.answers.extend([(500, {})] * 10)
    add(relay, 1)
    for seconds in (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400):
        assert relay.deliver_due() == 1
        clock.forward(seconds * 0.99)
        assert relay.deliver_due() == 0
        clock.forward(seconds * 0.12)
    assert relay.deliver_due() == 1
    assert states(relay, "a") == ["dead"]
    assert len(receiver.events) == 10


@pytest.mark.parametrize("form", ["seconds", "date", "forever"])
def test_retry_after_is_heeded_for_all_letters_and_has_a_bound(
    open_relay: OpenRelay, receiver: Receiver, clock: Any, form: str
) -> None:
    date = format_datetime(now() + timedelta(seconds=601), usegmt=True)
    header = {"seconds": "600", "date": date, "forever": "999999999999"}[form]
    relay = open_relay(hook("a", receiver.url))
    receiver.answers.append((429, {"retry-after": header}))
    add(relay, 1)
    relay.deliver_due()
    add(relay, 2)
    with relay._store.read() as connection:
        [view] = views(connection, relay._store.settings.all_targets, clock())
    assert view["state"] == "paused"
    clock.forward(590 if form != "forever" else 86_000)
    assert relay.deliver_due() == 0
    clock.forward(800)
    assert relay.deliver_due() == 2


def test_a_rate_is_kept_by_all_relays_together(
    open_relay: OpenRelay, receiver: Receiver, clock: Any
) -> None:
    """In no minute more than 20 calls: two at once, then the other 18 spread over the minute."""
    target = hook("a", receiver.url, calls_per_minute=20)
    relays = [open_relay(target), open_relay(target)]
    for number in range(30):
        add(relays[0], number)
    sent = [sum(relay.deliver_due() for relay in relays)]
    for _ in range(60):
        clock.forward(1)
        sent.append(sum(relay.deliver_due() for relay in relays))
    assert sent[0] == 2
    assert sum(sent[:60]) in (19, 20)
    assert max(sent[1:]) == 1


def test_two_relays_send_each_letter_once(open_relay: OpenRelay, receiver: Receiver) -> None:
    target = hook("a", receiver.url)
    relays = [open_relay(target) for _ in range(2)]
    for number in range(60):
        add(relays[0], number)
        add(relays[0], number, "all")
    threads = [
        threading.Thread(target=lambda r=r: [r.deliver_due() for _ in range(6)]) for r in relays
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert states(relays[0], "a") == ["delivered"] * 120
    ids = [event["id"] for event in receiver.events]
    assert len(ids) == len(set(ids)) == 120
    for number in range(60):
        suffix = f"{number:06}"
        own = [e["data"]["scope"] for e in receiver.events if e["data"]["phone"].endswith(suffix)]
        assert own == ["marketing", "all"]


def test_a_lease_that_lapsed_gives_no_say(
    open_relay: OpenRelay, receiver: Receiver, clock: Any
) -> None:
    relay = open_relay(hook("a", receiver.url))
    add(relay, 1)
    store = relay._store
    with store.write() as connection:
        outbox.fan_out(connection, store.settings.all_targets)
        [slow] = outbox.lease(connection, "a", clock(), 10)
    clock.forward(120)
    with store.write() as connection:
        [taken] = outbox.lease(connection, "a", clock(), 10)
        outbox.settle(connection, [(slow, outbox.Outcome("failed", "late"), True)], clock())
        assert outbox.lease(connection, "a", clock(), 10) == []  # the second one's lease holds
        outbox.settle(connection, [(taken, outbox.Outcome("delivered"), True)], clock())
        outbox.settle(connection, [(slow, outbox.Outcome("failed", "later"), True)], clock())
    [letter] = letters(relay)
    assert (letter.state, letter.attempts, letter.last_error) == ("delivered", 1, None)


def drip(connection: socket.socket) -> None:
    connection.recv(65_536)
    for character in b"HTTP/1.1 200 OK\r\n" * 1000:
        connection.sendall(bytes([character]))
        time.sleep(0.02)


def garbage(connection: socket.socket) -> None:
    connection.recv(65_536)
    connection.sendall(b"\x00\xff\x16\x03 SSH-2.0 no HTTP at all\r\n\r\n" * 50)


def hang_up(connection: socket.socket) -> None:
    connection.recv(10)


def huge_header(connection: socket.socket) -> None:
    connection.recv(65_536)
    connection.sendall(b"HTTP/1.1 200 OK\r\nx: ")
    for _ in range(10_000):
        connection.sendall(b"a" * 65_536)


@pytest.mark.parametrize("nonsense", [drip, garbage, hang_up, huge_header])
def test_a_target_of_nonsense_is_bounded_and_a_failed_attempt(
    open_relay: OpenRelay, monkeypatch: pytest.MonkeyPatch, nonsense: Callable[[Any], None]
) -> None:
    monkeypatch.setattr(relay, "TIMEOUT", 0.3)
    with raw_server(nonsense) as url:
        bad = open_relay(hook("bad", url))
        add(bad, 1)
        started = time.monotonic()
        bad.deliver_due()
        assert time.monotonic() - started < 3
        [letter] = letters(bad)
        assert (letter.state, letter.attempts) == ("pending", 1)
        assert letter.last_error in ("TimeoutError", "RemoteProtocolError", "ReadError")


def test_a_slow_target_does_not_hold_up_another(
    settings: Settings, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the threads of a real service: one target hangs, the other has its letter at once."""
    monkeypatch.setattr(relay, "TIMEOUT", 5)
    let_go = threading.Event()
    with raw_server(lambda _: let_go.wait(30) and None) as url:
        store = Store.open(
            settings.model_copy(update={"targets": (hook("bad", url), hook("ok", receiver.url))})
        )
        running = Relay(store, Metrics())
        running.start()
        for number in range(20):
            exchange.add(store, "default", f"+861380000{number:04}", "marketing", "李雷", "来电")
        running.wake()
        deadline = time.monotonic() + 4
        while len(receiver.events) < 20 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert len(receiver.events) == 20
        assert set(states(running, "bad")) == {"pending"}
        let_go.set()
        running.stop()
        store.close()


def test_a_disabled_target_is_in_sight_and_the_others_go_on(
    open_relay: OpenRelay, receiver: Receiver, second: Receiver, clock: Any
) -> None:
    relay = open_relay(hook("a", receiver.url), hook("b", second.url, NEW))
    receiver.answers.append((410, {}))
    add(relay, 1)
    relay.deliver_due()
    add(relay, 2)
    assert relay.deliver_due() == 1
    with relay._store.read() as connection:
        a, b = views(connection, relay._store.settings.all_targets, clock())
    assert (a["state"], a["reason"], a["pending"]) == ("disabled", "HTTP 410", 2)
    assert (b["state"], b["pending"]) == ("ok", 0)
    metrics = Metrics().exposition(relay._store).decode()
    assert 'push_target_enabled{target="a"} 0.0' in metrics
    assert 'push_target_enabled{target="b"} 1.0' in metrics
    assert 'outbox_oldest_unpushed_seconds{target="b"} 0.0' in metrics
    assert 'outbox_oldest_unpushed_seconds{target="a"} 0.0\n' not in metrics
    with relay._store.write() as connection:
        assert target_states.enable(connection, "a")
    assert relay.deliver_due() == 2
    assert states(relay, "a") == ["delivered"] * 2


def test_latency_and_failures_are_counted_by_target(
    settings: Settings, receiver: Receiver, second: Receiver
) -> None:
    targets = (hook("a", receiver.url), hook("b", second.url, NEW))
    store = Store.open(settings.model_copy(update={"targets": targets}))
    metrics = Metrics()
    relay = Relay(store, metrics)
    second.answers.append((500, {}))
    add(relay, 1)
    relay.deliver_due()
    relay.stop()
    shown = metrics.exposition(store).decode()
    assert 'optout_to_pushed_seconds_count{target="a"} 1.0' in shown
    assert 'push_failures_total{target="b"} 1.0' in shown
    assert 'outbox_dead_letters{target="b"} 0.0' in shown
    store.close()


def test_letters_of_a_target_that_is_configured_no_more_stay_in_sight(
    open_relay: OpenRelay, receiver: Receiver, second: Receiver, clock: Any
) -> None:
    before = open_relay(hook("a", receiver.url), hook("b", second.url, NEW))
    second.answers.append((500, {}))
    add(before, 1)
    before.deliver_due()
    after = open_relay(hook("a", receiver.url))
    with after._store.read() as connection:
        a, b = views(connection, after._store.settings.all_targets, clock())
    assert (a["state"], b["name"], b["state"], b["pending"]) == ("ok", "b", "unconfigured", 1)
