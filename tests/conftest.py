"""Fixtures of more than one test file: a bundle of keywords, a fake classifier over it, settings, a service.

What takes `settings` runs twice: over SQLite, and over a real PostgreSQL.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import postgres_server
import pytest
import sqlalchemy as sa
from fault_house import House
from faulty_platform import FaultyPlatform
from pydantic import SecretStr

from model.bundle import ENCODER, TOKENIZER, Bundle, write_manifest
from model.classifier import Classifier, Prediction, TextTooLong
from model.labels import Schema
from model.policy import decide
from model.text import MAX_CHARACTERS
from serving.events import InboundReply
from serving.metrics import Metrics
from serving.receiver import Receiver
from serving.relay import Relay
from serving.service import Service
from serving.settings import Settings
from serving.store import Store, now
from serving.targets.config import Target

DATA = Path(__file__).parent.parent / "data"

PUSH_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

# What the fake reads in a text: the first of these that it contains.
FAKE_SCORES = {
    "别再发": {"opt_out": 0.99},
    "少发点": {"opt_out": 0.70},
    "活不下去": {"self_harm": 0.95},
    "没钱还": {"hardship": 0.90},
}


def write_keyword_bundle(path: Path) -> Path:
    """Write a sound bundle whose encoder does not load: the rules, labels and policy of data/, and no model."""
    path.mkdir()
    for name in ("labels.toml", "rules.toml", "folds.tsv", "policy.toml"):
        shutil.copy(DATA / name, path / name)
    names = Schema.read(DATA / "labels.toml").names
    calibration = {
        "temperatures": dict.fromkeys(names, 1.0),
        "biases": dict.fromkeys(names, 0.0),
        "thresholds": {"labels": dict.fromkeys(names, 0.5), "suppress": 0.9, "hold": 0.6},
    }
    (path / "calibration.json").write_text(json.dumps(calibration), encoding="utf-8")
    (path / ENCODER).write_bytes(b"no encoder")
    (path / TOKENIZER).write_bytes(b"no tokenizer")
    write_manifest(path, {"max_length": 128})
    return path


class FakeClassifier(Classifier):
    """Decides by the real rules and policy; scores come from FAKE_SCORES instead of an encoder."""

    def __init__(self, bundle: Bundle) -> None:
        super().__init__(bundle, None)
        self.texts_read = 0

    @property
    def reads_free_text(self) -> bool:
        return True

    def classify(self, texts: Sequence[str]) -> list[Prediction]:
        for text in texts:
            if len(text) > MAX_CHARACTERS:
                raise TextTooLong(f"text has {len(text)} characters")
            if text == "POISON":
                raise RuntimeError(f"choked on {text}")
        self.texts_read += len(texts)
        return [self._decided(text) for text in texts]

    def _decided(self, text: str) -> Prediction:
        scores = dict.fromkeys(self.bundle.schema.names, 0.01)
        found = next((key for key in FAKE_SCORES if key in text), None)
        scores |= FAKE_SCORES[found] if found else {}
        hit = self.bundle.rules.match(text)
        d = decide(scores, hit, self.bundle.calibration.thresholds, self.bundle.policy)
        start = text.index(found) if found else 0
        span = (start, start + len(found)) if found else (0, len(text) if hit else 0)
        return Prediction(
            labels=d.labels,
            scores=scores,
            action=d.action,
            queue=d.queue,
            priority=d.priority,
            due=d.due,
            scope=d.scope,
            reason=d.reason,
            span=span,
            spans=dict.fromkeys(d.labels, span),
            hit=hit,
        )


@pytest.fixture(scope="session")
def reply() -> Callable[..., InboundReply]:
    """`reply(7, "退订", **fields)`: a message of the person with the fictional number 13800000007."""

    def make(number: int, text: str, **fields: object) -> InboundReply:
        given = {"vendor": "test", "id": f"m-{number}-{text}", "received_at": now()} | fields
        return InboundReply(phone=f"+8613800{number:06}", text=text, **given)  # type: ignore[arg-type]

    return make


@pytest.fixture
def keyword_bundle(tmp_path: Path) -> Path:
    return write_keyword_bundle(tmp_path / "bundle")


@pytest.fixture
def classifier(keyword_bundle: Path) -> FakeClassifier:
    return FakeClassifier(Bundle.load(keyword_bundle))


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a PostgreSQL server up to the database's name: TEST_DATABASE_URL's, or one of our own."""
    if given := os.environ.get("TEST_DATABASE_URL"):
        yield given.rpartition("/")[0] + "/"
        return
    try:
        with postgres_server.running() as url:
            yield url
    except postgres_server.NoPostgres as missing:
        pytest.skip(str(missing))


