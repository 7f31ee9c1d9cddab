"""Several targets: an event is handed to each, keeps its number's order, and each target has a state of its own."""

import sqlalchemy as sa
from alembic import op

from serving.tables import Moment

revision = "0003_targets"
down_revision = "0002_parts"

WEBHOOK = "webhook"  # what the one target of TINGXIN_PUSH_URL is called now
# PostgreSQL's own name of the constraint, which SQLite left without one.
NAMES = {"uq": "%(table_name)s_%(column_0_name)s_key"}


def upgrade() -> None:
    op.drop_index("ix_outbox_due", "outbox")
    with op.batch_alter_table(
        "outbox", naming_convention=NAMES, table_kwargs={"sqlite_autoincrement": True}
    ) as outbox:
        empty = sa.text("''")
        outbox.add_column(sa.Column("target", sa.String(30), nullable=False, server_default=empty))
        outbox.add_column(
            sa.Column("phone_hmac", sa.String(64), nullable=False, server_default=empty)
        )
        outbox.drop_constraint("outbox_id_key", type_="unique")
        outbox.create_unique_constraint("outbox_id_target_key", ["id", "target"])
    row, entry = (
        sa.table("outbox", *map(sa.column, ("target", "state", "suppression_id", "phone_hmac"))),
        sa.table("suppressions", sa.column("id"), sa.column("phone_hmac")),
    )
    number = sa.select(entry.c.phone_hmac).where(entry.c.id == row.c.suppression_id)
    op.execute(row.update().values(phone_hmac=number.scalar_subquery()))
    # What waits goes to every target there is; what is done, or was given up, was the webhook's.
    op.execute(row.update().where(row.c.state != "pending").values(target=WEBHOOK))
    with op.batch_alter_table("outbox", table_kwargs={"sqlite_autoincrement": True}) as outbox:
        outbox.alter_column("target", server_default=None)
        outbox.alter_column("phone_hmac", server_default=None)
    op.create_index("ix_outbox_due", "outbox", ["target", "state", "next_at"])
    op.create_index("ix_outbox_order", "outbox", ["phone_hmac", "target", "state", "seq"])

    # It knew a receiver by the hash of its URL. One that wants nothing more will say so again.
    op.drop_table("push_targets")
    op.create_table(
        "push_targets",
        sa.Column("name", sa.String(30), primary_key=True),
        sa.Column("disabled_at", Moment()),
        sa.Column("reason", sa.String(100)),
        sa.Column("paused_until", Moment()),
        sa.Column("tokens", sa.Float(), nullable=False),
        sa.Column("tokens_at", Moment()),
    )
