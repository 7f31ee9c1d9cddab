"""The service is killed, its database goes away: nothing that was acknowledged is lost, told twice or untold.

Real processes, callers that send again until they are answered, and a platform that is pushed to.
"""

import os
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import fault_load
import httpx2
import postgres_server
import pytest
import sqlalchemy as sa
from conftest import PUSH_SECRET
from fault_load import CLEAN, Load, tally
from pydantic import SecretStr
from service_process import MovedClock, Process, until

from serving import tables
from serving.receiver import Receiver
from serving.settings import Settings
from serving.store import Store

LEASE = 91  # seconds: a letter that a killed process held is free after it


class House:
    """Service processes over one database, which may be killed and started, and what they leave."""

    def __init__(self, home: Path, bundle: Path, receiver: Receiver, database: str | None) -> None:
        self.clock = MovedClock(home.parent / "clock")
        self.receiver = receiver
        secret = SecretStr(database) if database else None
        self.settings = Settings(home=home, database_url=secret)
        self._environment = os.environ | {
            "TINGXIN_HOME": str(home),
            "TINGXIN_BUNDLE": str(bundle),
            "TINGXIN_PUSH_URL": receiver.url,
            "TINGXIN_PUSH_SECRET": PUSH_SECRET,
        }
        if database:
            self._environment["TINGXIN_DATABASE_URL"] = database
        self.running: list[Process] = []
        self.key = self.start().key
        self.load = Load(lambda: [process.url for process in self.running], self.key)

    def start(self) -> Process:
        process = Process(self._environment, self.clock)
        self.running.append(process)
        return process

    def kill(self, which: int = 0) -> None:
        process = self.running.pop(which)
        process.reap()

    def ask(self, method: str, path: str, **given: object) -> httpx2.Response:
        headers = {"authorization": f"Bearer {self.key}"}
        url = self.running[0].url + path
        return httpx2.request(method, url, headers=headers, trust_env=False, timeout=20, **given)  # type: ignore[arg-type]

    def settled(self) -> fault_load.Tally:
        """Wait until nothing is left to be pushed, stop, and count."""
        self.clock.move(LEASE)
        until(lambda: not {"pending", "dead"} & self.ask("GET", "/v1/stats").json()["outbox"].keys())
        for process in self.running:
            process.stop()
        store = Store.open(self.settings)
        try:
            return tally(store, self.load, self.receiver)
        finally:
            store.close()

    def close(self) -> None:
        while self.running:
            self.kill()


@pytest.fixture
def house(
    tmp_path: Path, keyword_bundle: Path, receiver: Receiver
) -> Iterator[Callable[[str | None], House]]:
    """`house(url)`: one process over the database, SQLite without a URL. Keywords suffice: no model is tested."""
    houses: list[House] = []

    def build(database: str | None = None) -> House:
        houses.append(House(tmp_path / "home", keyword_bundle, receiver, database))
        return houses[-1]

    yield build
    for house in houses:
        house.close()


@pytest.fixture(scope="module")
def durable_postgres() -> Iterator[postgres_server.Server]:
    """A server that keeps through its own crash what it has committed (not through the machine's)."""
    try:
        with postgres_server.server(synchronous_commit="on") as server:
            yield server
    except postgres_server.NoPostgres as missing:
        pytest.skip(str(missing))


@pytest.fixture
def database(durable_postgres: postgres_server.Server) -> str:
    """The URL of a database of its own."""
    name = f"faults_{random.getrandbits(64):x}"
    server = sa.create_engine(durable_postgres.url + "postgres", isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    server.dispose()
    return durable_postgres.url + name


def test_killed_again_and_again_under_load(house: Callable[..., House]) -> None:
    home = house()
    with home.load.posting():
        for _ in range(5):
            home.load.more(50)
            time.sleep(random.random() * 0.3)
            home.kill()
            home.start()
        home.load.more(50)
    assert home.settled() == CLEAN


def test_one_of_two_processes_on_a_postgresql_is_killed_again_and_again(
    house: Callable[..., House], database: str
) -> None:
    home = house(database)
    home.start()
    with home.load.posting():
        for _ in range(4):
            home.load.more(50)
            time.sleep(random.random() * 0.3)
            home.kill()  # the older one
            home.load.more(50)  # the other goes on
            home.start()
    assert home.settled() == CLEAN


def test_a_postgresql_that_crashes_and_comes_back_under_load(
    house: Callable[..., House], database: str, durable_postgres: postgres_server.Server
) -> None:
    home = house(database)
    with home.load.posting():
        for _ in range(2):
            home.load.more(50)
            durable_postgres.stop()
            time.sleep(0.5)
            assert home.ask("GET", "/healthz").status_code == 200
            assert home.ask("GET", "/readyz").status_code == 503
            assert home.ask("GET", "/v1/stats").status_code == 503
            durable_postgres.start()
            home.load.more(50)
        assert home.ask("GET", "/readyz").status_code == 200
    assert set(home.load.answers) <= {"200", "503"}
    assert home.load.answers["503"]
    assert home.settled() == CLEAN


def test_a_full_disk_refuses_and_loses_nothing(house: Callable[..., House]) -> None:
    home = house()
    with home.load.posting():
        home.load.more(50)
        home.running[0].limit_files(4096)
        time.sleep(0.1)  # what was under way is done
        until(lambda: home.load.answers["503"] >= 4)
        taken = len(home.load.acknowledged)
        refused = home.load.answers["503"]
        until(lambda: home.load.answers["503"] >= refused + 8)
        assert len(home.load.acknowledged) == taken
        assert home.ask("GET", "/v1/suppressions/%2B8613900000000").status_code == 200
        home.running[0].limit_files(-1)
        home.load.more(50)
    assert set(home.load.answers) <= {"200", "503"}
    assert home.settled() == CLEAN


def test_a_postgresql_that_can_only_be_read(
    house: Callable[..., House], database: str, durable_postgres: postgres_server.Server
) -> None:
    home = house(database)
    server = sa.create_engine(durable_postgres.url + "postgres", isolation_level="AUTOCOMMIT")

    def read_only(value: str) -> None:
        with server.connect() as connection:
            connection.exec_driver_sql(f"ALTER SYSTEM SET default_transaction_read_only = {value}")
            connection.exec_driver_sql("SELECT pg_reload_conf()")

    with home.load.posting():
        home.load.more(50)
        read_only("on")
        until(lambda: home.load.answers["503"] >= 8)
        read_only("off")
        home.load.more(50)
    server.dispose()
    assert set(home.load.answers) <= {"200", "503"}
    assert home.settled() == CLEAN


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_clock_that_steps_back(
    house: Callable[..., House], kind: str, request: pytest.FixtureRequest
) -> None:
    home = house(request.getfixturevalue("database") if kind == "postgresql" else None)
    with home.load.posting():
        home.load.more(50)
        home.clock.move(-3600)
        home.load.more(50)
        home.kill()  # with letters leased by the clock of before, perhaps
        home.clock.move(-3600)
        home.start()
        home.load.more(50)
    assert home.settled() == CLEAN
    store = Store.open(home.settings)
    with store.read() as connection:
        assert connection.scalar(sa.select(sa.func.max(tables.outbox.c.attempts))) == 1
    store.close()
