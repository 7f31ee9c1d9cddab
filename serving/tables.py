"""The tables, as SQLAlchemy Core sees them. Migrations make them; a test holds the two equal."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    DateTime,
    Dialect,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)

metadata = MetaData()
# SQLite numbers rows by itself only where the type is exactly INTEGER.
Serial = BigInteger().with_variant(Integer, "sqlite")


class Moment(TypeDecorator[datetime]):
    """A point in time, always aware and in UTC on the Python side, also where the database forgets zones."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        moment: datetime = value
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


installation = Table(
    "installation",
    metadata,
    Column("id", Integer, primary_key=True),  # always 1
    Column("phone_key_fingerprint", String(16), nullable=False),
)

replies = Table(
    "replies",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("vendor", String(40), nullable=False),
    Column("vendor_id", String(200), nullable=False),
    Column("list", String(50), nullable=False),
    Column("phone_hmac", String(64), nullable=False, index=True),
    Column("phone_masked", String(24), nullable=False),
    Column("phone_sealed", Text),  # a person in despair has to be called back
    Column("recipient", String(100), nullable=False),
    Column("signature", String(200), nullable=False),
    Column("campaign", String(200), nullable=False),
    Column("text", Text, nullable=False),
    Column("vendor_time", Moment),
    Column("received_at", Moment, nullable=False, index=True),
    Column("action", String(10), nullable=False),
    Column("decision", JSON, nullable=False),  # what the caller was answered
    Column("receipt_id", String(40), nullable=False),
    UniqueConstraint("vendor", "vendor_id"),
)

chain = Table(
    "chain",
    metadata,
    Column("id", Integer, primary_key=True),  # always 1; its lock orders all writers
    Column("seq", BigInteger, nullable=False),
    Column("hash", String(64), nullable=False),
    # The last receipt whose retention has ended: the chain that is kept begins after it.
    Column("base_seq", BigInteger, nullable=False, server_default="0"),
    Column("base_hash", String(64), nullable=False, server_default="0" * 64),
    # Up to here the chain binds bodies themselves, after it their digests.
    Column("plain_until", BigInteger, nullable=False, server_default="0"),
)

receipts = Table(
    "receipts",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("seq", BigInteger, nullable=False, unique=True),
    Column("prev_hash", String(64), nullable=False),
    Column("hash", String(64), nullable=False),
    Column("body", Text, nullable=False),  # canonical JSON, the bytes that were hashed
    Column("created_at", Moment, nullable=False),
)

suppressions = Table(
    "suppressions",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("list", String(50), nullable=False),
    Column("phone_hmac", String(64), nullable=False),
    Column("phone_masked", String(24), nullable=False),
    Column("phone_sealed", Text),
    Column("scope", String(60), nullable=False),
    Column("state", String(12), nullable=False),
    Column("method", String(10), nullable=False),
    Column("actor", String(100), nullable=False),
    Column("reason", Text, nullable=False),
    Column("receipt_id", String(40), nullable=False),
    Column("asked_at", Moment, nullable=False),  # when the person last asked for it
    Column("created_at", Moment, nullable=False),
    Column("updated_at", Moment, nullable=False),
    Column("released_at", Moment),
    UniqueConstraint("list", "phone_hmac", "scope"),
)

changes = Table(
    "changes",
    metadata,
    Column("cursor", Serial, primary_key=True),
    Column("suppression_id", String(40), nullable=False, index=True),
    Column("list", String(50), nullable=False),
    Column("scope", String(60), nullable=False),
    Column("state", String(12), nullable=False),
    Column("method", String(10), nullable=False),
    Column("actor", String(100), nullable=False),
    Column("reason", Text, nullable=False),
    Column("receipt_id", String(40), nullable=False),
    Column("changed_at", Moment, nullable=False),
    sqlite_autoincrement=True,  # a cursor is never given twice
)

