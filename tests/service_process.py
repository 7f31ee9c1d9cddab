"""The service as it is run, for tests: a real process on any free port, whose clock a file can move."""

import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import httpx2

ROOT = Path(__file__).parent.parent
MOVED_CLOCK = """
import sys
from datetime import timedelta
from pathlib import Path
from serving import store
real, moved = store.now, Path(sys.argv.pop(1))
# Every other module takes `now` from here, and is imported after this line.
store.now = lambda: real() + timedelta(seconds=float(moved.read_text()))
from tingxin import main
main()
"""


class Process:
    """`python -m serving serve` on any free port, with its own home."""

    def __init__(self, environment: dict[str, str], clock: "MovedClock | None" = None) -> None:
        program = ["-m", "serving"] if clock is None else ["-c", MOVED_CLOCK, str(clock.file)]
        # A file: a pipe that nobody reads would hold the service up once it is full.
        self._log = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 - closed by reap
        self._process = subprocess.Popen(
            [sys.executable, *program, "serve", "--port", "0"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=self._log,
            cwd=ROOT,
            encoding="utf-8",
        )
        self.pid = self._process.pid
        self.key, self.url = "", ""
        assert self._process.stdout is not None
        self.said = ""
        for line in self._process.stdout:
            self.said += line
            if found := re.search(r"tx_\S+", line):
                self.key = found[0]
            if found := re.search(r"http://\S+", line):
                self.url = found[0]
                break
        assert self.url, self._wrote()
        self._await_health()

    def _await_health(self) -> None:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                if httpx2.get(f"{self.url}/healthz", trust_env=False).is_success:
                    return
            except httpx2.TransportError:
                time.sleep(0.05)
        raise AssertionError("the service did not answer")

    def limit_files(self, size: int) -> None:
        """Let no file grow beyond so many bytes, as a full disk does; -1: any size."""
        limit = (size, resource.RLIM_INFINITY)
        resource.prlimit(self._process.pid, resource.RLIMIT_FSIZE, limit)

    def kill(self) -> None:
        """kill -9; return once it is gone."""
        self._process.kill()
        self._process.wait()

    def terminate(self) -> None:
        """Ask it to stop, and do not wait."""
        self._process.terminate()

    def reap(self) -> None:
        """Kill it if it still runs, and close its pipes."""
        self._process.kill()
        self._process.communicate()
        self._log.close()

    def stop(self) -> str:
        """Ask it to stop; return what it wrote on standard error."""
        self._process.terminate()
        self._process.wait(20)
        return self._wrote()

    def _wrote(self) -> str:
        self._log.seek(0)
        return self._log.read()


class MovedClock:
    """The clock of processes that are started with it."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.passed = 0.0
        self.move(0)

    def move(self, seconds: float) -> None:
        """Step forward, or back."""
        self.passed += seconds
        draft = self.file.with_suffix(".new")
        draft.write_text(str(self.passed))
        draft.replace(self.file)  # nobody reads half a number


def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.02)
