"""The opt-out lists: who must not be sent what, how an entry comes, changes and goes, and who is told.

One row per (list, person, scope). A change of state, its line in the change feed and its event in the
outbox are written in the caller's transaction: none of them exists without the others.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import datetime
from secrets import token_hex
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from serving import outbox, store, tables
from serving.phones import Phones, masked
from serving.store import Store

State = Literal["active", "provisional", "released"]
Method = Literal["keyword", "model", "human", "import"]
# Anchored for pydantic, which searches.
ENTRY_SCOPE = r"^(marketing|all|sender:[^\x00\n]{1,50})$"
ASKED_SCOPE = r"^(marketing|transactional|otp|sender:[^\x00\n]{1,50})$"
BLOCKING = ("active", "provisional")


@dataclass(frozen=True, slots=True)
class Entry:
    """A row of the list."""

    id: str
    list: str
    phone_hmac: str = field(repr=False)
    phone_masked: str
    phone_sealed: str | None = field(repr=False)
    scope: str
    state: State
    method: Method
    actor: str
    reason: str
    receipt_id: str
    asked_at: datetime
    created_at: datetime
    updated_at: datetime
    released_at: datetime | None

    def public(self) -> dict[str, Any]:
        """Return what a caller may see of it: no key, no number but the masked one."""
        shown = asdict(self)
        del shown["phone_hmac"], shown["phone_sealed"]
        return {k: v.isoformat() if isinstance(v, datetime) else v for k, v in shown.items()} | {
            "receipt": shown["receipt_id"]
        }


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked of the list for one number, by whom, why, and on the strength of which receipt."""

    list: str
    phone: str = field(repr=False)  # E.164
    method: Method
    actor: str
    reason: str = field(repr=False)
    receipt_id: str
    asked_at: datetime  # when the person wrote, or the operator spoke
    received_at: datetime  # when we learned of it: the start of the latencies we measure


@dataclass(frozen=True, slots=True)
class Stop:
    """What forbids a message to one person."""

    scope: str
    state: str
    receipt_id: str


@dataclass(frozen=True, slots=True)
class Ask:
    """A wish to block, in one scope, surely or provisionally."""

    wish: Wish
    scope: str
    state: State
    sealed: str = field(default="", repr=False)  # the number, where it is sealed already


@dataclass(frozen=True, slots=True)
class Blocked:
    """What came of an Ask: the entry as it then is, and whether the asking changed it."""

    entry: Entry
    is_news: bool


@dataclass(frozen=True, slots=True)
class _News:
    what: outbox.What
    entry: Entry
    wish: Wish
    sealed: str = field(default="", repr=False)


_COLUMNS = tuple(f.name for f in fields(Entry))
_CHANGING = (
    "state", "method", "actor", "reason", "receipt_id", "asked_at", "updated_at", "released_at",
)  # fmt: skip


def covering_scopes(asked: str) -> tuple[str, ...]:
    """Return the scopes of entries that forbid a message of this kind.

    `sender:X` asks about a marketing message under the signature X: it is marketing too, whatever name
    it goes by (网络交易监督管理办法: 不得更换名义后再次发送). A one-time password or another message that
    the person needs is stopped by `all` alone.

    >>> covering_scopes("marketing"), covering_scopes("otp"), covering_scopes("sender:某贷")
    (('all', 'marketing'), ('all',), ('all', 'marketing', 'sender:某贷'))
    """
    if not re.fullmatch(ASKED_SCOPE, asked):
        raise ValueError("scope is marketing, transactional, otp, or sender:<signature>")
    if asked in ("transactional", "otp"):
        return ("all",)
    return tuple(dict.fromkeys(("all", "marketing", asked)))


def blocked(before: Entry | None, state: State) -> State | None:
    """Return the state that a wish to block leads to, or None where it changes nothing.

    >>> blocked(None, "provisional")
    'provisional'
    """
    if before is None or before.state == "released":
        return state
    # A confident opt-out confirms a provisional entry; nothing takes an active one back.
    return "active" if before.state == "provisional" and state == "active" else None


