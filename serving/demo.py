"""`tingxin demo`: sample replies through the real service, over HTTP, to a receiver; then what came of them."""

import csv
import json
import logging
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from statistics import median
from threading import Thread
from typing import Any

import httpx2
import sqlalchemy as sa
import structlog
import uvicorn
from pydantic import SecretStr
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from model.labels import Schema
from model.policy import CHINA
from serving import auth, tables
from serving.api import create_app
from serving.phones import e164, masked
from serving.receiver import Receiver
from serving.record import stored
from serving.service import load_classifier
from serving.settings import Settings
from serving.store import Store

REPLIES, CALLBACK = "platform_replies.csv", "aliyun_callback.json"
SECRET = "whsec_dGluZ3hpbiBkZW1vLCBub3QgYSBzZWNyZXQgYXQgYWxs"  # noqa: S105 - serves one demo on loopback
WIDTH = 100
PATIENCE = 20.0  # seconds for the pushes
ACTIONS = {
    "suppress": ("立即停发", "suppressed", "bold red"),
    "hold": ("暂停,待确认", "held", "yellow"),
    "route": ("转人工", "routed", "cyan"),
    "review": ("人工查看", "review", "magenta"),
    "none": ("无需处理", "nothing", "dim"),
}
EVENTS = {"created": "加入 created", "updated": "确认 updated", "released": "恢复 released"}


class SampleError(ValueError):
    """The samples cannot be read. The message names the file and the remedy."""


@dataclass(frozen=True)
class Shown:
    """One reply and what was decided on it."""

    phone: str
    text: str
    decision: dict[str, Any]


