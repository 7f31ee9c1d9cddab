"""The intake answers after the commit, once per message, and lets no reply sink another."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from threading import Event
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import OperationalError
from structlog.testing import capture_logs

from model.classifier import Classifier, Prediction
from serving import intake, receipts, tables
from serving.events import InboundReply
from serving.intake import Intake, IntakeClosed, IntakeFull
from serving.metrics import Metrics
from serving.service import Service
from serving.settings import Settings
from serving.store import Store, now
from serving.templates import Templates

Reply = Callable[..., InboundReply]


def rows(service: Service, table: sa.Table) -> list[sa.Row]:
    with service.store.read() as connection:
        return list(connection.execute(sa.select(table)))


def states(service: Service) -> list[str]:
    return [row.state for row in rows(service, tables.suppressions)]


def test_a_keyword_is_on_the_list_when_the_answer_comes(service: Service, reply: Reply) -> None:
    [outcome] = service.submit([reply(1, "退订")])
    [entry] = rows(service, tables.suppressions)
    assert outcome.status == "stored"
    assert outcome.decision["action"] == "suppress"
    assert (entry.scope, entry.state, entry.method) == ("marketing", "active", "keyword")
    assert entry.phone_masked == "138****0001"
    assert entry.receipt_id == outcome.decision["receipt"]
    assert len(rows(service, tables.outbox)) == len(rows(service, tables.changes)) == 1


def test_a_hold_is_provisional_and_waits_for_a_person(service: Service, reply: Reply) -> None:
    [outcome] = service.submit([reply(1, "能不能少发点")])
    assert (outcome.decision["action"], states(service)) == ("hold", ["provisional"])
    [item] = rows(service, tables.queue)
    assert item.queue == "opt_out_review"
    assert item.due_at > now()


def test_a_confident_opt_out_confirms_a_provisional_entry_and_nothing_downgrades_it(
    service: Service, reply: Reply
) -> None:
    service.submit([reply(1, "少发点")])
    service.submit([reply(1, "T")])
    assert states(service) == ["active"]
    service.submit([reply(1, "少发点", id="again")])
    assert states(service) == ["active"]
    kinds = [row.event["type"].rpartition(".")[2] for row in rows(service, tables.outbox)]
    assert kinds == ["created", "updated"]


def test_start_releases_the_persons_own_entries_only(service: Service, reply: Reply) -> None:
    service.submit([reply(1, "退订"), reply(2, "退订")])
    [outcome] = service.submit([reply(1, "恢复订阅")])
    assert outcome.decision["resumed"]
    by_person = {row.phone_masked: row.state for row in rows(service, tables.suppressions)}
    assert by_person == {"138****0001": "released", "138****0002": "active"}


def test_a_start_that_arrives_late_does_not_undo_a_younger_opt_out(
    service: Service, reply: Reply
) -> None:
    earlier, later = now() - timedelta(minutes=10), now() - timedelta(minutes=5)
    service.submit([reply(1, "退订", vendor_time=later)])
    service.submit([reply(1, "START", vendor_time=earlier)])
    assert states(service) == ["active"]


def test_an_opt_out_after_a_release_is_a_new_one(service: Service, reply: Reply) -> None:
    for number, text in enumerate(["退订", "START", "退订"]):
        service.submit([reply(1, text, id=str(number))])
    assert states(service) == ["active"]
    kinds = [row.event["type"].rpartition(".")[2] for row in rows(service, tables.outbox)]
    assert kinds == ["created", "released", "created"]


def test_other_intents_go_to_their_queue_with_a_due_time(service: Service, reply: Reply) -> None:
    [outcome] = service.submit([reply(1, "我活不下去了")])
    [item] = rows(service, tables.queue)
    assert (outcome.decision["action"], item.queue, item.priority) == ("route", "crisis", 0)
    assert states(service) == []


def test_a_replay_changes_nothing_and_gives_the_decision_made_then(
    service: Service, classifier: Any, reply: Reply
) -> None:
    message = reply(1, "退订")
    [first] = service.submit([message])
    [second] = service.submit([replace(message, text="now something else")])
    assert (second.status, second.decision) == ("replayed", first.decision)
    assert classifier.texts_read == 1
    assert len(rows(service, tables.receipts)) == len(rows(service, tables.outbox)) == 1


def test_the_same_id_twice_in_one_batch_is_recorded_once(service: Service, reply: Reply) -> None:
    first, second = service.submit([reply(1, "退订"), reply(1, "退订")])
    assert (first.status, second.status) == ("stored", "replayed")
    assert first.decision == second.decision


def test_without_an_id_the_vendors_time_tells_a_redelivery_from_a_second_message(
    service: Service, reply: Reply
) -> None:
    when = now() - timedelta(hours=1)
    once, again = reply(1, "T", id="", vendor_time=when), reply(1, "T", id="", vendor_time=when)
    other = reply(1, "T", id="", vendor_time=when + timedelta(seconds=1))
    assert [o.status for o in service.submit([once, again, other])] == [
        "stored",
        "replayed",
        "stored",
    ]
    unknown = [reply(1, "T", id="", received_at=when) for _ in range(2)]
    assert [o.status for o in service.submit(unknown)] == ["stored", "stored"]


def test_a_text_too_long_is_refused_and_sinks_nobody(service: Service, reply: Reply) -> None:
    outcomes = service.submit([reply(1, "退订"), reply(2, "啊" * 20_001), reply(3, "T")])
    assert [o.status for o in outcomes] == ["stored", "refused", "stored"]
    assert "20001" in outcomes[1].why


def test_what_the_model_chokes_on_goes_to_a_person(service: Service, reply: Reply) -> None:
    with capture_logs() as logs:
        outcomes = service.submit([reply(1, "退订"), reply(2, "POISON")])
    assert [o.decision["action"] for o in outcomes] == ["suppress", "review"]
    assert "POISON" not in str(logs)


def test_a_reply_that_the_database_refuses_fails_alone(
    service: Service, monkeypatch: pytest.MonkeyPatch, reply: Reply
) -> None:
    seal = service.store.phones.seal

    def refuses_one(phone: str) -> str:
        if phone.endswith("2"):
            raise RuntimeError(f"cannot seal {phone}")
        return seal(phone)

    monkeypatch.setattr(service.store.phones, "seal", refuses_one)
    with capture_logs() as logs:
        outcomes = service.submit([reply(1, "退订"), reply(2, "退订"), reply(3, "退订")])
    assert [o.status for o in outcomes] == ["stored", "failed", "stored"]
    assert "13800" not in str(logs)
    assert states(service) == ["active", "active"]
    with service.store.read() as connection:
        assert receipts.verify(connection).holds


def test_a_database_that_fails_is_asked_twice_and_not_for_each_reply(
    service: Service, monkeypatch: pytest.MonkeyPatch, reply: Reply
) -> None:
    asked = []

    def fails(*_: object) -> None:
        asked.append(1)
        raise OperationalError("INSERT", {}, Exception("database is locked"))

    with monkeypatch.context() as patch:
        patch.setattr(intake, "record", fails)
        outcomes = service.submit([reply(k, "退订") for k in range(20)])
    assert [o.status for o in outcomes] == ["failed"] * 20
    assert len(asked) == 2
    outcomes = service.submit([reply(k, "退订") for k in range(20)])
    assert [o.status for o in outcomes] == ["stored"] * 20


def test_odd_characters_are_stored(service: Service, reply: Reply) -> None:
    [outcome] = service.submit([reply(1, "退订\ud800\0")])
    assert outcome.status == "stored"


def test_the_queue_is_bounded_and_a_stopped_intake_takes_nothing(
    settings: Settings, classifier: Any, reply: Reply
) -> None:
    gate = Event()

    class Slow(Classifier):
        def classify(self, texts: Sequence[str]) -> list[Prediction]:
            gate.wait(10)
            return super().classify(texts)

    store = Store.open(settings.model_copy(update={"intake_capacity": 2}))
    templates = Templates(store, classifier.bundle.rules)
    intake = Intake(store, Slow(classifier.bundle, None), templates, Metrics(), lambda: None)
    with pytest.raises(IntakeClosed):
        intake.submit([reply(1, "T")])
    intake.start()
    with pytest.raises(IntakeFull, match="no room for 3 more"):
        intake.submit([reply(n, "T") for n in range(3)])
    gate.set()
    assert len(intake.submit([reply(n, "T") for n in range(2)])) == 2
    intake.stop()
    store.close()


def test_many_callers_share_batches_and_each_gets_its_own_answers(
    service: Service, reply: Reply
) -> None:
    with ThreadPoolExecutor(16) as pool:
        answers = pool.map(lambda n: service.submit([reply(n, "退订")])[0], range(200))
    assert [a.message_id for a in answers] == [f"m-{n}-退订" for n in range(200)]
    with service.store.read() as connection:
        assert receipts.verify(connection).checked == 200


def test_a_database_made_with_another_key_is_refused(settings: Settings) -> None:
    Store.open(settings).close()
    (settings.home / "phone.key").unlink()
    with pytest.raises(ValueError, match=r"restore phone\.key"):
        Store.open(settings)
