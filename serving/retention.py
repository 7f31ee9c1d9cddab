"""What may not be kept any longer goes: by age (`purge`), or because one person asks for it (`erase`).

Three clocks, in days (settings): texts and numbers of replies, released entries of the list, receipts with
all that they speak of. 通信短信息服务管理规定 asks for five months of texts, and for five months of a
subscription's end; 个人信息保护法 第47条 asks to delete on request, and where a law says that a record must
stay, to do no more with it than keep it. What still waits for somebody is never touched: an open item, an
event that the platform has not been told.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from serving import receipts, tables
from serving.store import Store, now
from serving.suppressions import BLOCKING

AT_ONCE = 2000  # rows in one transaction: replies coming in need not wait for the whole

_r, _q, _s, _o = tables.replies.c, tables.queue.c, tables.suppressions.c, tables.outbox.c
_IS_OPEN = sa.exists().where(_q.reply_id == _r.id, _q.state == "open")
_IS_UNTOLD = sa.exists().where(_o.suppression_id == _s.id, _o.state.in_(("pending", "dead")))
_NO_TEXT = {"text": "", "phone_sealed": None}


@dataclass(frozen=True, slots=True)
class Purged:
    """How many went, or in a dry run would go."""

    texts: int  # replies that lost their text and number
    entries: int  # released ones
    events: int  # that reached the platform
    replies: int  # what was left of them, with their items
    receipts: int


def purge(store: Store, dry_run: bool = False) -> Purged:
    """Take out what has outlived its retention; write a receipt of it, if anything went."""
    at, kept = now(), store.settings
    old_text = at - timedelta(days=kept.keep_text_days)
    old_entry = at - timedelta(days=kept.keep_released_days)
    old_receipt = at - timedelta(days=kept.keep_receipts_days)
    has_text = sa.or_(_r.text != "", _r.phone_sealed.is_not(None))
    texts = sa.and_(_r.received_at < old_text, has_text, ~_IS_OPEN)
    entries = sa.and_(_s.state == "released", _s.released_at < old_entry, ~_IS_UNTOLD)
    told = _o.state.in_(("delivered", "superseded"))
    events = sa.and_(told, _o.received_at < old_receipt)
    replies = sa.and_(_r.received_at < old_receipt, ~_IS_OPEN)
    if dry_run:
        with store.read() as connection:

            def count(which: sa.ColumnElement[bool]) -> int:
                return connection.scalar(sa.select(sa.func.count()).where(which)) or 0

            old = _new_base(connection, old_receipt) - _base(connection)
            return Purged(count(texts), count(entries), count(events), count(replies), old)
    done = Purged(
        texts=_each(store, _r.id, texts, lambda c, ids: _blank(c, ids, **_NO_TEXT)),
        entries=_each(store, _s.id, entries, _delete_entries),
        events=_each(store, _o.id, events, lambda c, ids: _delete(c, _o.id, ids)),
        replies=_each(store, _r.id, replies, _delete_replies),
        receipts=0,
    )
    return _purge_receipts(store, done, old_receipt, at)


def _purge_receipts(store: Store, done: Purged, before: datetime, at: datetime) -> Purged:
    """Move the beginning of the chain, and write down in it what was purged."""
    r = tables.receipts.c
    with store.write() as connection, receipts.Chain(connection) as chain:
        base, was = _new_base(connection, before), _base(connection)
        done = Purged(**asdict(done) | {"receipts": base - was})
        if not any(asdict(done).values()):
            return done
        if base > was:
            last = connection.scalar(sa.select(r.hash).where(r.seq == base))
            connection.execute(tables.chain.update().values(base_seq=base, base_hash=last))
            connection.execute(tables.receipts.delete().where(r.seq <= base))
        chain.append(receipts.new_id(), {"kind": "purge", "base": base} | asdict(done), at)
    return done


def _base(connection: Connection) -> int:
    return connection.scalar(sa.select(tables.chain.c.base_seq)) or 0


def _new_base(connection: Connection, before: datetime) -> int:
    """Return the number of the last receipt of an unbroken run of old ones."""
    r = tables.receipts.c
    first_kept = connection.scalar(sa.select(sa.func.min(r.seq)).where(r.created_at >= before))
    if first_kept is not None:
        return int(first_kept) - 1
    return connection.scalar(sa.select(tables.chain.c.seq)) or 0


def _each(store: Store, column: sa.Column[str], which: sa.ColumnElement[bool], do: Any) -> int:
    """Do it to all rows there are, some at a time."""
    count = 0
    while True:
        # The chain's lock: nobody may be taking up again an entry that is about to go.
        with store.write() as connection, receipts.Chain(connection):
            ids = list(connection.scalars(sa.select(column).where(which).limit(AT_ONCE)))
            if ids:
                do(connection, ids)
        count += len(ids)
        if len(ids) < AT_ONCE:
            return count


def _blank(connection: Connection, ids: list[str], **values: Any) -> None:
    connection.execute(tables.replies.update().where(_r.id.in_(ids)).values(**values))


def _delete(connection: Connection, column: sa.Column[str], ids: list[str]) -> None:
    connection.execute(column.table.delete().where(column.in_(ids)))


def _delete_entries(connection: Connection, ids: list[str]) -> None:
    _delete(connection, tables.changes.c.suppression_id, ids)
    _delete(connection, _s.id, ids)


def _delete_replies(connection: Connection, ids: list[str]) -> None:
    _delete(connection, _q.reply_id, ids)
    _delete(connection, _r.id, ids)


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the report to the person: what, how many, and why what stays must stay."""

    what: str
    erased: int
    kept: int = 0
    why: str = ""
    until: datetime | None = None

    def text(self) -> str:
        """Return it as a sentence for the person who answers the request."""
        line = f"{self.what}: 删除 erased {self.erased}"
        if self.kept:
            line += f", 保留 kept {self.kept}: {self.why}"
        return line + (f" ({self.until:%Y-%m-%d})" if self.until else "")


