"""The relay delivers at least once, in order, signed; what it gives up stays in sight and can be replayed."""

import socket
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from standardwebhooks import Webhook
from structlog.testing import capture_logs

from model.classifier import Classifier
from serving import dead_letters, outbox, tables, target_states
from serving.events import InboundReply
from serving.metrics import Metrics
from serving.receiver import Receiver
from serving.record import Read, record
from serving.relay import Relay
from serving.settings import Settings
from serving.store import Store, now

Say = Callable[..., None]


@pytest.fixture
def relay(pushing: Settings) -> Iterator[Relay]:
    """A relay whose thread does not run: the test makes its rounds."""
    store = Store.open(pushing)
    relay = Relay(store, Metrics())
    yield relay
    relay.stop()
    store.close()


@pytest.fixture
def say(relay: Relay, classifier: Classifier, reply: Callable[..., InboundReply]) -> Say:
    """`say(7, "退订")`: the person wrote this, and it is recorded."""

    def say(number: int, text: str) -> None:
        [prediction] = classifier.classify([text])
        message = reply(number, text)
        record(relay._store, classifier, [Read(f"{text}-{now()}", message, prediction)])

    return say


def letters(relay: Relay) -> list[Any]:
    with relay._store.read() as connection:
        return list(connection.execute(sa.select(tables.outbox).order_by(tables.outbox.c.seq)))


def pass_time(relay: Relay) -> None:
    """Make everything due that waits for its time."""
    with relay._store.write() as connection:
        connection.execute(tables.outbox.update().values(next_at=now(), leased_until=None))


