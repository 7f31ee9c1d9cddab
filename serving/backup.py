"""Copies of a SQLite database, taken while the service runs, and put back while it does not.

A copy is worth nothing without the phone key, and the key lies outside the database on purpose: keep it, in
another place. PostgreSQL has its own means: `pg_dump --format=custom`, `pg_restore`, or archived WAL.
"""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from sqlalchemy.engine import make_url

from serving.phones import Phones
from serving.settings import Settings
from serving.store import now

_PAGES = 4096  # 16 MiB at a time: writers get their turn in between


class BackupError(RuntimeError):
    """A copy cannot be made or put back. The message says why and what to do."""


def database_file(settings: Settings) -> Path:
    """Return the file of a SQLite database; raise BackupError where there is none."""
    url = make_url(settings.url)
    if url.get_backend_name() != "sqlite":
        raise BackupError(
            "this database is PostgreSQL: use pg_dump --format=custom and pg_restore, and keep the phone key apart"
        )
    if not url.database or url.database == ":memory:":
        raise BackupError("a database in memory has no file to copy")
    return Path(url.database)


def backup(settings: Settings, out: Path) -> str:
    """Copy the database, whole and consistent, to a new file; return the fingerprint of its phone key.

    Raises BackupError if there is such a file already, or the copy is not sound.
    """
    source = database_file(settings)
    if not source.exists():
        raise BackupError(f"{source} is not there: nothing to copy")
    try:
        os.close(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        raise BackupError(f"{out} is there already; it is not written over") from None
    try:
        _copy(source, out)
        return _fingerprint(out)
    except BaseException:
        out.unlink()
        raise


def restore(settings: Settings, copy: Path) -> Path | None:
    """Put a copy in the database's place; return where the database that was there now lies.

    Raises BackupError, with nothing changed, if the service runs, the copy is not sound, or it was made under
    another phone key than the one in use.
    """
    target = database_file(settings)
    fingerprint = _fingerprint(copy)
    if fingerprint != Phones.open(settings).fingerprint:
        raise BackupError(
            f"{copy} was made under another phone key ({fingerprint}); put that key back first: "
            "phone.key under TINGXIN_HOME, or TINGXIN_PHONE_KEY"
        )
    draft = target.with_name(target.name + ".restoring")
    draft.unlink(missing_ok=True)
    os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    _copy(copy, draft)
    aside = None
    if target.exists():
        _close_down(target)
        aside = target.with_name(f"{target.name}.before-{now():%Y%m%dT%H%M%S}")
        target.rename(aside)
    draft.rename(target)
    return aside


def _copy(source: Path, target: Path) -> None:
    with closing(_open(source)) as read, closing(sqlite3.connect(target)) as written:
        read.backup(written, pages=_PAGES)
        written.execute("PRAGMA journal_mode = DELETE")  # one file, without a log beside it
    with target.open("rb+") as file:
        os.fsync(file.fileno())


def _fingerprint(path: Path) -> str:
    """Return the phone key's fingerprint that a database was made with; raise BackupError if it is not sound."""
    try:
        with closing(_open(path)) as connection:
            [[verdict]] = connection.execute("PRAGMA quick_check(1)").fetchall()
            if verdict != "ok":
                raise BackupError(f"{path} is damaged: {verdict}")
            [[found]] = connection.execute("SELECT phone_key_fingerprint FROM installation")
            return str(found)
    except (sqlite3.Error, ValueError):
        raise BackupError(f"{path} is no database of Tingxin, or cannot be read") from None


def _open(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True)


def _close_down(path: Path) -> None:
    """Bring everything into the one file; raise BackupError while anybody else has it open."""
    with closing(_open(path)) as connection:
        try:
            # Only the last one in can leave the write-ahead log behind.
            [[mode]] = connection.execute("PRAGMA journal_mode = DELETE").fetchall()
        except sqlite3.OperationalError:
            mode = "wal"
    if mode == "wal":
        raise BackupError("the database is in use; stop the service first")
