"""The opt-out lists: who must not be sent what, how an entry comes, changes and goes, and who is told.

One row per (list, person, scope). A change of state, its line in the change feed and its event in the
outbox are written in the caller's transaction: none of them exists without the others.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any, Literal
from uuid import uuid4

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from serving import outbox, tables
from serving.phones import Phones, masked
from serving.store import Store

State = Literal["active", "provisional", "released"]
Method = Literal["keyword", "model", "human", "import"]
# Anchored for pydantic, which searches.
ENTRY_SCOPE = r"^(marketing|all|sender:.{1,50})$"
ASKED_SCOPE = r"^(marketing|transactional|otp|sender:.{1,50})$"
BLOCKING = ("active", "provisional")
_KEYS_AT_ONCE = 500  # SQLite takes 32,766 parameters, older ones 999


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

    def __init__(self, connection: Connection, store: Store, at: datetime) -> None:
        self._connection = connection
        self._phones = store.phones
        self._keeps_numbers = store.settings.list_numbers == "sealed"
        self._at = at

    def block(self, wish: Wish, scope: str, state: State) -> Entry:
        """Put a number on the list, or confirm it there; return the entry as it then is.

        Raises ValueError for what is no scope.
        """
        if not re.fullmatch(ENTRY_SCOPE, scope):
            raise ValueError("scope is marketing, all, or sender:<signature>")
        key = self._phones.key(wish.phone)
        before = next(iter(entries(self._connection, wish.list, key, scope)), None)
        to = blocked(before, state)
        if before is None:
            sealed = self._phones.seal(wish.phone) if self._keeps_numbers else None
            entry = Entry(
                id=f"sp_{uuid4().hex}",
                list=wish.list,
                phone_hmac=key,
                phone_masked=masked(wish.phone),
                phone_sealed=sealed,
                scope=scope,
                state=state,
                method=wish.method,
                actor=wish.actor,
                reason=wish.reason,
                receipt_id=wish.receipt_id,
                asked_at=wish.asked_at,
                created_at=self._at,
                updated_at=self._at,
                released_at=None,
            )
            self._connection.execute(tables.suppressions.insert(), asdict(entry))
            self._announce("created", entry, wish)
            return entry
        asked_at = max(before.asked_at, wish.asked_at)
        if to is None:
            entry = replace(before, asked_at=asked_at)
            self._update(entry)
            return entry
        entry = self._changed(before, wish, to, asked_at)
        self._announce("created" if before.state == "released" else "updated", entry, wish)
        return entry

    def release(self, wish: Wish, scope: str | None = None) -> list[Entry]:
        """Take a number off the list, from one scope or from all; return the entries released.

        A person's own START undoes only what they asked for before it: callbacks arrive late and out of
        order, and a 退订 sent after the START must stand.
        """
        released = []
        key = self._phones.key(wish.phone)
        for before in entries(self._connection, wish.list, key, scope):
            outdated = wish.method == "keyword" and before.asked_at > wish.asked_at
            if before.state not in BLOCKING or outdated:
                continue
            entry = self._changed(before, wish, "released", before.asked_at)
            self._announce("released", entry, wish)
            released.append(entry)
        return released

    def _changed(self, before: Entry, wish: Wish, state: State, asked_at: datetime) -> Entry:
        entry = replace(
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
        self._update(entry)
        return entry

    def _update(self, entry: Entry) -> None:
        table = tables.suppressions
        self._connection.execute(
            table.update().where(table.c.id == entry.id).values(**asdict(entry))
        )

    def _announce(self, what: outbox.What, entry: Entry, wish: Wish) -> None:
        change = {
            "suppression_id": entry.id,
            "list": entry.list,
            "scope": entry.scope,
            "state": entry.state,
            "method": entry.method,
            "actor": entry.actor,
            "reason": entry.reason,
            "receipt_id": entry.receipt_id,
            "changed_at": self._at,
        }
        inserted = self._connection.execute(tables.changes.insert(), change).inserted_primary_key
        data = {k: change[k] for k in ("list", "scope", "state", "method")}
        data |= {"receipt": entry.receipt_id, "cursor": inserted[0] if inserted else None}
        event = outbox.Event(
            what, entry.id, entry.phone_hmac, entry.receipt_id, data, wish.received_at
        )
        outbox.enqueue(self._connection, event, self._phones.seal(wish.phone), self._at)


def entries(
    connection: Connection, list_name: str, phone_hmac: str, scope: str | None = None
) -> list[Entry]:
    """Return a person's entries on a list, released ones included."""
    c = tables.suppressions.c
    query = sa.select(tables.suppressions).where(c.list == list_name, c.phone_hmac == phone_hmac)
    if scope is not None:
        query = query.where(c.scope == scope)
    return [Entry(**row._mapping) for row in connection.execute(query.order_by(c.scope))]


def covering(
    connection: Connection, list_name: str, keys: Iterable[str], asked: str
) -> dict[str, Entry]:
    """Return, for each key that must not be sent a message of the asked scope, an entry that forbids it."""
    c = tables.suppressions.c
    found: dict[str, Entry] = {}
    distinct = list(dict.fromkeys(keys))
    for start in range(0, len(distinct), _KEYS_AT_ONCE):
        some = distinct[start : start + _KEYS_AT_ONCE]
        query = sa.select(tables.suppressions).where(
            c.list == list_name,
            c.phone_hmac.in_(some),
            c.state.in_(BLOCKING),
            c.scope.in_(covering_scopes(asked)),
        )
        # `active` sorts before `provisional`, and `all` before the narrower scopes.
        for row in connection.execute(query.order_by(c.state, c.scope)):
            found.setdefault(row.phone_hmac, Entry(**row._mapping))
    return found


def blocking(
    connection: Connection, keys: Iterable[str], concerns: Callable[[str, str], bool]
) -> set[str]:
    """Return the keys with an entry that blocks, on a list and of a scope that `concerns` says yes to."""
    c = tables.suppressions.c
    found: set[str] = set()
    distinct = list(dict.fromkeys(keys))
    for start in range(0, len(distinct), _KEYS_AT_ONCE):
        query = sa.select(c.phone_hmac, c.list, c.scope).where(
            c.phone_hmac.in_(distinct[start : start + _KEYS_AT_ONCE]), c.state.in_(BLOCKING)
        )
        rows = connection.execute(query)
        found |= {row.phone_hmac for row in rows if concerns(row.list, row.scope)}
    return found


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
    for row in connection.execution_options(yield_per=1000).execute(query):
        yield Entry(**row._mapping)