def test_the_signature_is_standard_webhooks_own_vector() -> None:
    webhook = Webhook("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    at = datetime.fromtimestamp(1614265330, UTC)
    signature = webhook.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", at, '{"test": 2432232314}')
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_an_event_tells_the_number_in_its_data_only(
    relay: Relay, receiver: Receiver, say: Say
) -> None:
    say(1, "退订")
    assert relay.deliver_due() == 1
    [event] = receiver.events
    assert event["specversion"] == "1.0"
    assert event["type"] == "cn.tingxin.suppression.created"
    data = event.pop("data")
    assert (data["phone"], data["state"], data["scope"]) == (
        "+8613800000001",
        "active",
        "marketing",
    )
    assert "000001" not in event["id"] + event["subject"] + event["source"]


def test_the_database_keeps_the_number_sealed_and_drops_it_when_delivered(
    relay: Relay, say: Say
) -> None:
    say(1, "退订")
    [waiting] = letters(relay)
    assert "13800000001" not in str(waiting)
    assert waiting.phone_sealed
    relay.deliver_due()
    [delivered] = letters(relay)
    assert (delivered.state, delivered.phone_sealed) == ("delivered", None)
    assert relay.deliver_due() == 0


def test_a_failed_attempt_waits_for_its_turn(relay: Relay, receiver: Receiver, say: Say) -> None:
    receiver.answers.append((500, {}))
    say(1, "退订")
    with capture_logs() as logs:
        relay.deliver_due()
    assert "13800000001" not in str(logs)
    [letter] = letters(relay)
    assert (letter.state, letter.attempts, letter.last_error) == ("pending", 1, "HTTP 500")
    assert now() < letter.next_at <= now() + timedelta(seconds=6)
    assert relay.deliver_due() == 0
    pass_time(relay)
    relay.deliver_due()
    assert [e["id"] for e in receiver.events] == [letter.id] * 2
    assert letters(relay)[0].state == "delivered"


def test_a_receiver_may_ask_to_wait_longer(relay: Relay, receiver: Receiver, say: Say) -> None:
    receiver.answers.append((503, {"retry-after": "600"}))
    say(1, "退订")
    relay.deliver_due()
    assert letters(relay)[0].next_at > now() + timedelta(seconds=590)


def test_ten_failures_make_a_dead_letter_that_can_be_replayed(
    relay: Relay, receiver: Receiver, say: Say
) -> None:
    receiver.answers.extend([(500, {})] * 10)
    say(1, "退订")
    for _ in range(10):
        pass_time(relay)
        relay.deliver_due()
    with relay._store.read() as connection:
        [dead] = dead_letters.listing(connection)
    assert (dead["attempts"], dead["last_error"]) == (10, "HTTP 500")
    assert relay.deliver_due() == 0
    with relay._store.write() as connection:
        assert dead_letters.replay(connection, now()) == (1, 0)
    relay.deliver_due()
    assert receiver.events[-1]["data"]["phone"] == "+8613800000001"
    assert letters(relay)[0].state == "delivered"


def test_a_dead_letter_is_not_replayed_over_a_later_change(
    relay: Relay, receiver: Receiver, say: Say
) -> None:
    say(1, "退订")
    with relay._store.write() as connection:
        connection.execute(tables.outbox.update().values(state="dead"))
    say(1, "START")
    with relay._store.write() as connection:
        assert dead_letters.replay(connection, now()) == (0, 1)
    relay.deliver_due()
    assert [e["type"].rpartition(".")[2] for e in receiver.events] == ["released"]


def test_410_stops_everything_until_an_operator_enables_the_target(
    relay: Relay, receiver: Receiver, say: Say
) -> None:
    receiver.answers.append((410, {}))
    say(1, "退订")
    relay.deliver_due()
    say(2, "退订")
    pass_time(relay)
    assert relay.deliver_due() == 0
    assert [(le.state, le.attempts) for le in letters(relay) if le.target] == [("pending", 0)] * 2
    with relay._store.write() as connection:
        assert target_states.enable(connection, "webhook")
    assert relay.deliver_due() == 2


def test_events_of_one_entry_go_out_in_order(relay: Relay, receiver: Receiver, say: Say) -> None:
    receiver.answers.append((500, {}))
    say(1, "退订")
    say(1, "START")
    assert relay.deliver_due() == 1
    assert relay.deliver_due() == 0  # the second waits for the first
    pass_time(relay)
    assert [relay.deliver_due(), relay.deliver_due()] == [1, 1]
    kinds = [e["type"].rpartition(".")[2] for e in receiver.events]
    assert kinds == ["created", "created", "released"]


def test_a_worker_that_dies_after_sending_sends_again(
    relay: Relay, receiver: Receiver, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    say(1, "退订")
    with monkeypatch.context() as patch:

        def dies(*_: object) -> None:
            raise KeyboardInterrupt

        patch.setattr(outbox, "settle", dies)
        with pytest.raises(KeyboardInterrupt):
            relay.deliver_due()
    assert relay.deliver_due() == 0  # the lease still holds
    with relay._store.write() as connection:
        outbox.break_leases(connection)
    relay.deliver_due()
    assert len({e["id"] for e in receiver.events}) == 1
    assert len(receiver.events) == 2


def test_a_receiver_that_is_not_there_is_a_failed_attempt(
    pushing: Settings, classifier: Classifier, reply: Callable[..., InboundReply]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    gone = pushing.model_copy(update={"push_url": f"http://127.0.0.1:{port}/hook"})
    store = Store.open(gone)
    relay = Relay(store, Metrics())
    record(store, classifier, [Read("m", reply(1, "退订"), classifier.classify(["退订"])[0])])
    relay.deliver_due()
    assert letters(relay)[0].last_error == "ConnectError"
    relay.stop()
    store.close()


def test_a_letter_that_cannot_be_opened_holds_up_no_other(
    relay: Relay, receiver: Receiver, say: Say
) -> None:
    say(1, "退订")
    with relay._store.write() as connection:
        connection.execute(tables.outbox.update().values(phone_sealed="broken"))
    say(2, "退订")
    assert relay.deliver_due() == 2
    assert [letter.state for letter in letters(relay)] == ["pending", "delivered"]


def test_without_a_url_events_wait_in_sight(settings: Settings, relay: Relay, say: Say) -> None:
    store = Store.open(settings)
    idle = Relay(store, metrics := Metrics())
    idle.start()
    say(1, "退订")
    assert idle.deliver_due() == 0
    idle.stop()
    assert 'outbox_events{state="pending"} 1.0' in metrics.exposition(store).decode()
    store.close()


def test_a_letter_written_before_the_clock_stepped_back_goes_out_at_once(
    relay: Relay, receiver: Receiver, say: Say
) -> None:
    say(1, "退订")
    early = Relay(relay._store, Metrics(), lambda: now() - timedelta(hours=1))
    assert early.deliver_due() == 1
    assert len(receiver.events) == 1
    early.stop()


def test_a_lease_of_a_time_that_was_taken_back_holds_nobody_up(
    relay: Relay, receiver: Receiver, say: Say
) -> None:
    say(1, "退订")
    with relay._store.write() as connection:
        outbox.fan_out(connection, relay._store.settings.all_targets)
        [letter] = outbox.lease(connection, "webhook", now(), 1)
    for back, sent in ((60, 0), (3600, 1)):  # clocks that differ a little are no step
        other = Relay(relay._store, Metrics(), lambda back=back: now() - timedelta(seconds=back))
        assert other.deliver_due() == sent
        other.stop()
    assert [event["id"] for event in receiver.events] == [letter.id]
