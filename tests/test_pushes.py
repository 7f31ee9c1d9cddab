"""What people look after pushes with: the routes of targets and dead letters, and the commands beside them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr
from typer.testing import CliRunner, Result

from serving import auth, exchange, tables
from serving.api import create_app
from serving.cli import app
from serving.settings import Settings
from serving.store import Store, now
from serving.targets.config import WebhookTarget

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.fixture
def configured(settings: Settings) -> Settings:
    """Two targets that nothing listens for, the second disabled before the service starts."""
    secret = SecretStr(SECRET)
    targets = tuple(
        WebhookTarget(name=n, url="http://127.0.0.1:1/hook", secret=secret) for n in ("a", "b")
    )
    return settings.model_copy(update={"targets": targets})


def bury(settings: Settings, target: str, number: int) -> str:
    """Make a dead letter of a target; return the event's id."""
    store = Store.open(settings)
    phone = f"+861380000{number:04}"
    exchange.add(store, "default", phone, "marketing", "李雷", "来电")
    c = tables.outbox.c
    with store.write() as connection:
        dead = {"state": "dead", "attempts": 10, "last_error": "HTTP 500", "target": target}
        mine = c.phone_hmac == store.phones.key(phone)
        connection.execute(tables.outbox.update().where(mine, c.target == "").values(**dead))
        event_id: str = connection.execute(tables.outbox.select().where(mine)).one().id
    store.close()
    return event_id


@pytest.fixture
def client(settings: Settings, classifier: Any) -> Iterator[TestClient]:
    """The API with no target, so that nothing moves while a test looks."""
    store = Store.open(settings)
    with store.write() as connection:
        keys = {scope: auth.create(connection, scope, [scope]) for scope in ("read", "admin")}
        connection.execute(tables.push_targets.insert(), {"name": "a", "tokens": 0})
    store.close()
    with TestClient(create_app(settings, classifier)) as client:
        client.headers["x-api-key"] = keys["admin"]
        client.app_state["read"] = keys["read"]
        yield client


def test_dead_letters_are_listed_shown_and_replayed(client: TestClient, settings: Settings) -> None:
    one, two = bury(settings, "a", 1), bury(settings, "b", 2)
    listed = client.get("/v1/dead-letters").json()
    assert [(d["event"], d["target"]) for d in listed["dead_letters"]] == [(one, "a"), (two, "b")]
    assert listed["total"] == 2
    of_b = client.get("/v1/dead-letters", params={"target": "b"}).json()["dead_letters"]
    assert [d["event"] for d in of_b] == [two]
    [shown] = client.get(f"/v1/dead-letters/{one}").json()["dead_letters"]
    assert (shown["phone_masked"], shown["last_error"]) == ("138****0001", "HTTP 500")
    assert shown["cloud_event"]["id"] == one
    assert "13800000001" not in str(shown)
    replayed = client.post("/v1/dead-letters/replay", json={"events": [one]}).json()
    assert replayed == {"sent": 1, "superseded": 0}
    assert client.get(f"/v1/dead-letters/{one}").status_code == 404
    assert client.post("/v1/dead-letters/replay", json={"target": "a"}).json()["sent"] == 0
    assert client.post("/v1/dead-letters/replay", json={}).json()["sent"] == 1


def test_a_targets_letters_are_seen_though_it_is_not_configured(
    client: TestClient, settings: Settings
) -> None:
    bury(settings, "a", 1)
    [target] = client.get("/v1/targets").json()["targets"]
    assert (target["name"], target["state"], target["dead_letters"]) == ("a", "unconfigured", 1)


def test_a_target_is_disabled_and_enabled_by_an_admin(client: TestClient) -> None:
    disabled = client.post("/v1/targets/a/disable", json={"reason": "维护"})
    assert disabled.json() == {"target": "a", "enabled": False}
    assert client.post("/v1/targets/a/enable").json() == {"target": "a", "enabled": True}
    assert client.post("/v1/targets/x/enable").status_code == 404
    assert client.post("/v1/targets/x/disable", json={"reason": "维护"}).status_code == 404
    client.headers["x-api-key"] = client.app_state["read"]
    assert client.get("/v1/targets").status_code == 200
    assert client.post("/v1/targets/a/enable").status_code == 403
    assert client.post("/v1/targets/a/disable", json={"reason": "x"}).status_code == 403
    assert client.post("/v1/dead-letters/replay", json={}).status_code == 403


def test_readiness_names_the_targets_that_are_disabled(
    configured: Settings, classifier: Any
) -> None:
    with TestClient(create_app(configured, classifier)) as client:
        assert client.get("/readyz").json()["push"] == "ok"
        store = client.app.state.service.store  # type: ignore[attr-defined]
        with store.write() as connection:
            values = {"disabled_at": now(), "reason": "HTTP 410"}
            table = tables.push_targets
            connection.execute(table.update().where(table.c.name == "b").values(**values))
        ready = client.get("/readyz").json()
        assert (ready["status"], ready["push"]) == ("degraded", "disabled: b; see /v1/targets")


@pytest.fixture
def environment(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "targets.toml"
    hooks = "".join(f"[{n}]\nkind = 'webhook'\nurl = 'http://127.0.0.1:1'\n" for n in ("a", "b"))
    file.write_text(hooks, encoding="utf-8")
    monkeypatch.setenv("TINGXIN_HOME", str(settings.home))
    monkeypatch.setenv("TINGXIN_TARGETS", str(file))
    for name in ("A", "B"):
        monkeypatch.setenv(f"TINGXIN_SECRET_{name}", SECRET)
    if settings.database_url is not None:
        monkeypatch.setenv("TINGXIN_DATABASE_URL", settings.url)


def tingxin(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def test_the_commands_do_what_the_routes_do(environment: None, settings: Settings) -> None:
    one, two = bury(settings, "a", 1), bury(settings, "b", 2)
    assert tingxin("dead-letters", "list", "--target", "b").output.startswith(f"{two}\tb\t")
    shown = tingxin("dead-letters", "show", one).output
    assert '"phone_masked": "138****0001"' in shown
    assert tingxin("dead-letters", "show", "evt_x").exit_code == 2
    assert "1 to be sent" in tingxin("dead-letters", "replay", one).output
    assert "1 to be sent" in tingxin("dead-letters", "replay", "--target", "b").output
    assert tingxin("dead-letters", "list").output == ""


def test_targets_are_listed_disabled_and_enabled(environment: None, settings: Settings) -> None:
    store = Store.open(settings)
    with store.write() as connection:
        connection.execute(tables.push_targets.insert(), {"name": "a", "tokens": 0})
    store.close()
    bury(settings, "b", 1)
    assert tingxin("targets", "disable", "a", "--reason", "李雷:维护").exit_code == 0
    a, b = tingxin("targets", "list").output.splitlines()
    assert a == "a\twebhook\tdisabled\t0\t0\t0.0\t李雷:维护"
    assert b.startswith("b\twebhook\tok\t0\t1\t")
    assert tingxin("targets", "enable", "a").exit_code == 0
    assert "a\twebhook\tok" in tingxin("targets", "list").output
    assert tingxin("targets", "enable", "x").exit_code == 2
    assert tingxin("targets", "disable", "x", "--reason", "y").exit_code == 2
