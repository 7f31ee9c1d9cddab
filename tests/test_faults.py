"""The service is killed, its database goes away: nothing that was acknowledged is lost, told twice or untold.

Real processes, callers that send again until they are answered, and a platform that is pushed to.
"""

import random
import time
from collections.abc import Callable, Iterator

import postgres_server
import pytest
import sqlalchemy as sa
from fault_house import House
from fault_load import CLEAN
from service_process import until

from serving import tables
from serving.store import Store


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
        for _ in range(4):
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
    with home.load.posting(callers=2):
        for _ in range(3):
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
            try:
                until(lambda: home.load.answers["503"] >= 4)
                asked = [
                    home.ask("GET", path).status_code
                    for path in ("/healthz", "/readyz", "/v1/stats")
                ]
            finally:
                durable_postgres.start()
            assert asked == [200, 503, 503]
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
