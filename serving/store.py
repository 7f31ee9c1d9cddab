"""The database: opened, migrated, checked against the phone key; reading and writing transactions."""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.engine import Connection, Engine, make_url
from sqlalchemy.exc import (
    ArgumentError,
    InterfaceError,
    InternalError,
    OperationalError,
)
from sqlalchemy.exc import TimeoutError as NoConnection

from serving import tables
from serving.phones import Phones
from serving.settings import Settings, SettingsError

MIGRATIONS = Path(__file__).parent / "migrations"
BUSY_SECONDS = 20
_MIGRATION_LOCK = (
    0x74696E67  # any number that nobody else takes; PostgreSQL's advisory locks have no names
)
# What the drivers raise where the database itself fails: away, full, locked, or only to be read.
# It is no fault of the statement, and may work later.
DatabaseFails = (OperationalError, InternalError, InterfaceError, NoConnection)


def now() -> datetime:
    return datetime.now(UTC)


class Store:
    """An opened database and the keys of the numbers in it."""

    def __init__(self, engine: Engine, phones: Phones, settings: Settings) -> None:
        self.engine = engine
        # One view of the data for the whole of a reading transaction, as SQLite gives it anyway: a chain
        # that grows while it is verified must not look broken.
        self._reader = engine
        if engine.dialect.name == "postgresql":
            self._reader = engine.execution_options(isolation_level="REPEATABLE READ")
        self.phones = phones
        self.settings = settings

    @classmethod
    def open(cls, settings: Settings) -> "Store":
        """Open and migrate; raise SettingsError if the phone key is not the one that the list was made with."""
        phones = Phones.open(settings)
        store = cls(_engine(settings), phones, settings)
        try:
            with store.write() as connection:
                if store.engine.dialect.name == "postgresql":
                    # Replicas start together; SQLite's BEGIN IMMEDIATE lets one in anyway.
                    lock = sa.func.pg_advisory_xact_lock(_MIGRATION_LOCK)
                    connection.execute(sa.select(lock))
                migrate(connection)
                store._check_key(connection)
        except BaseException:
            store.close()
            raise
        return store

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Yield a connection in one transaction that sees one state of the data."""
        with self._reader.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Yield a connection in one transaction: committed when the block ends, undone if it raises."""
        with self.engine.connect() as connection:
            connection = connection.execution_options(tingxin_writes=True)
            with connection.begin():
                yield connection

    def close(self) -> None:
        self.engine.dispose()

    def _check_key(self, connection: Connection) -> None:
        found = connection.scalar(sa.select(tables.installation.c.phone_key_fingerprint))
        if found is None:
            connection.execute(
                tables.installation.insert(),
                {"id": 1, "phone_key_fingerprint": self.phones.fingerprint},
            )
        elif found != self.phones.fingerprint:
            # With another key nobody on the list would be recognised, and all would be sent to again.
            raise SettingsError(
                "the phone key is not the one that this database was made with; restore phone.key or "
                "TINGXIN_PHONE_KEY from the backup (after a rotation that was cut off: from phone.key.new)"
            )


def among(
    connection: Connection, column: sa.ColumnElement[str], texts: Iterable[str]
) -> sa.ColumnElement[bool]:
    """Return `column IN (texts)` for however many texts: they are one parameter."""
    # In the order of an index on the column, so that neighbours share its pages.
    ordered = sorted(set(texts))
    if connection.dialect.name == "sqlite":
        table = sa.func.json_each(json.dumps(ordered)).table_valued("value")
        return column.in_(sa.select(table.c.value))
    return column == sa.any_(sa.cast(ordered, ARRAY(sa.Text())))


def migrate(connection: Connection) -> None:
    """Bring the schema up to date within the caller's transaction.

    Raises SettingsError where a newer Tingxin made it: old code must not write into tables it does not know.
    """
    script = ScriptDirectory(str(MIGRATIONS))
    known = {revision.revision for revision in script.walk_revisions()}
    found = set(MigrationContext.configure(connection).get_current_heads())
    if not found <= known:
        raise SettingsError(
            f"the database is of a newer version of Tingxin (schema {', '.join(sorted(found - known))}); "
            "install that version, or restore the backup from before the upgrade"
        )

    def steps(revision: Any, _context: Any) -> Any:
        return script._upgrade_revs("head", revision)

    # Alembic's own env.py would be a file that runs at import; this is what it does.
    with EnvironmentContext(Config(), script, fn=steps) as environment:
        environment.configure(connection=connection, target_metadata=tables.metadata)
        environment.run_migrations()


def _engine(settings: Settings) -> Engine:
    """Return the engine of the settings' database; raise SettingsError if it cannot be one."""
    try:
        url = make_url(settings.url)
    except ArgumentError:
        raise SettingsError("TINGXIN_DATABASE_URL is no SQLAlchemy URL") from None
    if url.drivername in ("postgres", "postgresql"):  # as every hosting company writes it
        url = url.set(drivername="postgresql+psycopg")
    # hide_parameters: a database error must not carry a number or a text into a log.
    options: dict[str, Any] = {"hide_parameters": True}
    settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    if url.get_backend_name() == "sqlite":
        options["connect_args"] = {"timeout": BUSY_SECONDS}
    elif url.get_backend_name() == "postgresql":
        options["pool_pre_ping"] = True  # a server that restarted costs a reply nothing
    else:
        raise SettingsError("TINGXIN_DATABASE_URL is neither a sqlite nor a postgresql URL")
    try:
        engine = sa.create_engine(url, **options)
    except ModuleNotFoundError as missing:
        raise SettingsError(
            f"TINGXIN_DATABASE_URL needs {missing.name}: pip install 'tingxin[postgres]'"
        ) from None
    if engine.dialect.name == "sqlite":
        sa.event.listen(engine, "connect", _prepare_sqlite)
        sa.event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    # The driver's own BEGIN comes too late for reads and is never IMMEDIATE: we send ours.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")  # an acknowledged reply survives a power cut
    cursor.execute(
        "PRAGMA cache_size = -32768"
    )  # KiB: the upper levels of the index of a long list
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    # A reader that turns writer may find itself refused; a writer therefore says so at once.
    writes = connection.get_execution_options().get("tingxin_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
