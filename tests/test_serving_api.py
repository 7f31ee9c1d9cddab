"""The routes: what they answer, whom they let in, and that errors are problems that name nobody."""

import csv
import io
import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import hypothesis
import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from sqlalchemy.exc import OperationalError
from structlog.testing import capture_logs

from serving import auth, outbox
from serving.api import create_app
from serving.middleware import SECURITY_HEADERS
from serving.settings import Settings
from serving.store import Store

PHONE = "13800003001"
FIELDS = st.sampled_from(
    ["phone", "text", "id", "time", "texts", "phones", "scope", "list", "actor", "reason",
     "outcome", "labels", "phone_number", "content", "sequence_id", "send_time"]
)  # fmt: skip


@pytest.fixture
def keys(settings: Settings) -> dict[str, str]:
    """A key of each scope."""
    store = Store.open(settings)
    with store.write() as connection:
        made = {scope: auth.create(connection, scope, [scope]) for scope in auth.SCOPES}
    store.close()
    return made


@pytest.fixture
def client(settings: Settings, classifier: Any, keys: dict[str, str]) -> Iterator[TestClient]:
    with TestClient(create_app(settings, classifier)) as client:
        client.headers["authorization"] = f"Bearer {keys['admin']}"
        yield client


def is_suppressed(client: TestClient, phone: str = PHONE, scope: str = "marketing") -> bool:
    body = {"phones": [phone], "scope": scope}
    answer = client.post("/v1/suppressions/check", json=body).json()
    return bool(answer["results"][0]["suppressed"])


ROUTES = [
    ("POST", "/v1/classify", "read"),
    ("POST", "/v1/replies", "ingest"),
    ("POST", "/v1/inbound/generic", "ingest"),
    ("POST", "/v1/inbound/aliyun", "ingest"),
    ("GET", "/v1/inbound/vonage", "ingest"),
    ("GET", "/v1/templates", "admin"),
    ("POST", "/v1/templates", "admin"),
    ("DELETE", "/v1/templates/tp_1", "admin"),
    ("GET", f"/v1/suppressions/{PHONE}", "read"),
    ("POST", "/v1/suppressions/check", "read"),
    ("POST", "/v1/suppressions", "review"),
    ("POST", f"/v1/suppressions/{PHONE}/release", "review"),
    ("GET", "/v1/suppressions/changes", "read"),
    ("GET", "/v1/suppressions/export", "admin"),
    ("POST", "/v1/suppressions/import", "admin"),
    ("GET", "/v1/queue", "review"),
    ("GET", "/v1/queue/q_1", "review"),
    ("POST", "/v1/queue/q_1", "review"),
    ("GET", "/v1/receipts/rc_1", "read"),
    ("POST", "/v1/receipts/export", "admin"),
    ("GET", "/v1/stats", "read"),
    ("GET", "/v1/targets", "read"),
    ("POST", "/v1/targets/a/enable", "admin"),
    ("POST", "/v1/targets/a/disable", "admin"),
    ("GET", "/v1/dead-letters", "read"),
    ("GET", "/v1/dead-letters/evt_1", "read"),
    ("POST", "/v1/dead-letters/replay", "admin"),
]


@pytest.mark.parametrize(("method", "path", "scope"), ROUTES)
def test_a_route_opens_to_its_scope_and_to_admin_only(
    client: TestClient, keys: dict[str, str], method: str, path: str, scope: str
) -> None:
    def status(headers: dict[str, str]) -> int:
        return client.request(method, path, json={}, headers=headers).status_code

    client.headers.pop("authorization")
    assert status({}) == 401
    assert status({"x-api-key": "tx_00000000_wrong"}) == 401
    for holder, key in keys.items():
        opened = status({"x-api-key": key}) not in (401, 403)
        assert opened == (holder in (scope, "admin")), holder


def test_a_revoked_key_opens_nothing(
    client: TestClient, settings: Settings, keys: dict[str, str]
) -> None:
    headers = {"authorization": f"Bearer {keys['read']}"}
    assert client.get("/v1/stats", headers=headers).status_code == 200
    store = Store.open(settings)
    with store.write() as connection:
        assert auth.revoke(connection, [keys["read"].split("_")[1]]) == 1
    store.close()
    refused = client.get("/v1/stats", headers=headers)
    assert refused.status_code == 401
    assert refused.headers["www-authenticate"] == "Bearer"


def test_an_expired_key_opens_nothing(client: TestClient, settings: Settings) -> None:
    store = Store.open(settings)
    with store.write() as connection:
        made = [auth.create(connection, "x", ["read"], days) for days in (0, 1)]
    store.close()
    answers = [client.get("/v1/stats", headers={"authorization": f"Bearer {k}"}) for k in made]
    assert [answer.status_code for answer in answers] == [401, 200]