class Suppressions:
    """The lists within one writing transaction. Hold the receipt chain's lock while using it."""

    def __init__(self, connection: Connection, opened: Store, at: datetime) -> None:
        self._connection = connection
        self._phones = opened.phones
        self._keeps_numbers = opened.settings.list_numbers == "sealed"
        self._at = at

    def block(self, wish: Wish, scope: str, state: State) -> Entry:
        """Put a number on the list, or confirm it there; return the entry as it then is.

        Raises ValueError for what is no scope.
        """
        [done] = self.block_all([Ask(wish, scope, state)])
        return done.entry

    def block_all(self, asks: Sequence[Ask]) -> list[Blocked]:
        """Do as `block` for each, in their order but with few statements; return what became of each.

        Raises ValueError for what is no scope, with nothing written.
        """
        if not all(re.fullmatch(ENTRY_SCOPE, ask.scope) for ask in asks):
            raise ValueError("scope is marketing, all, or sender:<signature>")
        keys = [self._phones.key(ask.wish.phone) for ask in asks]
        known = {
            (entry.list, entry.phone_hmac, entry.scope): entry
            for name in {ask.wish.list for ask in asks}
            for entry in of_people(self._connection, name, keys)
        }
        new: dict[str, Entry] = {}
        changed: dict[str, Entry] = {}
        news: list[_News] = []
        done: list[Blocked] = []
        for ask, key in zip(asks, keys, strict=True):
            place = (ask.wish.list, key, ask.scope)
            before = known.get(place)
            entry, what = self._blocked(before, ask, key)
            if entry != before:
                known[place] = entry
                (new if before is None or entry.id in new else changed)[entry.id] = entry
            if what is not None:
                news.append(_News(what, entry, ask.wish, ask.sealed))
            done.append(Blocked(entry, what is not None))
        if new:
            rows = [_row(entry) for entry in new.values()]
            self._connection.execute(tables.suppressions.insert(), rows)
        self._update(changed.values())
        self._announce(news)
        return done

    def _blocked(
        self, before: Entry | None, ask: Ask, key: str
    ) -> tuple[Entry, outbox.What | None]:
        """Return the entry that a wish to block leads to, and what to tell of it."""
        wish = ask.wish
        to = blocked(before, ask.state)
        if before is None:
            sealed = ask.sealed or self._phones.seal(wish.phone)
            entry = Entry(
                id=f"sp_{token_hex(16)}",
                list=wish.list,
                phone_hmac=key,
                phone_masked=masked(wish.phone),
                phone_sealed=sealed if self._keeps_numbers else None,
                scope=ask.scope,
                state=ask.state,
                method=wish.method,
                actor=wish.actor,
                reason=wish.reason,
                receipt_id=wish.receipt_id,
                asked_at=wish.asked_at,
                created_at=self._at,
                updated_at=self._at,
                released_at=None,
            )
            return entry, "created"
        asked_at = max(before.asked_at, wish.asked_at)
        if to is None:  # a file that is imported again is nobody's asking again
            imported = wish.method == "import"
            return before if imported else replace(before, asked_at=asked_at), None
        what: outbox.What = "created" if before.state == "released" else "updated"
        return self._changed(before, wish, to, asked_at), what

    def release(self, wish: Wish, scope: str | None = None) -> list[Entry]:
        """Take a number off the list, from one scope or from all; return the entries released.

        A person's own START undoes only what they asked for before it: callbacks arrive late and out of
        order, and a 退订 sent after the START must stand. Raises ValueError for a wish that is neither the
        person's own keyword nor that of a named human with a reason.
        """
        named = wish.method == "human" and wish.actor.strip() and wish.reason.strip()
        if wish.method != "keyword" and not named:
            raise ValueError("a release needs the person's own keyword, or a name and a reason")
        released = []
        key = self._phones.key(wish.phone)
        for before in entries(self._connection, wish.list, key, scope):
            outdated = wish.method == "keyword" and before.asked_at > wish.asked_at
            if before.state not in BLOCKING or outdated:
                continue
            released.append(self._changed(before, wish, "released", before.asked_at))
        self._update(released)
        self._announce([_News("released", entry, wish) for entry in released])
        return released

    def _changed(self, before: Entry, wish: Wish, state: State, asked_at: datetime) -> Entry:
        return replace(
            before,
            state=state,
            method=wish.method,
            actor=wish.actor,
            reason=wish.reason,
            receipt_id=wish.receipt_id,
            asked_at=asked_at,
            updated_at=self._at,
            released_at=self._at if state == "released" else None,
        )

    def _update(self, entries: Iterable[Entry]) -> None:
        table = tables.suppressions
        rows = [_row(entry) for entry in entries]
        if rows:
            # A list of parameters makes it one executemany; `entry` is no column and so sets nothing.
            query = table.update().where(table.c.id == sa.bindparam("entry"))
            given = [{"entry": r["id"]} | {k: r[k] for k in _CHANGING} for r in rows]
            self._connection.execute(query, given)

    def _announce(self, news: Sequence[_News]) -> None:
        """Write the feed's lines and the outbox's events."""
        if not news:
            return
        lines = [
            {
                "suppression_id": n.entry.id,
                "list": n.entry.list,
                "scope": n.entry.scope,
                "state": n.entry.state,
                "method": n.entry.method,
                "actor": n.entry.actor,
                "reason": n.entry.reason,
                "receipt_id": n.entry.receipt_id,
                "changed_at": self._at,
            }
            for n in news
        ]
        c = tables.changes.c
        query = tables.changes.insert().returning(c.cursor, sort_by_parameter_order=True)
        cursors = self._connection.scalars(query, lines).all()
        letters = []
        for n, line, cursor in zip(news, lines, cursors, strict=True):
            data = {k: line[k] for k in ("list", "scope", "state", "method")}
            data |= {"receipt": n.entry.receipt_id, "cursor": cursor}
            event = outbox.Event(
                n.what, n.entry.id, n.entry.phone_hmac, n.entry.receipt_id, data, n.wish.received_at
            )
            sealed = n.sealed or self._phones.seal(n.wish.phone)
            letters.append((event, sealed))
        outbox.enqueue(self._connection, letters, self._at)


