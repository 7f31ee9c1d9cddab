"""The database: migrations make exactly the tables of tables.py, and times come back as they went in."""

from datetime import UTC, datetime, timedelta, timezone

import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from serving import tables
from serving.settings import Settings
from serving.store import Store


def test_migrations_make_the_tables_that_the_code_reads(settings: Settings) -> None:
    store = Store.open(settings)
    with store.read() as connection:
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, tables.metadata) == []
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
