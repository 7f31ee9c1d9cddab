"""A list comes in as a file: read as a stream, taken a few thousand lines at a time, bad lines named.

The CSV of an export is what an import reads. Columns: phone (or 手机号), scope, state, reason; others are
ignored. UTF-8, with or without the mark that Excel writes.
"""

import csv
import io
import re
from codecs import getincrementaldecoder
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import islice
from typing import IO, Any, TextIO

from serving import receipts
from serving.events import storable
from serving.phones import PhoneError, e164
from serving.store import Store, now
from serving.suppressions import (
    ENTRY_SCOPE,
    Ask,
    State,
    Suppressions,
    Wish,
    blocked,
    of_people,
)

PHONE_COLUMNS = ("phone", "手机号", "手机号码", "mobile", "phone_number")
AT_ONCE = (
    2000  # lines in one transaction: replies that come in wait for a fifth of a second, no more
)
MAX_FAULTS = 1000  # named in the summary; beyond, counted
_BLOCK = 2**20


class UnreadableFile(ValueError):
    """A file as a whole is no list of numbers. The message says what it lacks."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A line that cannot be taken: its number, why, and what of its number may be shown."""

    line: int
    why: str
    phone_masked: str


@dataclass(slots=True)
class Imported:
    """What an import did, or in a dry run would do."""

    added: int = 0
    already: int = 0
    skipped: int = 0  # released in the file
    refused: int = 0
    faults: list[Fault] = field(default_factory=list)
    receipts: list[str] = field(default_factory=list)

    def summary(self) -> dict[str, Any]:
        return {
            "added": self.added,
            "already": self.already,
            "skipped": self.skipped,
            "refused": self.refused,
            "faults": [
                {"line": f.line, "why": f.why, "phone_masked": f.phone_masked} for f in self.faults
            ],
            "receipts": self.receipts,
        }


@dataclass(frozen=True, slots=True)
class _Line:
    number: int
    phone: str = field(repr=False)  # E.164
    key: str = field(repr=False)
    scope: str
    state: State
    reason: str = field(repr=False)


def import_(
    store: Store,
    list_name: str,
    file: IO[bytes],
    actor: str,
    dry_run: bool = False,
    on_fault: Callable[[Fault], None] | None = None,
) -> Imported:
    """Add the numbers of a seekable CSV file; lines that cannot be read are named, not taken.

    Raises UnreadableFile before anything is written. Commits some thousand lines at a time, each time with
    a receipt, so that replies coming in need not wait for a long file; run again, it adds what is missing.
    A dry run writes nothing. `on_fault` hears of every bad line, however many there are.
    """
    imported = Imported()

    def refuse(fault: Fault) -> None:
        imported.refused += 1
        if len(imported.faults) < MAX_FAULTS:
            imported.faults.append(fault)
        if on_fault is not None:
            on_fault(fault)

    digest = _survey(file)
    text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
    seen: set[str] = set()  # of a dry run, which finds on the list nothing that it would have added
    try:
        lines = _lines(store, text, imported, refuse)
        while part := list(islice(lines, AT_ONCE)):
            news = _news(store, list_name, part)
            imported.already += len(part) - len(news)
            if dry_run:
                fresh = {f"{line.key[:32]}{line.scope}" for line in news} - seen
                seen |= fresh
                imported.added += len(fresh)
                imported.already += len(news) - len(fresh)
            elif news:
                _take(store, list_name, news, actor, digest, imported)
    finally:
        text.detach()  # the file is the caller's
    return imported


def _news(store: Store, list_name: str, part: list[_Line]) -> list[_Line]:
    """Return the lines that would change the list as it is."""
    with store.read() as connection:
        known = {
            (entry.phone_hmac, entry.scope): entry
            for entry in of_people(connection, list_name, (line.key for line in part))
        }
    return [
        line for line in part if blocked(known.get((line.key, line.scope)), line.state) is not None
    ]


