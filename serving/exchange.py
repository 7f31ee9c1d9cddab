"""What people do to a list: add and release, each with its receipt, and export it.

An export is UTF-8 with the mark that Excel needs to show Chinese; `importing.py` reads it.
"""

import csv
import io
from collections.abc import Iterator
from typing import Any

from serving import receipts
from serving.store import Store, now
from serving.suppressions import Entry, Suppressions, Wish, everyone

COLUMNS = (
    "phone", "phone_masked", "list", "scope", "state", "method", "actor", "reason",
    "created_at", "updated_at", "receipt",
)  # fmt: skip


def add(store: Store, list_name: str, phone: str, scope: str, actor: str, reason: str) -> Entry:
    """A named person puts an E.164 number on a list; return the entry as it then is."""
    at, receipt_id = now(), receipts.new_id()
    with store.write() as connection, receipts.Chain(connection) as chain:
        wish = Wish(list_name, phone, "human", actor, reason, receipt_id, at, at)
        entry = Suppressions(connection, store, at).block(wish, scope, "active")
        body = _body("addition", wish, store.phones.key(phone)) | {
            "scope": scope,
            "entry": entry.id,
        }
        chain.append(receipt_id, body, at)
    return entry


def release(
    store: Store, list_name: str, phone: str, scope: str | None, actor: str, reason: str
) -> list[Entry]:
    """A named person takes a number off a list (one scope, or all); return the entries released."""
    at, receipt_id = now(), receipts.new_id()
    with store.write() as connection, receipts.Chain(connection) as chain:
        wish = Wish(list_name, phone, "human", actor, reason, receipt_id, at, at)
        released = Suppressions(connection, store, at).release(wish, scope)
        if released:
            body = _body("release", wish, store.phones.key(phone))
            chain.append(receipt_id, body | {"entries": [entry.id for entry in released]}, at)
    return released


def export(store: Store, list_name: str) -> Iterator[bytes]:
    """Yield a list as CSV, line by line."""
    line = io.StringIO()
    writer = csv.writer(line)

    def taken() -> bytes:
        text = line.getvalue()
        line.seek(0)
        line.truncate()
        return text.encode()

    writer.writerow(COLUMNS)
    yield b"\xef\xbb\xbf" + taken()
    with store.read() as connection:
        for entry in everyone(connection, list_name):
            shown = entry.public()
            shown["phone"] = store.phones.unseal(entry.phone_sealed) if entry.phone_sealed else ""
            for name in ("actor", "reason"):
                shown[name] = _harmless(shown[name])
            writer.writerow([shown[name] for name in COLUMNS])
            yield taken()


def _harmless(text: str) -> str:
    """Return a cell that a spreadsheet takes for text, not for a formula."""
    return "'" + text if text[:1] in ("=", "+", "-", "@", "\t") else text


def _body(kind: str, wish: Wish, phone_hmac: str) -> dict[str, Any]:
    return {
        "kind": kind,
        "list": wish.list,
        "phone_hmac": phone_hmac,
        "actor": wish.actor,
        "reason": wish.reason,
    }
