"""The database: migrations make exactly the tables of tables.py, and times come back as they went in."""

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from pydantic import SecretStr

from serving import tables
from serving.phones import Phones
from serving.settings import Settings, SettingsError
from serving.store import MIGRATIONS, Store, migrate


def test_migrations_make_the_tables_that_the_code_reads(settings: Settings) -> None:
    store = Store.open(settings)
    with store.read() as connection:
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, tables.metadata) == []
    store.close()


def test_the_one_receivers_letters_become_a_targets(settings: Settings) -> None:
    """0020: what waits is handed to every target; what was given up was the webhook's; numbers get their order."""
    store = Store(sa.create_engine(settings.url), Phones(b"k" * 32), settings)
    settings.home.mkdir()
    script = ScriptDirectory(str(MIGRATIONS))
    with store.write() as connection:

        def steps(revision: Any, _context: Any) -> Any:
            return script._upgrade_revs("0001", revision)

        with EnvironmentContext(Config(), script, fn=steps) as environment:
            environment.configure(connection=connection)
            environment.run_migrations()
        at, metadata = datetime(2026, 1, 1), sa.MetaData()
        entries = sa.Table("suppressions", metadata, autoload_with=connection)
        entry = {c.name: at if c.name.endswith("_at") else "x" for c in entries.c}
        connection.execute(entries.insert(), entry | {"id": "sp_1", "phone_hmac": "hmac"})
        letter = {
            "suppression_id": "sp_1", "receipt_id": "rc_1", "event": {}, "received_at": at,
            "attempts": 0, "next_at": at,
        }  # fmt: skip
        states = ("delivered", "dead", "pending")
        connection.execute(
            sa.Table("outbox", metadata, autoload_with=connection).insert(),
            [letter | {"id": f"evt_{n}", "state": state} for n, state in enumerate(states)],
        )
        migrate(connection)
        letters = connection.execute(sa.select(tables.outbox).order_by(tables.outbox.c.seq)).all()
        assert [(le.id, le.target) for le in letters] == [
            ("evt_0", "webhook"), ("evt_1", "webhook"), ("evt_2", ""),
        ]  # fmt: skip
        assert {letter.phone_hmac for letter in letters} == {"hmac"}
        # A place in the order is never given twice, also after the last letter went.
        connection.execute(tables.outbox.delete())
        row = {name: value for name, value in letters[2]._mapping.items() if name != "seq"}
        connection.execute(tables.outbox.insert(), row)
        assert connection.scalar(sa.select(tables.outbox.c.seq)) > letters[2].seq
    store.close()


def test_opening_again_changes_nothing(settings: Settings) -> None:
    Store.open(settings).close()
    store = Store.open(settings)
    with store.read() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(tables.chain)) == 1
    store.close()


def test_a_moment_comes_back_in_utc(settings: Settings) -> None:
    store = Store.open(settings)
    china = datetime(2026, 1, 1, 8, tzinfo=timezone(timedelta(hours=8)))
    with store.write() as connection:
        values = {"name": "x", "disabled_at": china, "tokens": 0}
        connection.execute(tables.push_targets.insert(), values)
    with store.read() as connection:
        found = connection.scalar(sa.select(tables.push_targets.c.disabled_at))
    assert found == china
    assert found is not None
    assert found.tzinfo is UTC
    store.close()


def test_processes_that_start_together_migrate_once(settings: Settings) -> None:
    url = settings.url if settings.database_url else None
    environment = os.environ | {"TINGXIN_HOME": str(settings.home)}
    if url:
        environment["TINGXIN_DATABASE_URL"] = url.replace("+psycopg", "")
    code = (
        "from serving.settings import *; from serving.store import *; Store.open(read_settings())"
    )
    starting = [subprocess.Popen([sys.executable, "-c", code], env=environment) for _ in range(4)]
    assert [process.wait(60) for process in starting] == [0] * 4
    test_migrations_make_the_tables_that_the_code_reads(settings)


def test_a_reading_transaction_sees_one_state(settings: Settings) -> None:
    store = Store.open(settings)
    count = sa.select(sa.func.count()).select_from(tables.push_targets)
    with store.read() as reading:
        assert reading.scalar(count) == 0
        with store.write() as writing:
            writing.execute(tables.push_targets.insert(), {"name": "x", "tokens": 0})
        assert reading.scalar(count) == 0
    store.close()


@pytest.mark.parametrize("url", ["mysql://u:secret@h/x", "://secret", "nothing"])
def test_another_kind_of_database_is_refused_without_its_password(tmp_path: Path, url: str) -> None:
    settings = Settings(home=tmp_path, database_url=SecretStr(url))
    with pytest.raises(SettingsError, match="TINGXIN_DATABASE_URL") as refused:
        Store.open(settings)
    assert "secret" not in str(refused.value)


def test_a_schema_from_the_future_is_refused_and_left_alone(settings: Settings) -> None:
    store = Store.open(settings)
    with store.write() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999_later'"))
    store.close()
    with pytest.raises(SettingsError, match=r"newer version of Tingxin \(schema 9999_later\)"):
        Store.open(settings)