def _take(
    store: Store, list_name: str, lines: list[_Line], actor: str, digest: str, imported: Imported
) -> None:
    at, receipt_id = now(), receipts.new_id()
    asks = []
    for line in lines:
        wish = Wish(list_name, line.phone, "import", actor, line.reason, receipt_id, at, at)
        # Sealed before the lock is taken: it takes longer than all the rest.
        asks.append(Ask(wish, line.scope, line.state, store.phones.seal(line.phone)))
    with store.write() as connection, receipts.Chain(connection) as chain:
        done = Suppressions(connection, store, at).block_all(asks)
        added = sum(one.is_news for one in done)
        body = {
            "kind": "import",
            "list": list_name,
            "actor": actor,
            "file_sha256": digest,
            "first_line": lines[0].number,
            "last_line": lines[-1].number,
            "added": added,
        }
        chain.append(receipt_id, body, at)
    imported.added += added
    imported.already += len(done) - added
    imported.receipts.append(receipt_id)


def _survey(file: IO[bytes]) -> str:
    """Return the file's SHA-256; raise UnreadableFile if it is not UTF-8 to its very end."""
    digest, decoder = sha256(), getincrementaldecoder("utf-8")()
    file.seek(0)
    try:
        while block := file.read(_BLOCK):
            digest.update(block)
            decoder.decode(block)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        raise UnreadableFile("the file is not UTF-8; save it as 'CSV UTF-8'") from None
    file.seek(0)
    return digest.hexdigest()


def _lines(
    store: Store, text: TextIO, imported: Imported, refuse: Callable[[Fault], None]
) -> Iterator[_Line]:
    """Yield the lines that ask for something; count the others; raise UnreadableFile for a bad header."""
    rows = _rows(text)
    _, _, first = next(rows, (1, 1, []))
    header = [name.strip().lower() for name in first]
    phone = next((name for name in PHONE_COLUMNS if name in header), None)
    if phone is None:
        raise UnreadableFile(f"no column of numbers; name it one of {', '.join(PHONE_COLUMNS)}")
    for number, last, row in rows:
        cells = dict(zip(header, (cell.strip() for cell in row), strict=False))
        written = cells.get(phone, "")
        if cells.get("state") == "released":
            imported.skipped += 1
            continue
        scope = cells.get("scope") or "marketing"
        try:
            read = e164(written)
        except PhoneError as fault:
            why = f"phone is {fault}"
            if last > number:
                why = f"lines {number} to {last} were read as one: a quote is not closed"
            refuse(Fault(number, why, masked_as_written(written)))
            continue
        if not re.fullmatch(ENTRY_SCOPE, scope):
            why = "scope is marketing, all, or sender:<signature>"
            refuse(Fault(number, why, masked_as_written(written)))
            continue
        state: State = "provisional" if cells.get("state") == "provisional" else "active"
        reason = storable(cells.get("reason") or "导入")
        yield _Line(number, read, store.phones.key(read), scope, state, reason)


def _rows(text: TextIO) -> Iterator[tuple[int, int, list[str]]]:
    """Yield the first and the last line's number of each row that is not blank, and its cells."""
    reader = csv.reader(text)
    while True:
        number = reader.line_num + 1
        try:
            row = next(reader, None)
        except csv.Error:  # a cell of 100,000 characters: a quote that is not closed
            row = ["\0"]
        if row is None:
            return
        if any(cell.strip() for cell in row):
            yield number, reader.line_num, row


def masked_as_written(written: str) -> str:
    """Return what may be shown of a number that could not be read: enough to find it in the file.

    >>> masked_as_written("1380000100"), masked_as_written("张三"), masked_as_written("")
    ('138****00', '****', '')
    """
    digits = re.sub(r"\D", "", written, flags=re.ASCII)
    if len(digits) < 7:
        return "****" if written else ""
    return f"{digits[:3]}****{digits[-2:]}"