def test_each_key_has_its_own_rate_and_replies_are_never_turned_away(
    settings: Settings, classifier: Any, keys: dict[str, str]
) -> None:
    slow = settings.model_copy(update={"requests_per_minute": 3})
    with TestClient(create_app(slow, classifier)) as client:

        def status(path: str, holder: str) -> int:
            return client.get(path, headers={"x-api-key": keys[holder]}).status_code

        assert [status("/v1/stats", "read") for _ in range(4)] == [200, 200, 200, 429]
        assert status("/v1/stats", "admin") == 200
        refused = client.get("/v1/stats", headers={"x-api-key": keys["read"]})
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        assert refused.json()["type"] == "urn:tingxin:problem:busy"
        body = {"phone": PHONE, "text": "T"}
        for _ in range(5):
            answer = client.post("/v1/replies", json=body, headers={"x-api-key": keys["ingest"]})
            assert answer.status_code == 200


def test_every_answer_carries_the_headers_that_keep_it_private(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr("serving.suppressions.entries", breaks)
    paths = ["/healthz", "/metrics", "/nowhere", "/v1/stats", f"/v1/suppressions/{PHONE}"]
    answers = [client.get(path) for path in paths]
    assert [answer.status_code for answer in answers] == [200, 200, 404, 200, 500]
    for answer in answers:
        assert SECURITY_HEADERS.items() <= {k.title(): v for k, v in answer.headers.items()}.items()


def test_classify_keeps_nothing(client: TestClient) -> None:
    answer = client.post("/v1/classify", json={"texts": ["T", "T恤还有货吗", "别再发了"]}).json()
    assert [p["labels"] for p in answer["predictions"]] == [["opt_out"], [], ["opt_out"]]
    assert client.get("/v1/stats").json()["replies"] == {}


def test_replies_are_answered_with_their_decisions_in_order(client: TestClient) -> None:
    texts = ["退订", "你好", "少发点吧"]
    replies = [{"id": f"m{n}", "phone": f"1380000100{n}", "text": t} for n, t in enumerate(texts)]
    results = client.post("/v1/replies", json=replies).json()["results"]
    assert [r["action"] for r in results] == ["suppress", "none", "hold"]
    assert [r["status"] for r in results] == ["stored"] * 3
    again = client.post("/v1/replies", json=replies).json()["results"]
    assert [r.pop("status") for r in again] == ["replayed"] * 3
    assert [r["receipt"] for r in again] == [r["receipt"] for r in results]


def test_one_bad_reply_does_not_hold_up_the_others(client: TestClient) -> None:
    replies = [
        {"phone": "not a number", "text": "退订"},
        {"phone": PHONE, "text": "退订"},
        {"phone": "13800001002", "text": "啊" * 20_001},
    ]
    results = client.post("/v1/replies", json=replies).json()["results"]
    assert [r["status"] for r in results] == ["refused", "stored", "refused"]
    assert is_suppressed(client)
    alone = client.post("/v1/replies", json=replies[0])
    assert alone.status_code == 422
    assert alone.json()["title"].startswith("内容不符合要求")


@pytest.mark.parametrize("path", ["/v1/replies", "/v1/inbound/generic", "/v1/inbound/aliyun"])
def test_a_text_cut_within_an_emoji_counts(client: TestClient, path: str) -> None:
    half = r'[{"%s": "13800003001", "%s": "退订\ud83d", "sequence_id": 1}]'
    names = ("phone_number", "content") if "aliyun" in path else ("phone", "text")
    body = (half % names).encode()
    answer = client.post(path, content=body, headers={"content-type": "application/json"})
    assert answer.is_success, answer.text
    assert is_suppressed(client)


def test_a_marketing_entry_never_blocks_a_one_time_password(client: TestClient) -> None:
    client.post("/v1/replies", json={"phone": PHONE, "text": "退订"})
    assert is_suppressed(client, scope="marketing")
    assert is_suppressed(client, scope="sender:某贷")
    assert not is_suppressed(client, scope="otp")
    assert not is_suppressed(client, scope="transactional")


def test_scopes_cover_what_they_say(client: TestClient) -> None:
    for phone, scope in [("13800003001", "all"), ("13800001002", "sender:甲")]:
        body = {"phone": phone, "scope": scope, "actor": "李雷", "reason": "来电要求"}
        assert client.post("/v1/suppressions", json=body).status_code == 201
    asked = ("marketing", "otp", "sender:甲", "sender:乙")
    assert [is_suppressed(client, "13800003001", s) for s in asked] == [True] * 4
    assert [is_suppressed(client, "13800001002", s) for s in asked] == [False, False, True, False]


def test_what_nobody_can_read_is_not_cleared_for_sending(client: TestClient) -> None:
    answer = client.post("/v1/suppressions/check", json={"phones": ["???", PHONE]}).json()
    assert [r["suppressed"] for r in answer["results"]] == [True, False]


def test_all_ways_of_writing_a_number_are_one_person(client: TestClient) -> None:
    client.post("/v1/replies", json={"phone": PHONE, "text": "退订"})
    for written in ("+8613800003001", "008613800003001", "138 0000 3001", "１３８００００３００１"):
        assert is_suppressed(client, written), written


def test_a_release_needs_a_name_and_a_reason(client: TestClient) -> None:
    client.post("/v1/replies", json={"phone": PHONE, "text": "退订"})
    path = f"/v1/suppressions/{PHONE}/release"
    assert client.post(path, json={"actor": "李雷"}).status_code == 422
    answer = client.post(path, json={"actor": "李雷", "reason": "本人来电"})
    assert answer.json()["released"][0]["state"] == "released"
    assert not is_suppressed(client)
    assert client.post(path, json={"actor": "李雷", "reason": "再来"}).status_code == 404


def test_a_blank_reason_releases_nothing(client: TestClient) -> None:
    client.post("/v1/replies", json={"phone": PHONE, "text": "少发点吧"})
    [item] = client.get("/v1/queue").json()["items"]
    path = f"/v1/queue/{item['id']}"
    blank = {"outcome": "release", "actor": "李雷", "reason": " "}
    assert client.post(path, json=blank).status_code == 422
    assert is_suppressed(client)
    correction = {"outcome": "correct", "actor": "李雷", "reason": " ", "labels": []}
    assert client.post(path, json=correction).json()["entry"]["state"] == "released"


def test_the_change_feed_continues_where_it_was_left(client: TestClient) -> None:
    client.post("/v1/replies", json={"phone": PHONE, "text": "退订"})
    first = client.get("/v1/suppressions/changes").json()
    client.post("/v1/replies", json={"phone": PHONE, "text": "START"})
    second = client.get("/v1/suppressions/changes", params={"after": first["next"]}).json()
    [change] = second["changes"]
    assert (change["phone"], change["state"], change["method"]) == (
        "+8613800003001",
        "released",
        "keyword",
    )
    nothing = client.get("/v1/suppressions/changes", params={"after": second["next"]}).json()
    assert nothing == {"changes": [], "next": second["next"]}


def test_an_export_imports_elsewhere(client: TestClient) -> None:
    client.post("/v1/replies", json={"phone": PHONE, "text": "退订"})
    body = {"phone": "13800001002", "scope": "all", "actor": "=cmd()", "reason": "投诉"}
    client.post("/v1/suppressions", json=body)
    exported = client.get("/v1/suppressions/export").content
    rows = list(csv.DictReader(io.StringIO(exported.decode("utf-8-sig"))))
    assert {(r["phone"], r["scope"]) for r in rows} == {
        ("+8613800003001", "marketing"),
        ("+8613800001002", "all"),
    }
    assert "'=cmd()" in exported.decode()
    path = "/v1/suppressions/import?list=other"
    done = client.post(path, content=exported).json()
    assert (done["added"], done["already"], done["refused"]) == (2, 0, 0)
    done = client.post(path, content=exported).json()
    assert (done["added"], done["already"]) == (0, 2)
    other = {"phones": ["13800001002"], "scope": "otp", "list": "other"}
    assert client.post("/v1/suppressions/check", json=other).json()["results"][0]["suppressed"]


def test_an_import_names_the_lines_it_cannot_read(client: TestClient) -> None:
    content = "手机号,scope\n13800003001,\nabc,\n13800001002,everything\n"
    done = client.post("/v1/suppressions/import", content=content.encode()).json()
    assert done["added"] == 1
    assert [fault["line"] for fault in done["faults"]] == [3, 4]
    assert [fault["phone_masked"] for fault in done["faults"]] == ["****", "138****02"]
    content = "手机号\n13800003001\n13800003002\n".encode()
    dry = client.post("/v1/suppressions/import?dry_run=true", content=content).json()
    assert (dry["added"], dry["already"], dry["receipts"]) == (1, 1, [])
    assert not is_suppressed(client, "13800003002")
    for unreadable in (b"name\nx\n", "手机号\n".encode("gb18030")):
        assert client.post("/v1/suppressions/import", content=unreadable).status_code == 400


def test_a_receipt_says_why_and_names_neither_number_nor_text(client: TestClient) -> None:
    reply = {"id": "m1", "phone": PHONE, "text": "请别再发了谢谢"}
    [result] = client.post("/v1/replies", json=reply).json()["results"]
    answer = client.get(f"/v1/receipts/{result['receipt']}")
    receipt = answer.json()["receipt"]
    assert receipt["action"] == "suppress"
    assert receipt["scores"]["opt_out"] == 0.99
    assert receipt["thresholds"]["suppress"] == 0.9
    assert receipt["promise"] == {"max_wrong": 0.01, "confidence": 0.95}
    assert receipt["span"] == [1, 4]
    assert answer.json()["pushes"][0]["state"] == "pending"
    assert "0000100" not in answer.text
    assert "别再发" not in answer.text


def test_every_error_is_a_problem_that_repeats_no_input(client: TestClient) -> None:
    faults = [
        client.get("/nowhere"),
        client.delete("/v1/replies"),
        client.post("/v1/replies", content=b"{", headers={"content-type": "application/json"}),
        client.post("/v1/replies", json={"phone": PHONE, "text": ["别再发了"]}),
        client.post("/v1/replies", json=[]),
        client.post("/v1/inbound/aliyun", content=b"<xml>"),
        client.post("/v1/inbound/nobody", json=[]),
        client.get("/v1/suppressions/13800003001x"),
        client.post("/v1/suppressions/check", json={"phones": [PHONE], "scope": "别再发了"}),
        client.get("/v1/receipts/rc_0"),
        client.post("/v1/queue/q_0", json={"outcome": "confirm", "actor": "李雷"}),
    ]
    statuses = [answer.status_code for answer in faults]
    assert statuses == [404, 405, 400, 422, 422, 400, 404, 422, 422, 404, 404]
    for answer in faults:
        assert answer.headers["content-type"] == "application/problem+json"
        assert set(answer.json()) >= {"type", "title", "status", "detail"}
        assert PHONE not in answer.text
        assert "别再发" not in answer.text


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/v1/receipts/rc_%00", None),
        ("GET", "/v1/queue/q_%00", None),
        ("GET", "/v1/queue?queue=%00", None),
        ("POST", "/v1/inbound/generic/tx_%00_x", {}),
        ("POST", "/v1/suppressions", {"actor": "\0", "reason": "x"}),
        ("POST", "/v1/suppressions", {"actor": "x", "reason": "\0"}),
        ("POST", "/v1/suppressions", {"actor": "x", "reason": "x", "scope": "sender:\0"}),
        ("POST", f"/v1/suppressions/{PHONE}/release", {"actor": " ", "reason": " "}),
        ("POST", "/v1/queue/q_1", {"outcome": "confirm", "actor": "\0"}),
    ],
)
def test_what_a_database_does_not_take_is_the_callers_mistake(
    client: TestClient, method: str, path: str, body: dict[str, str] | None
) -> None:
    if path == "/v1/suppressions" and body:
        body |= {"phone": PHONE}
    client.post("/v1/replies", json={"phone": PHONE, "text": "退订"})
    client.headers.pop("authorization") if "tx_" in path else None
    assert client.request(method, path, json=body).status_code in (401, 422)


