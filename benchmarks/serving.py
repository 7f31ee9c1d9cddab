"""How many replies a second one service process records, how long a caller waits, beside a plain service.

    python benchmarks/serving.py [--replies 6000] [--seconds 20]       # needs the extras serve, train, dev

The service is `tingxin serve` as it ships, over SQLite, each answer durable; the client is this process, raw HTTP over
asyncio on loopback, with connections kept open. Texts are the corpus' own, each once. The rivals: a FastAPI route
that reads a reply with a transformers pipeline of BERT-base's size (random weights) and commits it, and the same
route without reading it, which is what the framework and the disk leave. "Of the core" is what the service used of
it; the rest is the client's, and other programs'. Pin it with taskset, and say so.
"""

import argparse
import asyncio
import itertools
import json
import os
import platform
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from classify import texts

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from service_process import Process  # noqa: E402

SINGLY, HUNDREDS = 64, 4  # connections
RATE = 200  # replies a second, whatever the service does; the goal is a p99 of 50 ms
TICKS = os.sysconf("SC_CLK_TCK")
LISTENING = "listening on "


class Connection:
    """One connection that is kept open, one request at a time."""

    def __init__(self, url: str, key: str = "") -> None:
        self._where = urlsplit(url)
        self._head = (
            f"POST {self._where.path or '/v1/replies'} HTTP/1.1\r\nhost: bench\r\n"
            f"authorization: Bearer {key}\r\ncontent-type: application/json\r\ncontent-length: "
        )
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, body: bytes) -> bytes:
        # A connection that idles for seconds is closed by the service.
        if self._streams is None or self._streams[0].at_eof():
            self._streams = await asyncio.open_connection(self._where.hostname, self._where.port)
        reader, writer = self._streams
        writer.write(f"{self._head}{len(body)}\r\n\r\n".encode() + body)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        answer = await reader.readexactly(length)
        assert head.startswith(b"HTTP/1.1 200"), head
        return answer

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()


def bodies(replies: Sequence[dict[str, str]], each: int) -> list[bytes]:
    groups = [replies[k : k + each] for k in range(0, len(replies), each)]
    return [json.dumps(group if each > 1 else group[0]).encode() for group in groups]


def fresh_replies() -> Iterator[dict[str, str]]:
    """Yield replies without end, each of another person; texts come again once all have been."""
    for n, text in enumerate(itertools.cycle(texts(most=10**6))):
        yield {"id": f"b{n}", "phone": f"+86138{n:08}", "text": text}


async def as_fast_as_possible(url: str, key: str, calls: Sequence[bytes], at_once: int) -> float:
    """Return the seconds that it takes."""
    waiting = iter(calls)

    async def caller() -> None:
        connection = Connection(url, key)
        for body in waiting:
            await connection.post(body)
        connection.close()

    started = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(at_once)))
    return time.perf_counter() - started


async def at_a_rate(url: str, key: str, calls: Sequence[bytes], rate: float) -> list[float]:
    """Return the milliseconds from when each call was due, sent or not, until it was answered."""
    idle: list[Connection] = []
    started = time.perf_counter()

    async def call(k: int, body: bytes) -> float:
        due = started + k / rate
        await asyncio.sleep(due - time.perf_counter())
        connection = idle.pop() if idle else Connection(url, key)
        await connection.post(body)
        idle.append(connection)
        return (time.perf_counter() - due) * 1000

    took = await asyncio.gather(*(call(k, body) for k, body in enumerate(calls)))
    for connection in idle:
        connection.close()
    return sorted(took)


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def measured(
    name: str, url: str, key: str, calls: list[bytes], each: int, at_once: int, pid: int
) -> float:
    """Print a line of the table; return replies a second."""
    cpu = cpu_seconds(pid)
    seconds = asyncio.run(as_fast_as_possible(url, key, calls, at_once))
    share = (cpu_seconds(pid) - cpu) / seconds
    rate = len(calls) * each / seconds
    print(f"| {name} | {at_once} | {rate:,.0f} | {share:.0%} | {rate / share:,.0f} |", flush=True)
    return rate


@contextmanager
def rival(kind: str) -> Iterator[tuple[str, int]]:
    """Run the plain service; yield its URL and process id."""
    command = [sys.executable, __file__, "--rival", kind]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8")  # noqa: S603
    assert process.stdout is not None
    try:
        line = next(line for line in process.stdout if line.startswith(LISTENING))
        yield line.removeprefix(LISTENING).strip() + "/replies", process.pid
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


