"""The breaker's watches; and receipts whose chain can be shown without the receipts of others."""

import sqlalchemy as sa
from alembic import op

from serving.tables import Moment

revision = "0005_breaker"
down_revision = "0004_list_and_keys"


def upgrade() -> None:
    op.create_table(
        "breaker",
        sa.Column("name", sa.String(60), primary_key=True),
        sa.Column("latest", sa.Text(), nullable=False),
        sa.Column("usual_yes", sa.Float(precision=53), nullable=False),
        sa.Column("usual_seen", sa.Float(precision=53), nullable=False),
        sa.Column("opened_at", Moment()),
        sa.Column("held", sa.Integer(), nullable=False),
    )
    plain = sa.Column("plain_until", sa.BigInteger(), nullable=False, server_default="0")
    op.add_column("chain", plain)
    op.execute("UPDATE chain SET plain_until = seq")
