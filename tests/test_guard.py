"""The breaker at work: the model's hand is stayed and the alarm raised; a keyword always counts."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient
from structlog.testing import capture_logs
from typer.testing import CliRunner

from serving import auth, guard, receipts, tables, triage
from serving.api import create_app
from serving.cli import app
from serving.events import InboundReply
from serving.service import Service
from serving.settings import Settings
from serving.store import Store
from serving.triage import Verdict

Reply = Callable[..., InboundReply]
MAX_HELD = 3


@pytest.fixture
def settings(settings: Settings) -> Settings:
    few = {"breaker_window": 20, "breaker_history": 20, "breaker_max_held": MAX_HELD}
    return settings.model_copy(update=few)


@pytest.fixture
def say(service: Service, reply: Reply) -> Iterator[Callable[..., list[dict[str, Any]]]]:
    """`say("别再发", 5)`: five new people write this; returns what was decided."""
    people = iter(range(1, 10_000))

    def say(text: str, times: int = 1, **fields: object) -> list[dict[str, Any]]:
        messages = [reply(next(people), text, **fields) for _ in range(times)]
        return [outcome.decision for outcome in service.submit(messages)]

    yield say


Say = Callable[..., list[dict[str, Any]]]


def flooded(say: Say) -> list[dict[str, Any]]:
    say("你好", 60)
    return say("别再发", 20)


def test_the_models_suppressions_become_holds_and_then_reviews(say: Say, service: Service) -> None:
    with capture_logs() as logs:
        actions = [decision["action"] for decision in flooded(say)]
    free = actions.index("hold")
    assert 3 < free < 12
    assert actions == ["suppress"] * free + ["hold"] * MAX_HELD + ["review"] * (
        20 - free - MAX_HELD
    )
    [alarm] = [line for line in logs if line["event"] == "breaker_opened"]
    assert (alarm["watch"], alarm["log_level"]) == ("model", "error")
    assert say("退订")[0]["action"] == "suppress"
    with service.store.read() as connection:
        blocked = connection.execute(
            sa.select(tables.suppressions.c.state, sa.func.count()).group_by("state")
        )
        assert dict(map(tuple, blocked)) == {"active": free + 1, "provisional": MAX_HELD}
        assert receipts.verify(connection).holds


def test_receipt_and_reason_name_the_breaker(say: Say, service: Service) -> None:
    last = flooded(say)[-1]
    assert last["reason"].startswith("熔断器 breaker 已打开")
    assert (last["queue"], last["scope"], last["entries"]) == ("opt_out_review", None, [])
    with service.store.read() as connection:
        body = (receipts.read(connection, last["receipt"]) or {})["receipt"]
        bodies = connection.scalars(sa.select(tables.receipts.c.body)).all()
    assert body["breaker"]["action"] == "suppress"
    assert body["breaker"]["watch"] == "model"
    assert sum('"event":"opened"' in text for text in bodies) == 1


def test_despair_keeps_its_queue_while_the_breaker_is_open(say: Say) -> None:
    flooded(say)
    [decision] = say("活不下去")
    assert (decision["action"], decision["queue"]) == ("route", "crisis")
    assert decision["breaker"] is None


def test_a_person_confirms_what_the_breaker_left_to_them(say: Say, service: Service) -> None:
    last = flooded(say)[-1]
    closed = triage.close(service.store, last["queue_item"], Verdict("confirm", "李雷"))
    assert (closed["entry"]["state"], closed["entry"]["method"]) == ("active", "human")


def test_it_closes_by_itself_when_the_rate_is_usual_again(say: Say, service: Service) -> None:
    flooded(say)
    with capture_logs() as logs:
        say("你好", 20)
    assert [line["event"] for line in logs if line["event"].startswith("breaker")] == [
        "breaker_closed"
    ]
    assert say("别再发")[0]["action"] == "suppress"


def test_a_flood_of_keywords_from_strangers_raises_the_alarm_and_still_stops(
    say: Say, service: Service, reply: Reply
) -> None:
    say("你好", 60, vendor="aliyun", key_id="k1")
    decisions = say("退订", 20, vendor="aliyun", key_id="k1")
    assert {decision["action"] for decision in decisions} == {"suppress"}
    with service.store.read() as connection:
        watches = {w.name: w.is_open for w in guard.watches(connection)}
    assert watches == {"aliyun:k1": True, "model": False}
    assert say("退订", vendor="aliyun", key_id="k2")[0]["breaker"] is None


def test_people_heard_of_before_are_no_strangers(service: Service, reply: Reply) -> None:
    people = range(1, 61)
    service.submit([reply(n, "你好") for n in people])
    service.submit([reply(n, "退订") for n in people])
    with service.store.read() as connection:
        assert not any(w.is_open for w in guard.watches(connection))
        [source] = [w for w in guard.watches(connection) if w.name == "test"]
    assert source.yes == 0


def test_while_the_encoder_is_missing_nothing_becomes_usual(
    settings: Settings, keyword_bundle: Any, reply: Reply
) -> None:
    from model.classifier import Classifier

    service = Service(settings, Classifier.load_keywords(keyword_bundle))
    service.start()
    service.submit([reply(n, "你好") for n in range(60)])
    with service.store.read() as connection:
        assert [w.name for w in guard.watches(connection)] == ["test"]
    service.stop()


def test_a_window_of_nothing_is_no_breaker(
    settings: Settings, classifier: Any, reply: Reply
) -> None:
    off = settings.model_copy(update={"breaker_window": 0})
    service = Service(off, classifier)
    service.start()
    people = iter(range(1000))
    service.submit([reply(next(people), "你好") for _ in range(60)])
    outcomes = service.submit([reply(next(people), "别再发") for _ in range(40)])
    assert {outcome.decision["action"] for outcome in outcomes} == {"suppress"}
    service.stop()


def test_everybody_is_told_that_it_is_open(settings: Settings, classifier: Any) -> None:
    store = Store.open(settings)
    with store.write() as connection:
        key = auth.create(connection, "a", ["admin"])
    store.close()
    with TestClient(create_app(settings, classifier), headers={"x-api-key": key}) as client:
        assert client.get("/readyz").json()["breaker"] == "closed"
        for start, text in ((0, "你好"), (60, "别再发")):
            replies = [
                {"id": f"m{n}", "phone": f"13800002{n:03}", "text": text}
                for n in range(start, start + 60)
            ]
            assert client.post("/v1/replies", json=replies).status_code == 200
        ready = client.get("/readyz").json()
        assert ready["status"] == "degraded"
        assert ready["breaker"].startswith("open: model;")
        key_id = key.split("_")[1]
        assert client.get("/v1/stats").json()["breaker"] == {f"generic:{key_id}": 0, "model": 1}
        assert 'breaker_open{watch="model"} 1.0' in client.get("/metrics").text


def test_a_named_person_closes_it_for_a_reason(
    monkeypatch: pytest.MonkeyPatch, settings: Settings, say: Say, service: Service
) -> None:
    monkeypatch.setenv("TINGXIN_HOME", str(settings.home))
    monkeypatch.setenv("TINGXIN_BREAKER_HISTORY", "20")
    if settings.database_url is not None:
        monkeypatch.setenv("TINGXIN_DATABASE_URL", settings.database_url.get_secret_value())
    flooded(say)

    def breaker(*arguments: str) -> Any:
        return CliRunner().invoke(app, ["breaker", *arguments])

    shown = breaker("status")
    assert (shown.exit_code, "打开 open" in shown.output) == (1, True)
    who = ("--actor", "李雷", "--reason", "模型已换回")
    assert breaker("close", "model", "--actor", "李雷", "--reason", " ").exit_code == 2
    assert "no open watch" in breaker("close", "nobody", *who).output
    assert "closed: model" in breaker("close", "model", *who).output
    assert breaker("status").exit_code == 0
    assert say("别再发")[0]["action"] == "suppress"
    with service.store.read() as connection:
        body = connection.scalars(
            sa.select(tables.receipts.c.body).where(
                tables.receipts.c.body.contains('"event":"closed"')
            )
        ).one()
        assert receipts.verify(connection).holds
    assert '"actor":"李雷"' in body