queue = Table(
    "queue",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("reply_id", String(40), nullable=False),
    Column("receipt_id", String(40), nullable=False),
    Column("phone_hmac", String(64), nullable=False),
    Column("queue", String(40), nullable=False),
    Column("priority", Integer, nullable=False),
    Column("action", String(10), nullable=False),
    Column("scope", String(60)),
    Column("state", String(6), nullable=False),  # open, done
    Column("created_at", Moment, nullable=False),
    Column("due_at", Moment, nullable=False),
    Column("outcome", String(10)),
    Column("labels", JSON(none_as_null=True)),  # as a person corrected them; training reads these
    Column("actor", String(100)),
    Column("reason", Text),
    Column("closed_at", Moment),
    Index("ix_queue_open", "state", "queue", "priority", "due_at"),
    Index("ix_queue_phone", "phone_hmac", "state"),
)

outbox = Table(
    "outbox",
    metadata,
    Column("seq", Serial, primary_key=True),
    Column("id", String(40), nullable=False),  # CloudEvents id and webhook-id
    Column("target", String(30), nullable=False),  # "": not yet handed to the targets
    Column("suppression_id", String(40), nullable=False),
    Column("phone_hmac", String(64), nullable=False),  # events of one number keep their order
    Column("receipt_id", String(40), nullable=False, index=True),
    Column("event", JSON, nullable=False),  # the CloudEvent without the number
    Column("phone_sealed", Text),  # dropped when delivered
    Column("received_at", Moment, nullable=False),  # of the reply, for the latency we promise
    Column("state", String(10), nullable=False),  # pending, delivered, dead, superseded, skipped
    Column("attempts", Integer, nullable=False),
    Column("next_at", Moment, nullable=False),
    Column("leased_until", Moment),
    Column("last_error", String(100)),
    Column("delivered_at", Moment),
    UniqueConstraint("id", "target"),
    Index("ix_outbox_due", "target", "state", "next_at"),
    Index("ix_outbox_entry", "suppression_id", "seq"),
    Index("ix_outbox_order", "phone_hmac", "target", "state", "seq"),
    sqlite_autoincrement=True,
)

push_targets = Table(
    "push_targets",
    metadata,
    Column("name", String(30), primary_key=True),
    Column("disabled_at", Moment),
    Column("reason", String(100)),
    Column("paused_until", Moment),  # the target asked for it with Retry-After
    Column("tokens", Float, nullable=False),  # calls that may be made now
    Column("tokens_at", Moment),
)

parts = Table(
    "parts",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("message", String(40), nullable=False, index=True),  # the message that it is a part of
    Column("vendor", String(40), nullable=False),
    Column("vendor_id", String(200), nullable=False),
    Column("phone_hmac", String(64), nullable=False),
    Column("phone_sealed", Text, nullable=False),  # "" once it is read, as are text and signature
    Column("recipient", String(100), nullable=False),
    Column("ref", String(20), nullable=False),
    Column("number", Integer, nullable=False),  # 1 … total
    Column("total", Integer, nullable=False),
    Column("text", Text, nullable=False),
    Column("signature", String(200), nullable=False),
    Column("vendor_time", Moment),
    Column("received_at", Moment, nullable=False),
    Column("read_at", Moment, index=True),
    UniqueConstraint("vendor", "vendor_id"),
    Index("ix_parts_sender", "phone_hmac", "ref"),
)

breaker = Table(
    "breaker",
    metadata,
    Column("name", String(60), primary_key=True),  # what is watched: model, or a source
    Column("latest", Text, nullable=False),  # the window, one 0 or 1 for each reply
    Column("usual_yes", Float, nullable=False),
    Column("usual_seen", Float, nullable=False),
    Column("opened_at", Moment),
    Column("held", Integer, nullable=False),
)

templates = Table(
    "templates",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("text", Text, nullable=False),  # of a message that we send; never changed, only removed
    Column("actor", String(100), nullable=False),
    Column("created_at", Moment, nullable=False),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", String(16), primary_key=True),
    Column("name", String(100), nullable=False),
    Column("hash", String(64), nullable=False),
    Column("scopes", JSON, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("expires_at", Moment),
    Column("last_used_at", Moment),
    Column("revoked_at", Moment),
)