def run(samples: Path, bundle: Path | None = None) -> None:
    """Run the demo and print it; raise SampleError or BundleError. Leaves nothing behind."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(width=WIDTH, highlight=False)
    replies, callback = _read_replies(samples / REPLIES), _read_callback(samples / CALLBACK)
    with (
        _quiet(),
        tempfile.TemporaryDirectory(prefix="tingxin-demo-") as home,
        Receiver(SECRET).listening() as receiver,
    ):
        settings = Settings(
            home=Path(home), bundle=bundle, push_url=receiver.url, push_secret=SecretStr(SECRET)
        )
        store = Store.open(settings)
        with store.write() as connection:
            key = auth.create(connection, "demo", ["admin"])
        try:
            _show(console, settings, store, key, replies, callback, receiver)
        finally:
            store.close()


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the service's log lines out of what the demo prints."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        yield
    finally:
        structlog.configure(**before)


def _show(
    console: Console,
    settings: Settings,
    store: Store,
    key: str,
    replies: list[dict[str, str]],
    callback: list[dict[str, Any]],
    receiver: Receiver,
) -> None:
    classifier = load_classifier(settings)
    schema = classifier.bundle.schema
    with (
        _serving(settings, classifier) as url,
        httpx2.Client(base_url=url, timeout=60, trust_env=False) as client,
    ):
        client.headers["authorization"] = f"Bearer {key}"
        console.rule(
            "[bold]听信 Tingxin[/]  读懂回复,停止打扰 / understands replies, stops messages"
        )
        if not classifier.reads_free_text:
            console.print(
                "[yellow]模型未能加载,仅识别关键词 / The encoder did not load: keywords only"
            )
        answer, milliseconds = _timed(client, "/v1/replies", replies)
        console.print(
            f"\n[bold]1  短信平台导出的 {len(replies)} 条回复[/] / replies as an SMS platform exports them"
            f"   POST /v1/replies → {milliseconds:.0f} ms"
        )
        platform = [
            Shown(r["phone"], r["text"], d) for r, d in zip(replies, answer["results"], strict=True)
        ]
        console.print(_decisions(platform, schema, console.is_terminal))

        _, milliseconds = _timed(client, "/v1/inbound/aliyun", callback)
        answer, _ = _timed(client, "/v1/inbound/aliyun", callback)
        console.print(
            f"\n[bold]2  阿里云回调 {len(callback)} 条[/] / an Aliyun callback, posted twice"
            f"   → {json.dumps(answer, ensure_ascii=False)}  {milliseconds:.0f} ms"
        )
        ids = [("aliyun", str(entry["sequence_id"])) for entry in callback]
        with store.read() as connection:
            decisions = stored(connection, ids)
        aliyun = [
            Shown(e["phone_number"], e["content"], decisions[i])
            for e, i in zip(callback, ids, strict=True)
            if i in decisions
        ]
        console.print(_decisions(aliyun, schema, console.is_terminal))

        _await_pushes(store)
        console.print(
            "\n[bold]3  退订名单[/] / the opt-out list: the receiver is told of each change, signed"
        )
        console.print(_list(store, receiver))
        _summary(console, client, store, receiver)


def _decisions(shown: list[Shown], schema: Schema, in_colour: bool) -> Table:
    chinese = {label.name: label.zh for label in schema.labels}
    table = _table(
        ("号码 number", 12),
        ("回复 reply", 28),
        ("标签 labels", 12),
        ("决定 decision", 19),
        ("理由 why", 25),
    )
    for one in shown:
        decision = one.decision
        zh, en, style = ACTIONS[decision["action"]]
        if decision["resumed"]:
            zh, en, style = "恢复接收", "resumed", "green"
        what = Text(f"{zh} {en}", style)
        if decision["queue"]:
            what.append(f"\n→ {decision['queue']} P{decision['priority']}", "not bold dim")
        labels = "\n".join(chinese[name] for name in decision["labels"]) or "–"
        text = _marked(one.text, decision["span"][0], decision["span"][1], in_colour)
        table.add_row(masked(e164(one.phone)), text, labels, what, decision["reason"])
    return table


def _marked(text: str, start: int, end: int, in_colour: bool) -> Text:
    """Return a reply with the characters that decided set off: by colour, or by brackets where there is none."""
    if start == end or in_colour:
        marked = Text(text)
        marked.stylize("bold black on yellow", start, end)
        return marked
    return Text(f"{text[:start]}【{text[start:end]}】{text[end:]}")


def _table(*columns: tuple[str, int]) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for heading, width in columns:
        # Chinese has no blanks to break a line at: fold anywhere rather than cut off.
        table.add_column(heading, width=width, overflow="fold")
    return table


def _list(store: Store, receiver: Receiver) -> Table:
    """Return the list with, for each entry, its events and how long they took from the reply to the 2xx."""
    confirmed = {event["id"] for event in receiver.events}
    table = _table(
        ("号码 number", 11),
        ("状态 state", 16),
        ("依据 by", 14),
        ("推送 pushed", 18),
        ("验签 verified", 13),
        ("毫秒 ms", 8),
    )
    states = {
        "active": "停发 active",
        "provisional": "暂停 provisional",
        "released": "恢复 released",
    }
    methods = {"keyword": "关键词 keyword", "model": "模型 model"}
    with store.read() as connection:
        entries = connection.execute(
            sa.select(tables.suppressions).order_by(tables.suppressions.c.created_at)
        ).all()
        box = tables.outbox
        letters = connection.execute(sa.select(box).order_by(box.c.seq)).all()
    for entry in entries:
        own = [letter for letter in letters if letter.suppression_id == entry.id]
        table.add_row(
            entry.phone_masked,
            states[entry.state],
            methods.get(entry.method, entry.method),
            "\n".join(EVENTS[letter.event["type"].rpartition(".")[2]] for letter in own),
            "\n".join("✓" if letter.id in confirmed else "–" for letter in own),
            "\n".join(_milliseconds(letter) for letter in own),
        )
    return table


def _milliseconds(letter: Any) -> str:
    if letter.delivered_at is None:
        return "–"
    return f"{(letter.delivered_at - letter.received_at).total_seconds() * 1000:.0f}"


def _summary(console: Console, client: httpx2.Client, store: Store, receiver: Receiver) -> None:
    with store.read() as connection:
        times = [
            (row.delivered_at - row.received_at).total_seconds() * 1000
            for row in connection.execute(sa.select(tables.outbox))
            if row.delivered_at is not None
        ]
    stats = client.get("/v1/stats").raise_for_status().json()
    distinct = len({event["id"] for event in receiver.events})
    pushed = f"{distinct} 个事件已送达并验签" if distinct else "没有要推送的事件"
    console.print(
        f"\n[bold green]{pushed}[/] / {distinct} events delivered and verified, {receiver.rejected} rejected"
    )
    console.print(
        "从收到到送达 / from reply to delivery:"
        + (
            f" 中位数 median {median(times):.0f} ms, 最长 max {max(times):.0f} ms"
            if times
            else " –"
        )
    )
    waiting = "、".join(f"{queue} {number}" for queue, number in sorted(stats["queue"].items()))
    console.print(f"待人工处理 / waiting for people: {waiting or '–'}")
    console.print(
        f"重复的回调未改变任何结果 / the repeated callback changed nothing:"
        f" {sum(stats['replies'].values())} 条回复 replies recorded"
    )


def _await_pushes(store: Store) -> None:
    deadline = time.monotonic() + PATIENCE
    pending = sa.select(sa.func.count()).where(tables.outbox.c.state == "pending")
    while time.monotonic() < deadline:
        with store.read() as connection:
            if not connection.scalar(pending):
                return
        time.sleep(0.02)


def _timed(client: httpx2.Client, path: str, body: Any) -> tuple[Any, float]:
    started = time.perf_counter()
    response = client.post(path, json=body)
    milliseconds = (time.perf_counter() - started) * 1000
    return response.raise_for_status().json(), milliseconds


@contextmanager
def _serving(settings: Settings, classifier: Any) -> Iterator[str]:
    """Run the real application under uvicorn on a free port of the loopback; yield its address."""
    app = create_app(settings, classifier)
    config = uvicorn.Config(app, log_config=None, log_level="critical", access_log=False)
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as sock:
        thread = Thread(target=server.run, args=([sock],), daemon=True)
        thread.start()
        try:
            while not server.started:
                if not thread.is_alive():
                    raise RuntimeError("the service did not start")
                time.sleep(0.01)
            yield f"http://127.0.0.1:{sock.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def _read_replies(path: Path) -> list[dict[str, str]]:
    """Read 手机号, 内容, 时间, 签名 as an SMS platform exports them, into what /v1/replies takes."""
    if not path.is_file():
        raise SampleError(
            f"{path} is not there; run this in a checkout, or name the folder of samples"
        )
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    try:
        return [
            {
                "phone": row["手机号"],
                "text": row["内容"],
                "time": datetime.fromisoformat(row["时间"]).replace(tzinfo=CHINA).isoformat(),
                "signature": row["签名"],
            }
            for row in rows
        ]
    except (KeyError, ValueError) as fault:
        raise SampleError(
            f"{path}: needs the columns 手机号, 内容, 时间, 签名: {fault!r}"
        ) from None


def _read_callback(path: Path) -> list[dict[str, Any]]:
    try:
        entries: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as fault:
        raise SampleError(f"{path} cannot be read ({type(fault).__name__})") from None
    return entries
