"""What people and files do to a list: add, release, export and import, each with its receipt.

The CSV of an export is what an import reads. Columns: phone (or 手机号), scope, state, reason; others are
ignored. UTF-8, with the mark that Excel needs to show Chinese.
"""

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from serving import receipts
from serving.phones import PhoneError, e164
from serving.store import Store, now
from serving.suppressions import (
    ENTRY_SCOPE,
    Entry,
    State,
    Suppressions,
    Wish,
    blocked,
    entries,
    everyone,
)

COLUMNS = (
    "phone", "phone_masked", "list", "scope", "state", "method", "actor", "reason",
    "created_at", "updated_at", "receipt",
)  # fmt: skip
PHONE_COLUMNS = ("phone", "手机号", "手机号码", "mobile", "phone_number")
IMPORTED_AT_ONCE = 500
MAX_FAULTS = 100  # named; beyond, counted


class UnreadableFile(ValueError):
    """A file as a whole is no list of numbers. The message says what it lacks."""


@dataclass(slots=True)
class Imported:
    """What an import did."""

    added: int = 0
    already: int = 0
    skipped: int = 0  # released in the file
    refused: int = 0
    faults: list[dict[str, Any]] = field(default_factory=list)  # line and why
    receipts: list[str] = field(default_factory=list)

    def refuse(self, line: int, why: str) -> None:
        self.refused += 1
        if len(self.faults) < MAX_FAULTS:
            self.faults.append({"line": line, "why": why})

    def summary(self) -> dict[str, Any]:
        return {
            "added": self.added,
            "already": self.already,
            "skipped": self.skipped,
            "refused": self.refused,
            "faults": self.faults,
            "receipts": self.receipts,
        }


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


def import_(store: Store, list_name: str, content: bytes, actor: str) -> Imported:
    """Add the numbers of a CSV file; lines that cannot be read are named, not taken.

    Raises UnreadableFile before anything is written. Commits some hundred lines at a time, each with its
    receipt, so that replies coming in need not wait for a long file; run again, it adds what is missing.
    """
    imported = Imported()
    lines = _lines(content, imported)
    digest = sha256(content).hexdigest()
    for start in range(0, len(lines), IMPORTED_AT_ONCE):
        part = lines[start : start + IMPORTED_AT_ONCE]
        at, receipt_id = now(), receipts.new_id()
        with store.write() as connection, receipts.Chain(connection) as chain:
            suppressions = Suppressions(connection, store, at)
            for line in part:
                known = entries(connection, list_name, store.phones.key(line.phone), line.scope)
                changes = blocked(known[0] if known else None, line.state) is not None
                wish = Wish(list_name, line.phone, "import", actor, line.reason, receipt_id, at, at)
                suppressions.block(wish, line.scope, line.state)
                imported.added += changes
                imported.already += not changes
            body = {
                "kind": "import",
                "list": list_name,
                "actor": actor,
                "file_sha256": digest,
                "first_line": part[0].number,
                "last_line": part[-1].number,
            }
            chain.append(receipt_id, body, at)
        imported.receipts.append(receipt_id)
    return imported


@dataclass(frozen=True, slots=True)
class _Line:
    number: int
    phone: str = field(repr=False)
    scope: str
    state: State
    reason: str = field(repr=False)


def _lines(content: bytes, imported: Imported) -> list[_Line]:
    """Return the lines that ask for something; count the others in `imported`; raise UnreadableFile."""
    try:
        reader = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""))
        header = [name.strip().lower() for name in next(reader, [])]
        rows = [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    except UnicodeDecodeError:
        raise UnreadableFile("the file is not UTF-8; save it as 'CSV UTF-8'") from None
    except csv.Error as fault:
        raise UnreadableFile(f"the file is no CSV: {fault}") from None
    phone = next((name for name in PHONE_COLUMNS if name in header), None)
    if phone is None:
        raise UnreadableFile(f"no column of numbers; name it one of {', '.join(PHONE_COLUMNS)}")
    lines = []
    for number, row in rows:
        cells = dict(zip(header, (cell.strip() for cell in row), strict=False))
        if cells.get("state") == "released":
            imported.skipped += 1
            continue
        scope = cells.get("scope") or "marketing"
        state: State = "provisional" if cells.get("state") == "provisional" else "active"
        try:
            read = e164(cells.get(phone, ""))
        except PhoneError as fault:
            imported.refuse(number, f"phone is {fault}")
            continue
        if not re.fullmatch(ENTRY_SCOPE, scope):
            imported.refuse(number, "scope is marketing, all, or sender:<signature>")
            continue
        lines.append(_Line(number, read, scope, state, cells.get("reason") or "导入"))
    return lines


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
