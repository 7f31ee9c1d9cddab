"""How long `POST /v1/suppressions/check` of 10,000 numbers takes against a list of five million.

    python benchmarks/check.py [--entries 5000000] [--calls 200] [--database sqlite|postgresql]

The real service over HTTP on loopback, in this process. One number in ten is on the list. The list is made
by bulk, rows as wide as real ones; PostgreSQL is the one that the tests use, with its defaults.
"""

import argparse
import json
import os
import platform
import random
import sqlite3
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx2
import psycopg
import uvicorn
from pydantic import SecretStr

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import postgres_server  # noqa: E402

from serving import auth, filterfile, tables  # noqa: E402
from serving.api import create_app  # noqa: E402
from serving.logs import log_to_stderr  # noqa: E402
from serving.phones import masked  # noqa: E402
from serving.settings import Settings  # noqa: E402
from serving.store import Store  # noqa: E402

ASKED = 10_000
SHARE_ON_LIST = 0.1

AT = datetime(2026, 1, 1, tzinfo=UTC)


def number(n: int) -> str:
    """Return the n-th of a billion numbers, in no order."""
    return f"+861{3_000_000_000 + n * 611_953 % 1_000_000_007:010}"


def fill(store: Store, entries: int) -> None:
    """Put so many numbers on the list, faster than the service would."""
    sealed = store.phones.seal(number(0))  # of the right length; none is unsealed here
    columns = [c.name for c in tables.suppressions.c]
    phones = sorted((store.phones.key(number(n)), n) for n in range(entries))

    def rows(aware: bool) -> Iterator[tuple[object, ...]]:
        at = AT if aware else f"{AT:%Y-%m-%d %H:%M:%S.%f}"
        for key, n in phones:
            entry = f"sp_{n:032x}", "default", key, masked(number(n)), sealed, "marketing", "active"
            yield *entry, "import", "bench", "导入", f"rc_{n:032x}", at, at, at, None

    if store.engine.dialect.name == "sqlite":
        with sqlite3.connect(str(store.engine.url.database)) as connection:
            marks = ", ".join("?" for _ in columns)
            statement = f"INSERT INTO suppressions ({', '.join(columns)}) VALUES ({marks})"  # noqa: S608
            connection.executemany(statement, rows(aware=False))
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()
        return
    url = store.engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url, autocommit=True) as connection:
        statement = f"COPY suppressions ({', '.join(columns)}) FROM STDIN"
        with connection.cursor() as cursor, cursor.copy(statement) as copy:
            for row in rows(aware=True):
                copy.write_row(row)
        connection.execute("VACUUM ANALYZE suppressions")


@contextmanager
def serving(settings: Settings) -> Iterator[str]:
    config = uvicorn.Config(create_app(settings), port=0, log_config=None, access_log=False)
    server = uvicorn.Server(config)
    sock = config.bind_socket()
    thread = threading.Thread(target=server.run, args=([sock],))
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{sock.getsockname()[1]}"
    server.should_exit = True
    thread.join()


def ask(settings: Settings, key: str, entries: int, calls: int) -> tuple[list[float], list[float]]:
    """Return the milliseconds of each call, its connection kept open, and those that this process computed."""
    took, computed, dice = [], [], random.Random(7)
    with serving(settings) as url, httpx2.Client(trust_env=False, timeout=60) as client:
        headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
        for call in range(calls + 1):
            on = [number(dice.randrange(entries)) for _ in range(int(ASKED * SHARE_ON_LIST))]
            off = [number(entries + dice.randrange(900_000_000)) for _ in range(ASKED - len(on))]
            body = json.dumps({"phones": dice.sample(on + off, ASKED)}).encode()
            started, cpu = time.perf_counter(), time.process_time()
            answer = client.post(f"{url}/v1/suppressions/check", content=body, headers=headers)
            elapsed = (time.perf_counter() - started) * 1000
            spent = (time.process_time() - cpu) * 1000
            answer.raise_for_status()
            if call:  # the first one warms up
                took.append(elapsed)
                computed.append(spent)
            else:
                found = sum(r["suppressed"] for r in answer.json()["results"])
                assert found == len(on), (found, len(on))
    return took, computed


def measure(url: str | None, entries: int, calls: int) -> None:
    with tempfile.TemporaryDirectory(prefix="tingxin-bench-") as home:
        secret = SecretStr(url) if url else None
        settings = Settings(home=Path(home), database_url=secret, requests_per_minute=0)
        store = Store.open(settings)
        with store.write() as connection:
            key = auth.create(connection, "bench", ["admin"])
        started = time.perf_counter()
        fill(store, entries)
        filled = time.perf_counter() - started
        took, computed = map(sorted, ask(settings, key, entries, calls))
        started = time.perf_counter()
        header = filterfile.write(store, Path(home) / "filter", "default", "marketing")
        written = time.perf_counter() - started
        stopped = filterfile.Filter.load(
            Path(home) / "filter", bytes.fromhex(store.phones.list_key.hex())
        )
        phones = [number(n * 7) for n in range(100_000)]
        started = time.perf_counter()
        in_it = sum(phone in stopped for phone in phones)
        lookup = (time.perf_counter() - started) / len(phones) * 1e6
        assert in_it >= min(len(phones), (entries + 6) // 7)
        size = (Path(home) / "filter").stat().st_size / 2**20
        name = store.engine.dialect.name
        store.close()
    p50, p99 = statistics.median(took), took[min(len(took) - 1, int(len(took) * 0.99))]
    print(
        f"| {name} | {filled:,.0f} | {p50:,.0f} | {p99:,.0f} | {took[-1]:,.0f} "
        f"| {statistics.median(computed):,.0f} "
        f"| {written:,.0f} s, {size:,.1f} MB, {header.count:,} numbers | {lookup:.1f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entries", type=int, default=5_000_000)
    parser.add_argument("--calls", type=int, default=200)
    parser.add_argument("--database", choices=["sqlite", "postgresql"])
    given = parser.parse_args()
    log_to_stderr(level=40)
    cores = len(os.sched_getaffinity(0))
    print(f"{datetime.now(UTC):%Y-%m-%d}, {_processor()}, {cores} core(s), ", end="")
    print(f"Python {platform.python_version()}: python {' '.join(sys.argv)}")
    print(f"{ASKED:,} numbers a call, {given.entries:,} entries, {given.calls} calls\n")
    print(
        "| database | filled, s | p50, ms | p99, ms | most, ms | CPU p50, ms | filter file | a look-up, µs |"
    )
    print("|---|---:|---:|---:|---:|---:|---|---:|", flush=True)
    if given.database != "postgresql":
        measure(None, given.entries, given.calls)
    if given.database != "sqlite":
        with postgres_server.running() as url:
            measure(url + "postgres", given.entries, given.calls)


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))


if __name__ == "__main__":
    main()
