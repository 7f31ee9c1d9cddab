"""Another phone key for an installation: every number is unsealed with the old one, hashed and sealed anew.

What cannot be read back cannot be hashed anew, and an entry that nobody recognises any more would let
messages through: such a list is refused. Receipts stay as they are, under the old key's hashes; a receipt
of the rotation names both keys' fingerprints. All in one transaction, with the service stopped.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from cryptography.fernet import InvalidToken
from sqlalchemy.engine import Connection

from serving import receipts, tables
from serving.phones import Phones
from serving.store import Store, now

AT_ONCE = 2000


class CannotRotate(RuntimeError):
    """Some numbers cannot be read back. The message says how many, and what can be done."""


@dataclass(frozen=True, slots=True)
class Rotated:
    """How many rows were written anew."""

    entries: int
    replies: int
    events: int


def rotate(store: Store, new: Phones, actor: str) -> Rotated:
    """Re-key the database; from then on it opens with the new key only. Raises CannotRotate, and changes nothing."""
    old, at = store.phones, now()
    s, r, o = tables.suppressions, tables.replies, tables.outbox
    with store.write() as connection, receipts.Chain(connection) as chain:
        unreadable = connection.scalar(sa.select(sa.func.count()).where(s.c.phone_sealed.is_(None)))
        if unreadable:
            raise CannotRotate(
                f"{unreadable} entries of the list hold no number that can be read back (TINGXIN_LIST_NUMBERS="
                "masked, or the person was erased): under another key nobody would recognise them. Keep the key; "
                "or start an empty database with the new key and import the list from your own records"
            )

        def anew(row: Any) -> dict[str, str]:
            phone = old.unseal(row.phone_sealed)
            return {"phone_hmac": new.key(phone), "phone_sealed": new.seal(phone)}

        def sealed_anew(row: Any) -> dict[str, str]:
            return {"phone_sealed": new.seal(old.unseal(row.phone_sealed))}

        try:
            done = Rotated(
                entries=_rewrite(connection, s, anew),
                replies=_rewrite(connection, r, anew),
                events=_rewrite(connection, o, sealed_anew),
            )
        except InvalidToken:
            raise CannotRotate(
                "a number is sealed under some other key; restore a backup"
            ) from None
        # What was purged of its number keeps no link to a person; what waits for one has its reply's.
        connection.execute(r.update().where(r.c.phone_sealed.is_(None)).values(phone_hmac=""))
        of_reply = sa.select(r.c.phone_hmac).where(r.c.id == tables.queue.c.reply_id)
        anew_or_none = sa.func.coalesce(of_reply.scalar_subquery(), "")
        connection.execute(tables.queue.update().values(phone_hmac=anew_or_none))
        fingerprint = {"phone_key_fingerprint": new.fingerprint}
        connection.execute(tables.installation.update().values(fingerprint))
        body = {
            "kind": "rotation",
            "actor": actor,
            "from_key": old.fingerprint,
            "to_key": new.fingerprint,
            "entries": done.entries,
        }
        chain.append(receipts.new_id(), body, at)
    return done


def _rewrite(connection: Connection, table: sa.Table, anew: Callable[[Any], dict[str, str]]) -> int:
    """Write new values into each row that holds a sealed number; return how many there were."""
    count = 0
    for rows in _pages(connection, table):
        given = [{"row": row.id} | anew(row) for row in rows]
        query = table.update().where(table.c.id == sa.bindparam("row"))
        connection.execute(query, given)
        count += len(given)
    return count


def _pages(connection: Connection, table: sa.Table) -> Iterator[list[Any]]:
    """Yield the rows in the order of their ids; a cursor held open would not survive the writing."""
    last = ""
    query = sa.select(table.c.id, table.c.phone_sealed).where(table.c.phone_sealed.is_not(None))
    query = query.order_by(table.c.id).limit(AT_ONCE)
    while rows := list(connection.execute(query.where(table.c.id > last))):
        yield rows
        last = rows[-1].id