def test_a_body_beyond_the_limit_is_refused(
    settings: Settings, classifier: Any, keys: dict[str, str]
) -> None:
    small = settings.model_copy(update={"max_body_bytes": 1024, "max_import_bytes": 2000})
    with TestClient(create_app(small, classifier)) as client:
        headers = {"x-api-key": keys["admin"]}
        long = client.post("/v1/suppressions/import", content=b"phone\n" * 200, headers=headers)
        assert long.is_success  # it has a limit of its own
        assert client.post("/v1/classify", json={"texts": ["啊"]}, headers=headers).is_success
        for path, size in [("/v1/classify", 1025), ("/v1/suppressions/import", 2001)]:
            refused = client.post(path, content=b" " * size, headers=headers)
            assert refused.status_code == 413
            assert refused.headers["content-type"] == "application/problem+json"


def test_a_full_intake_asks_to_come_again(
    settings: Settings, classifier: Any, keys: dict[str, str]
) -> None:
    small = settings.model_copy(update={"intake_capacity": 2})
    with TestClient(create_app(small, classifier)) as client:
        replies = [{"phone": f"1380000100{n}", "text": "退订"} for n in range(3)]
        headers = {"x-api-key": keys["ingest"]}
        refused = client.post("/v1/replies", json=replies, headers=headers)
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        assert client.post("/v1/replies", json=replies[:2], headers=headers).is_success


