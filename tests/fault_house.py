"""Service processes over one database, pushed to a platform, posted to by callers: what each fault test stands in."""

import os
from pathlib import Path

import httpx2
from fault_load import Load, Tally, tally
from faulty_platform import FaultyPlatform
from pydantic import SecretStr
from service_process import MovedClock, Process, until

from serving.settings import Settings
from serving.store import Store

PUSH_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
LEASE = 91  # seconds: a letter that a killed process held is free after it


class House:
    """Service processes over one database, which may be killed and started, and what they leave."""

    def __init__(
        self, home: Path, bundle: Path, platform: FaultyPlatform, database: str | None
    ) -> None:
        self.clock = MovedClock(home.parent / "clock")
        self.platform = platform
        secret = SecretStr(database) if database else None
        self.settings = Settings(home=home, database_url=secret)
        self._environment = os.environ | {
            "TINGXIN_HOME": str(home),
            "TINGXIN_BUNDLE": str(bundle),
            "TINGXIN_PUSH_URL": platform.url,
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

    def settled(self) -> Tally:
        """Wait until nothing is left to be pushed, stop, and count."""
        self.clock.move(LEASE)
        until(
            lambda: not {"pending", "dead"} & self.ask("GET", "/v1/stats").json()["outbox"].keys()
        )
        for process in self.running:
            process.stop()
        store = Store.open(self.settings)
        try:
            return tally(store, self.load, self.platform)
        finally:
            store.close()

    def close(self) -> None:
        while self.running:
            self.kill()