class _Undone(Exception):
    """Ends a transaction that was only to show what it would do."""


def erase(
    store: Store,
    phone: str,
    actor: str,
    reason: str,
    texts_too: bool = False,
    dry_run: bool = False,
) -> list[Line]:
    """Take out of the database what it holds about one person; return what went, and what stays and why.

    Texts within their retention stay unless `texts_too` (the operator states that no law keeps them). An
    opt-out in force stays as a keyed hash alone: the person must not be written to again.
    """
    at, key = now(), store.phones.key(phone)
    report: list[Line] = []
    try:
        with store.write() as connection, receipts.Chain(connection) as chain:
            cutoff = at - timedelta(days=store.settings.keep_text_days)
            report += _erase_replies(connection, key, at if texts_too else cutoff, at - cutoff)
            report += _erase_entries(connection, key)
            body = {"kind": "erasure", "phone_hmac": key, "actor": actor, "reason": reason}
            counts = {line.what: {"erased": line.erased, "kept": line.kept} for line in report}
            chain.append(receipts.new_id(), body | {"report": counts}, at)
            if dry_run:
                raise _Undone
    except _Undone:
        pass
    why = "凭据只含带密钥的哈希,不含号码和内容 / receipts hold keyed hashes, no number and no text"
    return [*report, Line("凭据 receipts", 0, 1, why, at + _days(store))]


def _days(store: Store) -> timedelta:
    return timedelta(days=store.settings.keep_receipts_days)


def _erase_replies(
    connection: Connection, key: str, cutoff: datetime, retention: timedelta
) -> Iterator[Line]:
    mine = _r.phone_hmac == key
    is_old = _r.received_at <= cutoff
    rows = connection.execute(
        sa.select(_r.id, _r.received_at, is_old.label("old"), _IS_OPEN.label("open")).where(mine)
    ).all()
    waiting = [row.id for row in rows if row.open]
    old = [row.id for row in rows if row.old and not row.open]
    young = [row for row in rows if not row.old and not row.open]
    nobody = {"phone_sealed": None, "phone_masked": ""}
    # Some people have written thousands of times; SQLite takes 32,766 parameters.
    for some in _parts(old):
        _blank(connection, some, text="", phone_hmac="", **nobody)
        done = tables.queue.update().where(_q.reply_id.in_(some))
        connection.execute(done.values(phone_hmac=""))
    for some in _parts([row.id for row in young]):
        _blank(connection, some, **nobody)
    yield Line(
        "回复内容 texts",
        len(old),
        len(young),
        "法定保存期未满,只存储不使用 / the law's term of keeping has not ended; kept, not used",
        max(row.received_at for row in young) + retention if young else None,
    )
    yield Line(
        "回复中的号码 numbers of replies",
        len(old) + len(young),
        len(waiting),
        "尚有待处理事项 / an item is open: somebody has to call back",
    )


def _erase_entries(connection: Connection, key: str) -> Iterator[Line]:
    entries = connection.execute(
        sa.select(_s.id, _s.state, _IS_UNTOLD.label("untold")).where(_s.phone_hmac == key)
    ).all()
    gone = [row.id for row in entries if row.state == "released" and not row.untold]
    kept = [row for row in entries if row.id not in gone]
    _delete_entries(connection, gone)
    connection.execute(
        tables.suppressions.update()
        .where(_s.id.in_([row.id for row in kept]))
        .values(phone_sealed=None, phone_masked="")
    )
    blocking = sum(row.state in BLOCKING for row in kept)
    yield Line(
        "名单 list entries",
        len(gone),
        blocking,
        "仅留哈希,以免再次打扰 / as a keyed hash alone, so that nobody writes again",
    )
    untold = connection.scalar(
        sa.select(sa.func.count()).where(
            _o.suppression_id.in_([row.id for row in kept]), _o.phone_sealed.is_not(None)
        )
    )
    yield Line(
        "待推送 events",
        0,
        untold or 0,
        "须先通知发送平台 / the sending platform has yet to be told",
    )


def _parts(ids: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(ids), AT_ONCE):
        yield ids[start : start + AT_ONCE]
