"""Four brokers, one behaviour: on disk before it is acknowledged, once in effect, the dead set aside.

Redis is a real one; the other three are FastStream's test brokers.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from serving import receipts, tables
from serving.cli import app
from serving.consumer import Consumer
from serving.service import Service
from serving.settings import Settings
from serving.store import Store

pytest.importorskip("faststream", reason="pip install 'tingxin[stream]'")
import redis
import redis_server

from serving import streams
from serving.streams import Kafka, Nats, Plan, Rabbit, StreamFault

PLAN = Plan("replies", "tingxin", "replies.dead", "me")


def person(number: int, **fields: str) -> str:
    return json.dumps({"phone": f"13800{number:06}", "text": "退订"} | fields)


def recorded(store: Store) -> int:
    with store.read() as connection:
        return connection.scalar(sa.select(sa.func.count()).select_from(tables.replies)) or 0


@pytest.fixture
def sqlite_service(tmp_path: Path, classifier: Any) -> Iterator[Service]:
    running = Service(Settings(home=tmp_path / "home"), classifier)
    running.start()
    yield running
    running.stop()


@pytest.fixture
def redis_url() -> Iterator[str]:
    try:
        with redis_server.running() as url:
            yield url
    except redis_server.NoRedis as missing:
        pytest.skip(str(missing))


async def _through_nats(broker: Nats, bodies: list[bytes], dead: list[Any]) -> None:
    from faststream.nats import JStream, TestNatsBroker

    broker.subscribe()

    @broker.broker.subscriber(PLAN.dead, stream=JStream("replies-dead"))
    async def bury(body: Any) -> None:
        dead.append(body)

    async with TestNatsBroker(broker.broker) as test:
        for body in bodies:
            await test.publish(body, PLAN.stream, stream="replies")


async def _through_rabbit(broker: Rabbit, bodies: list[bytes], dead: list[Any]) -> None:
    from faststream.rabbit import TestRabbitBroker

    broker.subscribe()

    @broker.broker.subscriber(PLAN.dead)
    async def bury(body: Any) -> None:
        dead.append(body)

    async with TestRabbitBroker(broker.broker) as test:
        for body in bodies:
            await test.publish(body, PLAN.stream)


async def _through_kafka(broker: Kafka, bodies: list[bytes], dead: list[Any]) -> None:
    from faststream.kafka import TestKafkaBroker

    broker.subscribe()

    @broker.broker.subscriber(PLAN.dead)
    async def bury(body: Any) -> None:
        dead.append(body)

    async with TestKafkaBroker(broker.broker) as test:
        await test.publish_batch(*bodies, topic=PLAN.stream)


@pytest.mark.parametrize(
    ("url", "through"),
    [
        ("nats://127.0.0.1:1", _through_nats),
        ("amqp://127.0.0.1:1", _through_rabbit),
        ("kafka://127.0.0.1:1", _through_kafka),
    ],
    ids=["nats", "rabbit", "kafka"],
)
def test_messages_are_recorded_and_what_cannot_be_read_is_buried(
    sqlite_service: Service, url: str, through: Callable[..., Any]
) -> None:
    dead: list[Any] = []
    broker = streams.opened(url, PLAN, Consumer(sqlite_service))
    array = f"[{person(2)}, {person(3)}]"
    asyncio.run(through(broker, [person(1).encode(), b"no JSON \xff", array.encode()], dead))
    assert recorded(sqlite_service.store) == 3
    assert dead == [b"no JSON \xff"]


def test_each_scheme_names_its_broker_and_an_unknown_one_is_refused(
    sqlite_service: Service,
) -> None:
    consumer = Consumer(sqlite_service)
    kinds = {
        scheme: type(
            streams.opened(f"{scheme}://user:hunter2@127.0.0.1:1", PLAN, consumer)
        ).__name__
        for scheme in streams.BROKERS
    }
    assert set(kinds.values()) == {"Redis", "Nats", "Rabbit", "Kafka"}
    for url in ("mqtt://user:hunter2@host", "redis", ""):
        with pytest.raises(StreamFault) as refused:
            streams.opened(url, PLAN, consumer)
        assert "hunter2" not in str(refused.value)


def test_a_consumer_killed_in_the_middle_loses_nothing_and_records_nothing_twice(
    settings: Settings, keyword_bundle: Path, redis_url: str
) -> None:
    """Over PostgreSQL a second consumer of the group runs beside it; over SQLite it comes after."""
    environment = os.environ | {
        "TINGXIN_HOME": str(settings.home),
        "TINGXIN_BUNDLE": str(keyword_bundle),
        "TINGXIN_STREAM_URL": redis_url,
    }
    if settings.database_url is not None:
        environment["TINGXIN_DATABASE_URL"] = settings.database_url.get_secret_value()
    command = [sys.executable, "-m", "serving", "consume", "--batch", "10", "--claim-after", "0.5"]

    def start() -> "subprocess.Popen[bytes]":
        return subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)

    store = Store.open(settings)
    client = redis.Redis.from_url(redis_url)

    def feed(numbers: range) -> None:
        for n in numbers:  # every other one has neither id nor time
            body = person(n, id=f"m-{n}") if n % 2 else person(n)
            client.xadd("replies", {"body": body})

    running = [start()]
    try:
        feed(range(250))
        if settings.database_url is not None:
            running.append(start())
        _until(lambda: recorded(store) >= 100)
        running[0].kill()
        running[0].wait()
        feed(range(250, 500))
        if len(running) == 1:
            running.append(start())
        _until(lambda: recorded(store) >= 500 and _settled(client))
        running[1].send_signal(signal.SIGTERM)
        assert running[1].wait(30) == 0
    finally:
        for process in running:
            process.kill()
            process.wait()
        client.close()
    with store.read() as connection:
        assert receipts.verify(connection).checked == 500
        entries = connection.execute(sa.select(tables.suppressions)).all()
        changes = connection.execute(sa.select(tables.changes)).all()
    store.close()
    assert len(entries) == len({e.phone_hmac for e in entries}) == len(changes) == 500


def _until(holds: Callable[[], bool]) -> None:
    for _ in range(3000):
        if holds():
            return
        time.sleep(0.02)
    raise AssertionError("not within a minute")


def _settled(client: Any) -> bool:
    [group] = client.xinfo_groups("replies")
    return group["pending"] == 0


def test_odd_entries_are_buried_with_their_reason_and_block_nobody(
    sqlite_service: Service, redis_url: str
) -> None:
    with redis.Redis.from_url(redis_url) as client:
        odd = [{"body": "no JSON"}, {b"\xff": b"\xfe"}, {"__data__": "[1]"}, {"body": person(1)}]
        for fields in (*odd, {"phone": "13800000002", "text": "T"}):
            client.xadd("replies", fields)
        consumer = Consumer(sqlite_service)
        broker = streams.opened(redis_url, PLAN, consumer)
        asyncio.run(_consumed(broker, consumer, lambda: recorded(sqlite_service.store) == 2))
        buried = [fields for _, fields in client.xrange("replies.dead")]
        assert [fields[b"reason"].decode() for fields in buried] == [
            "the body is no JSON",
            "entry 0: phone: Field required",
            "entry 0: entry: Input should be a valid dictionary or instance of GenericReply",
        ]
        assert buried[0][b"body"] == b"no JSON"
        assert _settled(client)


async def _consumed(broker: Any, consumer: Consumer, done: Callable[[], bool]) -> None:
    """Run the broker until `done`, then stop it as a signal would."""
    ready = asyncio.Event()
    task = asyncio.create_task(streams.run(broker, consumer, ready.set))
    await asyncio.wait_for(ready.wait(), 10)
    for _ in range(500):
        if done():
            break
        await asyncio.sleep(0.02)
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(task, 40)


def test_a_group_that_is_deleted_ends_the_consumer_with_a_fault(
    sqlite_service: Service, redis_url: str
) -> None:
    consumer = Consumer(sqlite_service)
    broker = streams.opened(redis_url, PLAN, consumer)

    def delete() -> None:
        with redis.Redis.from_url(redis_url) as client:
            client.delete("replies")

    with pytest.raises(StreamFault, match="group is gone"):
        asyncio.run(asyncio.wait_for(streams.run(broker, consumer, delete), 30))


@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        ((), 2, "TINGXIN_STREAM_URL"),
        (("mqtt://a:hunter2@b",), 2, "begins with none of redis://"),
        (("redis://a:hunter2@127.0.0.1:1",), 1, "the stream failed: ConnectionError"),
        (("redis://127.0.0.1:1", "--vendor", "nobody"), 2, "known: aliyun"),
    ],
)
def test_what_cannot_work_is_said_in_a_line_without_the_password(
    arguments: tuple[str, ...],
    status: int,
    sentence: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    keyword_bundle: Path,
) -> None:
    monkeypatch.setenv("TINGXIN_HOME", str(tmp_path))
    monkeypatch.setenv("TINGXIN_BUNDLE", str(keyword_bundle))
    monkeypatch.setattr("serving.logs.log_to_stderr", lambda: None)  # its stream is the runner's
    done = CliRunner().invoke(app, ["consume", *arguments])
    assert (done.exit_code, sentence in done.output) == (status, True), done.output
    assert "hunter2" not in done.output
