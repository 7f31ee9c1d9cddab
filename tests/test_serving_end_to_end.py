"""The service as it is run: over loopback, to a real receiver, and through a kill -9."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import sqlalchemy as sa
from service_process import Process, until

from model.bundle import MANIFEST, SHIPPED
from serving import receipts, tables
from serving.receiver import Receiver
from serving.settings import Settings
from serving.store import Store

PUSH_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
CALLBACK = [
    {"phone_number": "13800001001", "content": "退订", "send_time": "2026-11-01 10:00:00",
     "dest_code": "1001", "sequence_id": "4001"},
    {"phone_number": "13800001002", "content": "你好", "send_time": "2026-11-01 10:00:01",
     "dest_code": "1001", "sequence_id": 4002},
]  # fmt: skip


@pytest.fixture
def environment(tmp_path: Path, keyword_bundle: Path, receiver: Receiver) -> dict[str, str]:
    """The shipped bundle where there is one, else keywords: what is tested here is not the model."""
    bundle = SHIPPED if (SHIPPED / MANIFEST).is_file() else keyword_bundle
    return os.environ | {
        "TINGXIN_HOME": str(tmp_path / "home"),
        "TINGXIN_BUNDLE": str(bundle),
        "TINGXIN_PUSH_URL": receiver.url,
        "TINGXIN_PUSH_SECRET": PUSH_SECRET,
    }


@pytest.fixture
def start(environment: dict[str, str]) -> Iterator[Callable[[], Process]]:
    """Start a service process; whatever still runs at the end is killed."""
    started: list[Process] = []

    def start() -> Process:
        started.append(Process(environment))
        return started[-1]

    yield start
    for process in started:
        process.reap()


@contextmanager
def calling(process: Process, key: str) -> Iterator[httpx2.Client]:
    headers = {"authorization": f"Bearer {key}"}
    with httpx2.Client(
        base_url=process.url, headers=headers, timeout=30, trust_env=False
    ) as client:
        yield client


def test_an_aliyun_callback_suppresses_before_it_is_answered_and_is_pushed_once(
    start: Callable[[], Process], receiver: Receiver
) -> None:
    process = start()
    with calling(process, process.key) as client:
        # Aliyun can send no header: its key stands in the path.
        path = f"/v1/inbound/aliyun/{process.key}"
        answer = httpx2.post(process.url + path, json=CALLBACK, trust_env=False)
        assert (answer.status_code, answer.json()) == (200, {"code": 0, "msg": "接收成功"})
        check = {"phones": ["13800001001", "13800001002"]}
        results = client.post("/v1/suppressions/check", json=check).json()["results"]
        assert [r["suppressed"] for r in results] == [True, False]
        until(lambda: client.get("/v1/stats").json()["outbox"] == {"delivered": 1})

        before = [client.get(p).json() for p in ("/v1/stats", "/v1/suppressions/changes")]
        again = client.post("/v1/inbound/aliyun", json=CALLBACK)
        assert again.json()["code"] == 0
        assert [client.get(p).json() for p in ("/v1/stats", "/v1/suppressions/changes")] == before

        bad = client.post("/v1/inbound/aliyun", json=[{"content": "退订"}, CALLBACK[0]])
        assert bad.status_code == 400
        assert bad.json()["errors"] == [{"position": 0, "why": "phone_number is no text"}]
    [event] = receiver.events
    assert event["type"] == "cn.tingxin.suppression.created"
    assert event["data"]["phone"] == "+8613800001001"
    log = process.stop()
    assert "/v1/inbound/{vendor}/{key}" in log
    assert not any(secret in log for secret in ("1380000", "退订", process.key))


def test_a_kill_loses_no_acknowledged_reply_and_no_push(
    start: Callable[[], Process], environment: dict[str, str], receiver: Receiver
) -> None:
    """A thousand replies, ten at a time from four callers; the process is killed half way."""
    process = start()
    key = process.key
    acknowledged: dict[str, dict[str, Any]] = {}

    def post(first: int) -> None:
        replies = [
            {"id": f"m{n}", "phone": f"1390000{n:04}", "text": "退订" if n % 2 else "验证码没收到"}
            for n in range(first, first + 10)
        ]
        try:
            answer = client.post("/v1/replies", json=replies)
        except httpx2.TransportError:
            return  # not acknowledged
        if answer.is_success:
            acknowledged.update({r["id"]: r for r in answer.json()["results"]})
        if len(acknowledged) >= 500:
            process.kill()

    with calling(process, key) as client, ThreadPoolExecutor(4) as pool:
        list(pool.map(post, range(0, 1000, 10)))
    assert 500 <= len(acknowledged) < 1000

    process = start()
    assert not process.key  # shown at the first start only
    with calling(process, key) as client:
        replies = [{"id": i, "phone": "13900000000", "text": "T"} for i in acknowledged]
        again = client.post("/v1/replies", json=replies).json()["results"]
        assert [r.pop("status") for r in again] == ["replayed"] * len(acknowledged)
        made = [{k: v for k, v in r.items() if k != "status"} for r in acknowledged.values()]
        assert again == made
        until(lambda: "pending" not in client.get("/v1/stats").json()["outbox"])
    process.stop()

    told = {event["data"]["phone"] for event in receiver.events}
    assert {f"+861390000{int(i[1:]):04}" for i in acknowledged if int(i[1:]) % 2} <= told
    store = Store.open(Settings(home=Path(environment["TINGXIN_HOME"])))
    with store.read() as connection:
        assert receipts.verify(connection).holds
        undelivered = sa.select(tables.outbox.c.id).where(tables.outbox.c.state != "delivered")
        assert not connection.execute(undelivered).all()
        blocked = connection.scalar(sa.select(sa.func.count()).select_from(tables.suppressions))
    assert blocked == len(told)
    store.close()


def test_a_stop_answers_what_it_has_taken_and_takes_nothing_that_it_does_not_answer(
    start: Callable[[], Process], environment: dict[str, str]
) -> None:
    """SIGTERM while four callers post: what is in the database and what was acknowledged are the same."""
    process = start()
    acknowledged: set[str] = set()
    turned_away: list[int] = []

    def post(first: int) -> None:
        replies = [
            {"id": f"m{n}", "phone": f"1390000{n:04}", "text": "退订"}
            for n in range(first, first + 10)
        ]
        try:
            # A connection of its own: on one that is kept alive, closing and sending may cross.
            answer = httpx2.post(
                f"{process.url}/v1/replies",
                json=replies,
                headers={"x-api-key": process.key},
                timeout=30,
                trust_env=False,
            )
        except httpx2.TransportError:
            turned_away.append(first)
            return
        if answer.is_success:
            acknowledged.update(r["id"] for r in answer.json()["results"])
        if len(acknowledged) >= 200:
            process.terminate()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(post, range(0, 1000, 10)))
    assert "stopped" in process.stop()
    assert turned_away
    store = Store.open(Settings(home=Path(environment["TINGXIN_HOME"])))
    with store.read() as connection:
        assert set(connection.scalars(sa.select(tables.replies.c.vendor_id))) == acknowledged
        assert receipts.verify(connection).holds
    store.close()


def test_the_first_start_shows_the_key_once(start: Callable[[], Process]) -> None:
    first = start()
    assert "仅显示这一次" in first.said
    first.stop()
    assert "tx_" not in start().said


def test_a_wrong_setting_is_a_sentence(environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "serving", "serve"]
    bad = environment | {"TINGXIN_PORTS": "1"}
    run = subprocess.run(command, env=bad, capture_output=True, encoding="utf-8", check=False)
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr.startswith(
        "TINGXIN_PORTS is no setting of Tingxin; did you mean TINGXIN_PORT?"
    )


def test_serving_loads_no_torch(environment: dict[str, str]) -> None:
    heavy = ["torch", "transformers", "jieba", "sklearn", "training"]
    code = f"import serving.api, serving.demo, sys, json; print(json.dumps([m for m in {heavy} if m in sys.modules]))"
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True
    )
    assert json.loads(run.stdout) == []
