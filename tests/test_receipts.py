"""The chain of receipts shows whatever was done to it behind our back."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from serving import receipts, tables
from serving.receipts import Chain, new_id, verify
from serving.settings import Settings
from serving.store import Store, now


@pytest.fixture
def store(settings: Settings) -> Store:
    store = Store.open(settings)
    for number in range(3):
        with store.write() as connection, Chain(connection) as chain:
            chain.append(f"rc_{number}a", {"动作": "suppress"}, now())
            chain.append(f"rc_{number}b", {"动作": "none"}, now())
    return store


def test_an_untouched_chain_holds(store: Store) -> None:
    with store.read() as connection:
        verdict = verify(connection)
        assert (verdict.holds, verdict.checked) == (True, 6)
        assert (receipts.read(connection, "rc_1a") or {})["number"] == 3
        assert receipts.read(connection, "rc_x") is None
    store.close()


r = tables.receipts
TAMPERING = {
    "changed": (r.update().where(r.c.seq == 3).values(body=r.c.body + " "), 3, "was changed"),
    "taken out": (r.delete().where(r.c.seq == 4), 4, "is missing"),
    "cut off": (r.delete().where(r.c.seq == 6), 6, "is missing"),
    "renamed": (r.update().where(r.c.seq == 2).values(id="rc_x"), 2, "another receipt's id"),
    "rehashed": (r.update().where(r.c.seq == 5).values(hash="0" * 64), 5, "was changed"),
}


@pytest.mark.parametrize("how", TAMPERING)
def test_tampering_is_found_where_it_was_done(store: Store, how: str) -> None:
    statement, place, fault = TAMPERING[how]
    with store.write() as connection:
        connection.execute(statement)
    with store.read() as connection:
        verdict = verify(connection)
    assert verdict.fault_at == place
    assert fault in verdict.fault
    store.close()


def test_a_transaction_that_fails_leaves_no_receipt(store: Store) -> None:
    with (
        pytest.raises(RuntimeError),
        store.write() as connection,
        Chain(connection) as chain,
    ):
        chain.append(new_id(), {}, now())
        raise RuntimeError
    with store.read() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(r)) == 6
        assert verify(connection).holds
    store.close()


def test_several_writers_make_one_chain(settings: Settings) -> None:
    stores = [Store.open(settings) for _ in range(3)]

    def write(number: int) -> None:
        store = stores[number % 3]
        with store.write() as connection, Chain(connection) as chain:
            chain.append(f"rc_{number}", {}, now())

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(write, range(60)))
    with stores[0].read() as connection:
        assert verify(connection).checked == 60
        assert verify(connection).holds
    for store in stores:
        store.close()
