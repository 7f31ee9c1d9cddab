"""Parts of long messages that wait for the rest, and the operator's own templates."""

import sqlalchemy as sa
from alembic import op

from serving.tables import Moment

revision = "0002_parts"
down_revision = "0001"


def upgrade() -> None:

    op.create_table(
        "parts",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("message", sa.String(length=40), nullable=False),
        sa.Column("vendor", sa.String(length=40), nullable=False),
        sa.Column("vendor_id", sa.String(length=200), nullable=False),
        sa.Column("phone_hmac", sa.String(length=64), nullable=False),
        sa.Column("phone_sealed", sa.Text(), nullable=False),
        sa.Column("recipient", sa.String(length=100), nullable=False),
        sa.Column("ref", sa.String(length=20), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("signature", sa.String(length=200), nullable=False),
        sa.Column("vendor_time", Moment(), nullable=True),
        sa.Column("received_at", Moment(), nullable=False),
        sa.Column("read_at", Moment(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("vendor", "vendor_id"),
    )
    op.create_index(op.f("ix_parts_message"), "parts", ["message"], unique=False)
    op.create_index(op.f("ix_parts_read_at"), "parts", ["read_at"], unique=False)
    op.create_index("ix_parts_sender", "parts", ["phone_hmac", "ref"], unique=False)
    op.create_table(
        "templates",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("actor", sa.String(length=100), nullable=False),
        sa.Column("created_at", Moment(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
