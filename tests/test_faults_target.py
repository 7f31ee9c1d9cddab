"""A platform that is down, slow, broken or gone gets every change in the end, and each in effect once."""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import sqlalchemy as sa
from fault_house import House
from fault_load import CLEAN
from faulty_platform import NO_CONTENT, FaultyPlatform, status
from service_process import until

from serving import outbox, tables
from serving.store import Store

FAULTS = (
    status(500),
    status(302),
    b"HTTP/1.1 999999 \xff\r\n\r\n",
    b"\x00\x01 this is no HTTP",
    b"HTTP/1.1 200 OK\r\ncontent-length: nonsense\r\n\r\n",
    b"",  # it hangs up
)
# Jumps over every wait of the schedule, whatever the jitter adds.
WAITS = [seconds * (1 + outbox.JITTER) + 1 for seconds in outbox.SCHEDULE[1:]]


def outbox_states(home: House) -> dict[str, int]:
    states: dict[str, int] = home.ask("GET", "/v1/stats").json()["outbox"]
    return states


@contextmanager
def tried(home: House) -> Iterator[Callable[[], int]]:
    """Yield a count of the attempts on record at every event: a wait runs from the record, not from the call."""
    store = Store.open(home.settings)
    least = sa.select(sa.func.min(tables.outbox.c.attempts))

    def count() -> int:
        with store.read() as connection:
            return int(connection.scalar(least) or 0)

    try:
        yield count
    finally:
        store.close()


def test_down_for_a_while_then_slow(house: Callable[..., House], faulty: FaultyPlatform) -> None:
    home = house()
    faulty.down()
    with home.load.posting():
        home.load.more(100)
        faulty.answer = lambda: time.sleep(random.random() * 0.2) or NO_CONTENT
        faulty.up()
    assert home.settled() == CLEAN


def test_faults_of_every_kind_until_it_is_given_up_then_gone_enabled_and_replayed(
    house: Callable[..., House], faulty: FaultyPlatform
) -> None:
    home = house()
    faulty.answer = lambda: random.choice(FAULTS)
    with home.load.posting():
        home.load.more(60)
    letters = outbox_states(home)["pending"]
    assert letters >= 10

    with tried(home) as least:
        until(lambda: least() == 1)
        for times, wait in enumerate(WAITS, start=2):
            home.clock.move(wait)
            until(lambda times=times: least() == times)  # type: ignore[misc]
    until(lambda: outbox_states(home) == {"dead": letters})
    assert home.ask("GET", "/readyz").json()["status"] == "degraded"

    faulty.answer = lambda: status(410)
    assert home.ask("POST", "/v1/dead-letters/replay", json={}).json()["sent"] == letters
    until(lambda: "disabled" in home.ask("GET", "/readyz").json()["push"])
    asked = faulty.asked
    faulty.answer = lambda: NO_CONTENT
    home.kill()
    home.start()  # it is still disabled
    home.clock.move(86_400)
    assert (faulty.asked, outbox_states(home)) == (asked, {"pending": letters})

    assert home.ask("POST", "/v1/targets/webhook/enable").json()["enabled"]
    assert home.settled() == CLEAN
    assert len(faulty.events) == letters