def _row(entry: Entry) -> dict[str, Any]:
    # dataclasses.asdict copies each value: ten times slower, and a file has half a million lines.
    return {name: getattr(entry, name) for name in _COLUMNS}


def entries(
    connection: Connection, list_name: str, phone_hmac: str, scope: str | None = None
) -> list[Entry]:
    """Return a person's entries on a list, released ones included."""
    c = tables.suppressions.c
    query = sa.select(tables.suppressions).where(c.list == list_name, c.phone_hmac == phone_hmac)
    if scope is not None:
        query = query.where(c.scope == scope)
    return [Entry(**row._mapping) for row in connection.execute(query.order_by(c.scope))]


def of_people(connection: Connection, list_name: str, keys: Iterable[str]) -> Iterator[Entry]:
    """Yield the entries of many people on a list, released ones included."""
    c = tables.suppressions.c
    query = sa.select(tables.suppressions).where(
        c.list == list_name, store.among(connection, c.phone_hmac, keys)
    )
    for row in connection.execute(query):
        yield Entry(**row._mapping)


def covering(
    connection: Connection, list_name: str, keys: Iterable[str], asked_scope: str
) -> dict[str, Stop]:
    """Return, for each key that must not be sent a message of the asked scope, what forbids it.

    One statement for however many keys; raises ValueError for what is no scope.
    """
    c = tables.suppressions.c
    query = (
        sa.select(c.phone_hmac, c.scope, c.state, c.receipt_id)
        .where(c.list == list_name, store.among(connection, c.phone_hmac, keys))
        .where(c.state.in_(BLOCKING), c.scope.in_(covering_scopes(asked_scope)))
        # `active` sorts before `provisional`, and `all` before the narrower scopes.
        .order_by(c.state, c.scope)
    )
    found: dict[str, Stop] = {}
    for key, scope, state, receipt_id in connection.execute(query):
        found.setdefault(key, Stop(scope, state, receipt_id))
    return found


def blocking(
    connection: Connection, keys: Iterable[str], concerns: Callable[[str, str], bool]
) -> set[str]:
    """Return the keys with an entry that blocks, on a list and of a scope that `concerns` says yes to."""
    c = tables.suppressions.c
    query = sa.select(c.phone_hmac, c.list, c.scope).where(
        store.among(connection, c.phone_hmac, keys), c.state.in_(BLOCKING)
    )
    rows = connection.execute(query)
    return {row.phone_hmac for row in rows if concerns(row.list, row.scope)}


def changes(
    connection: Connection, phones: Phones, list_name: str, after: int, limit: int
) -> list[dict[str, Any]]:
    """Return up to `limit` changes with a cursor above `after`, oldest first.

    The number is given in full where the list keeps it: who mirrors the list has to know it.
    """
    c, entry = tables.changes.c, tables.suppressions.c
    query = (
        sa.select(tables.changes, entry.phone_masked, entry.phone_sealed)
        .join(tables.suppressions, entry.id == c.suppression_id)
        .where(c.cursor > after, c.list == list_name)
        .order_by(c.cursor)
        .limit(limit)
    )
    return [
        {
            "cursor": row.cursor,
            "phone": phones.unseal(row.phone_sealed) if row.phone_sealed else None,
            "phone_masked": row.phone_masked,
            "list": row.list,
            "scope": row.scope,
            "state": row.state,
            "method": row.method,
            "receipt": row.receipt_id,
            "changed_at": row.changed_at.isoformat(),
        }
        for row in connection.execute(query)
    ]


def everyone(connection: Connection, list_name: str) -> Iterator[Entry]:
    """Yield every entry of a list, oldest first."""
    table = tables.suppressions
    query = (
        sa.select(table).where(table.c.list == list_name).order_by(table.c.created_at, table.c.id)
    )
    with connection.execute(query, execution_options={"yield_per": 1000}) as rows:
        for row in rows:
            yield Entry(**row._mapping)