@pytest.fixture
def empty_postgres(postgres: str) -> Iterator[str]:
    """The URL of an empty database, dropped in the end."""
    name = f"tingxin_test_{uuid4().hex}"
    server = sa.create_engine(postgres + "postgres", isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name} TEMPLATE template0")
    yield postgres + name
    with server.connect() as connection:
        connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
    server.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    if request.param == "sqlite":
        return Settings(home=tmp_path / "home")
    url = request.getfixturevalue("empty_postgres")
    return Settings(home=tmp_path / "home", database_url=SecretStr(url))


@pytest.fixture
def service(settings: Settings, classifier: FakeClassifier) -> Iterator[Service]:
    running = Service(settings, classifier)
    running.start()
    yield running
    running.stop()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver(PUSH_SECRET).listening() as receiver:
        yield receiver


@pytest.fixture
def pushing(settings: Settings, receiver: Receiver) -> Settings:
    """Settings that push to the receiver."""
    push = {"push_url": receiver.url, "push_secret": SecretStr(PUSH_SECRET)}
    return settings.model_copy(update=push)


@dataclass(frozen=True)
class Request:
    """What came to the platform."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]  # names in lower case
    body: bytes


@dataclass
class Platform:
    """A sending platform on loopback: keeps what comes, and answers what the test says."""

    answer: Callable[[Request], tuple[int, dict[str, str], bytes]]
    requests: list[Request] = field(default_factory=list)
    url: str = ""


@pytest.fixture
def platform() -> Iterator[Platform]:
    """A platform that answers 200 and `{}` until the test gives it another `answer`."""
    platform = Platform(lambda _: (200, {}, b"{}"))

    class Handler(BaseHTTPRequestHandler):
        def serve(self) -> None:
            parts = urlsplit(self.path)
            length = int(self.headers.get("content-length", 0))
            request = Request(
                self.command,
                parts.path,
                parse_qs(parts.query),
                {k.lower(): v for k, v in self.headers.items()},
                self.rfile.read(length),
            )
            platform.requests.append(request)
            status, headers, body = platform.answer(request)
            self.send_response(status)
            for name, value in {"content-length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_DELETE = serve  # noqa: N815 - the names that http.server calls

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    platform.url = f"http://127.0.0.1:{server.server_address[1]}"
    yield platform
    server.shutdown()
    server.server_close()
    thread.join()


class Clock:
    """A clock that a test sets forward."""

    def __init__(self) -> None:
        self.passed = timedelta()
        self._stands: datetime | None = None

    def __call__(self) -> datetime:
        return (self._stands or now()) + self.passed

    def stop(self) -> None:
        """Let no time pass from now on but what a test sets forward."""
        self._stands = now()

    def forward(self, seconds: float) -> None:
        self.passed += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def open_relay(settings: Settings, clock: Clock) -> Iterator[Callable[..., Relay]]:
    """`open_relay(*targets)`: a relay on a store of its own, whose threads do not run."""
    opened: list[tuple[Relay, Store]] = []

    def make(*targets: Target, **fields: object) -> Relay:
        store = Store.open(settings.model_copy(update={"targets": targets, **fields}))
        relay = Relay(store, Metrics(), clock)
        opened.append((relay, store))
        return relay

    yield make
    for relay, store in opened:
        relay.stop()
        store.close()


@pytest.fixture
def faulty() -> Iterator[FaultyPlatform]:
    with FaultyPlatform(PUSH_SECRET).listening() as platform:
        yield platform


@pytest.fixture
def house(
    tmp_path: Path, keyword_bundle: Path, faulty: FaultyPlatform
) -> Iterator[Callable[[str | None], House]]:
    """`house(url)`: one process over the database, SQLite without a URL. Keywords suffice: no model is tested."""
    houses: list[House] = []

    def build(database: str | None = None) -> House:
        houses.append(House(tmp_path / "home", keyword_bundle, faulty, database))
        return houses[-1]

    yield build
    for house in houses:
        house.close()