def test_logs_hold_route_templates_and_nobodys_data(
    client: TestClient, keys: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*_: object) -> None:
        raise RuntimeError(f"{PHONE} 别再发了")

    with capture_logs() as logs:
        client.post("/v1/replies", json={"phone": PHONE, "text": "别再发了"})
        client.post(
            f"/v1/inbound/generic/{keys['ingest']}", json={"phone": PHONE, "text": "别再发了"}
        )
        client.post("/v1/inbound/generic", params={"key": keys["ingest"]}, json={})
        client.get(f"/v1/suppressions/{PHONE}")
        monkeypatch.setattr("serving.suppressions.entries", breaks)
        broken = client.get(f"/v1/suppressions/{PHONE}")
    assert broken.status_code == 500
    assert broken.json()["type"] == "urn:tingxin:problem:internal"
    routes = [entry["route"] for entry in logs if entry["event"] == "request"]
    assert routes == [
        "/v1/replies",
        "/v1/inbound/{vendor}/{key}",
        "/v1/inbound/{vendor}",
        "/v1/suppressions/{phone}",
        "/v1/suppressions/{phone}",
    ]
    written = str(logs)
    assert not any(secret in written for secret in (PHONE, "别再发", keys["ingest"]))


def test_health_says_what_works(client: TestClient) -> None:
    assert client.get("/healthz").json() == {"status": "ok"}
    ready = client.get("/readyz").json()
    assert (ready["status"], ready["model"], ready["push"]) == ("ok", "ok", "not configured")
    client.post("/v1/replies", json={"phone": PHONE, "text": "退订"})
    metrics = client.get("/metrics").text
    assert 'replies_total{action="suppress",vendor="generic"} 1.0' in metrics
    assert "optout_to_suppressed_seconds_count 1.0" in metrics
    assert "model_ready 1.0" in metrics
    assert 'outbox_events{state="pending"} 1.0' in metrics
    stats = client.get("/v1/stats").json()
    assert (stats["replies"], stats["suppressions"]) == ({"suppress": 1}, {"active": 1})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=50),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(FIELDS | st.text(), inner, max_size=6)
    ),
    max_leaves=12,
)