def serve_rival(kind: str) -> None:
    import uvicorn
    from fastapi import FastAPI
    from pydantic import BaseModel

    class Reply(BaseModel):
        id: str
        phone: str
        text: str

    read = bert_pipeline() if kind == "bert" else lambda _: [{"label": "none", "score": 1.0}]
    with tempfile.TemporaryDirectory(prefix="tingxin-bench-") as folder:
        path = Path(folder) / "plain.db"
        with sqlite3.connect(path) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("CREATE TABLE replies (id PRIMARY KEY, phone, text, label, score)")
        app = FastAPI()

        @app.post("/replies")
        def post(reply: Reply) -> dict[str, Any]:
            found = read(reply.text)[0]
            connection = sqlite3.connect(path, timeout=60)
            connection.execute("PRAGMA synchronous = FULL")
            row = reply.id, reply.phone, reply.text, found["label"], found["score"]
            with connection:
                connection.execute("INSERT INTO replies VALUES (?, ?, ?, ?, ?)", row)
            connection.close()
            return found

        config = uvicorn.Config(app, port=0, log_level="error", access_log=False)
        sock = config.bind_socket()
        sock.listen(1024)  # whoever comes before the server runs waits
        print(f"{LISTENING}http://127.0.0.1:{sock.getsockname()[1]}", flush=True)
        uvicorn.Server(config).run(sockets=[sock])


def bert_pipeline() -> Any:
    import torch
    from transformers import (
        BertConfig,
        BertForSequenceClassification,
        PreTrainedTokenizerFast,
        pipeline,
    )

    from model.bundle import SHIPPED, TOKENIZER

    torch.manual_seed(0)
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    network = BertForSequenceClassification(BertConfig(vocab_size=21128, num_labels=13)).eval()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(SHIPPED / TOKENIZER), pad_token="[PAD]", model_max_length=224
    )
    return pipeline("text-classification", model=network, tokenizer=tokenizer, truncation=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--replies", type=int, default=6000, help="posted singly; twice by hundreds"
    )
    parser.add_argument("--seconds", type=int, default=20, help="at a steady rate")
    parser.add_argument("--rate", type=int, default=RATE, help="replies a second, come what may")
    parser.add_argument("--only", choices=["singly", "hundreds", "rate"])
    parser.add_argument("--rival", choices=["bert", "commit"], help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.rival:
        serve_rival(given.rival)
        return
    cores = len(os.sched_getaffinity(0))
    load = os.getloadavg()[0]
    print(
        f"{datetime.now(UTC):%Y-%m-%d}, {_processor()}, {cores} core(s), load before {load:.1f}, ",
        end="",
    )
    print(f"Python {platform.python_version()}: python {' '.join(sys.argv)}\n")
    print("| | connections | replies a second | of the core | a second of its own CPU |")
    print("|---|---:|---:|---:|---:|", flush=True)
    replies = fresh_replies()

    def some(number: int, each: int) -> list[bytes]:
        return bodies(list(itertools.islice(replies, number)), each)

    rates: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="tingxin-bench-") as home:
        process = Process(os.environ | {"TINGXIN_HOME": home})
        pid, url, key = process.pid, process.url, process.key
        asyncio.run(as_fast_as_possible(url, key, some(500, 1), SINGLY))  # warms up
        if given.only in (None, "singly"):
            calls = some(given.replies, 1)
            rates["singly"] = measured("singly", url, key, calls, 1, SINGLY, pid)
        if given.only in (None, "hundreds"):
            calls = some(2 * given.replies // 100 * 100, 100)
            measured("by hundreds", url, key, calls, 100, HUNDREDS, pid)
        if given.only in (None, "rate"):
            took = asyncio.run(at_a_rate(url, key, some(given.rate * given.seconds, 1), given.rate))
        process.reap()
    if given.only is None:
        for kind, name, number in (
            ("commit", "plain FastAPI, a commit and no reading", 2000),
            ("bert", "plain FastAPI, BERT-base, a commit", 60),
        ):
            with rival(kind) as (url, pid):
                asyncio.run(as_fast_as_possible(url, "", some(8, 1), 4))
                calls = some(number, 1)
                rates[kind] = measured(name, url, "", calls, 1, min(SINGLY, number // 8), pid)
        print(f"\nSingly, that is {rates['singly'] / rates['bert']:.0f} times the plain service.")
    if given.only in (None, "rate"):
        p50, p99 = took[len(took) // 2], took[int(len(took) * 0.99)]
        print(
            f"At {given.rate} a second for {given.seconds} s: p50 {p50:.1f}, p99 {p99:.1f}, most {took[-1]:.1f} ms."
        )


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))


if __name__ == "__main__":
    main()
