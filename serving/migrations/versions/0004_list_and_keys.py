"""API keys that expire, and a chain of receipts whose beginning may end its retention."""

import sqlalchemy as sa
from alembic import op

from serving.tables import Moment

revision = "0004_list_and_keys"
down_revision = "0003_targets"


def upgrade() -> None:
    op.add_column("api_keys", sa.Column("expires_at", Moment(), nullable=True))
    zero = sa.Column("base_seq", sa.BigInteger(), nullable=False, server_default="0")
    genesis = sa.Column("base_hash", sa.String(64), nullable=False, server_default="0" * 64)
    op.add_column("chain", zero)
    op.add_column("chain", genesis)