@hypothesis.settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    path=st.sampled_from([path for method, path, _ in ROUTES if method == "POST"]), body=json_values
)
def test_no_body_whatever_breaks_a_route(client: TestClient, path: str, body: object) -> None:
    answer = client.post(
        path, content=json.dumps(body), headers={"content-type": "application/json"}
    )
    assert answer.status_code < 500, answer.text
    assert answer.is_success or answer.headers["content-type"] == "application/problem+json"


def test_a_stopped_intake_is_seen_and_takes_nothing(client: TestClient) -> None:
    client.app.state.service.intake.stop()  # type: ignore[attr-defined]
    assert client.get("/readyz").status_code == 503
    refused = client.post("/v1/replies", json={"phone": PHONE, "text": "退订"})
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")


def test_a_broken_encoder_leaves_keywords_working_and_says_so(
    settings: Settings, keyword_bundle: Any, keys: dict[str, str]
) -> None:
    degraded = settings.model_copy(update={"bundle": keyword_bundle})
    with TestClient(create_app(degraded)) as client:
        client.headers["x-api-key"] = keys["admin"]
        ready = client.get("/readyz").json()
        assert (ready["status"], ready["model"][:13]) == ("degraded", "keywords only")
        assert "model_ready 0.0" in client.get("/metrics").text
        replies = [
            {"phone": PHONE, "text": "退订"},
            {"phone": "13800001002", "text": "别再发了"},
        ]
        results = client.post("/v1/replies", json=replies).json()["results"]
    assert [r["action"] for r in results] == ["suppress", "review"]


def test_a_database_that_fails_is_a_503_that_names_nobody(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise OperationalError(f"SELECT '{PHONE}'", {}, Exception(f"{PHONE} is at fault"))

    monkeypatch.setattr(outbox, "counts", fails)
    with capture_logs() as logs:
        answer = client.get("/v1/stats")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert answer.json()["type"] == "urn:tingxin:problem:not-recorded"
    assert PHONE not in answer.text + str(logs)


def test_a_key_opens_while_its_use_cannot_be_noted(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auth, "_USE_NOTED_EVERY", timedelta(0))

    def fails(*_: object) -> None:
        raise OperationalError("UPDATE", {}, Exception("disk is full"))

    assert client.get("/v1/stats").is_success  # a first use
    monkeypatch.setattr(Store, "write", fails)
    assert client.get("/v1/stats").is_success
    assert client.get("/v1/stats", headers={"authorization": "Bearer tx_1_x"}).status_code == 401
