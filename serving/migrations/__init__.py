"""Alembic migrations, append-only: a released revision is never edited."""
