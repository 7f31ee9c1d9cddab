"""A dossier: all receipts about one person or one decision in a ZIP file, for an inquiry.

    summary.html    one page, Chinese and English
    receipts.jsonl  number, previous hash, hash, and the body as the very text that was hashed
    pushes.jsonl    when which platform was told of it
    texts.jsonl     the person's words where they are still kept; only where the number is shown
    chain.txt       the digest of every receipt there is, in order: the proof that ours stand among them
    manifest.json   what the dossier is about, where the chain begins and ends, SHA-256 of the other files

`dossier_check.py` checks one without the database. That it was made is a receipt too, which binds the
manifest. After a change of the phone key, receipts of before are found by their id only.
"""

import json
import zipfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import IO, Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from serving import receipts, tables
from serving.dossier_page import page
from serving.phones import masked
from serving.store import Store, now

FORMAT = 1


class NothingFound(LookupError):
    """There is no receipt of this number, or of this id."""


@dataclass(frozen=True, slots=True)
class Inquiry:
    """What is asked for: by number (E.164) or by the id of a receipt; by whom, why, and whether in clear."""

    actor: str
    reason: str = field(repr=False)
    phone: str | None = field(default=None, repr=False)
    receipt: str | None = None
    reveal: bool = False


def write(store: Store, inquiry: Inquiry, out: IO[bytes]) -> int:
    """Write the dossier; return how many receipts it holds. Raises NothingFound, ValueError (no name, no reason)."""
    if not (inquiry.actor.strip() and inquiry.reason.strip()):
        raise ValueError("a dossier needs the name of who asks for it, and a reason")
    if (inquiry.phone is None) == (inquiry.receipt is None):
        raise ValueError("a dossier is about one number or one receipt")
    at = now()
    with store.read() as connection, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        hashes: dict[str, str] = {}
        found, head = _walk(connection, archive, _about(connection, store, inquiry), hashes)
        if not found:
            raise NothingFound("no receipt speaks of this")
        ids = [one["id"] for one in found]
        lines = [{k: one[k] for k in ("number", "previous_hash", "hash", "body")} for one in found]
        pushes = list(_pushes(connection, ids))
        replies = _replies(connection, ids)
        subject = _subject(store, inquiry, replies)
        texts = [
            {"receipt": r.receipt_id, "received_at": r.received_at.isoformat(), "text": r.text}
            for r in replies
            if inquiry.reveal and r.text
        ]
        files = {"receipts.jsonl": _jsonl(lines), "pushes.jsonl": _jsonl(pushes)}
        if inquiry.reveal:
            files["texts.jsonl"] = _jsonl(texts)
        bodies = [json.loads(one["body"]) for one in found]
        files["summary.html"] = page(subject, at, inquiry.actor, bodies, pushes, texts, head)
        for name, content in files.items():
            archive.writestr(name, content)
            hashes[name] = sha256(content.encode()).hexdigest()
        manifest = {
            "format": FORMAT,
            "made_at": at.isoformat(),
            "made_by": inquiry.actor,
            "about": subject,
            "receipts": len(found),
            **head,
            "sha256": hashes,
        }
        text = json.dumps(manifest, ensure_ascii=False, indent=1)
        archive.writestr("manifest.json", text)
    _note(store, inquiry, len(found), text, at)
    return len(found)


@dataclass(frozen=True, slots=True)
class _About:
    """How to tell the receipts that belong: by a stretch of the body, or by id."""

    stretch: str | None
    ids: frozenset[str]


def _about(connection: Connection, store: Store, inquiry: Inquiry) -> _About:
    if inquiry.phone is not None:
        key = store.phones.key(inquiry.phone)
        s, c = tables.suppressions.c, tables.changes.c
        # An import's receipt names no number; the entry that it made names the receipt.
        query = sa.select(c.receipt_id).join(tables.suppressions, s.id == c.suppression_id)
        ids = connection.scalars(query.where(s.phone_hmac == key))
        return _About(f'"phone_hmac":"{key}"', frozenset(ids))
    r = tables.receipts.c
    body = connection.scalar(sa.select(r.body).where(r.id == inquiry.receipt))
    if body is None:
        raise NothingFound("no receipt of this id")
    decided_in = json.loads(body).get("decided_in")
    return _About(None, frozenset(filter(None, (inquiry.receipt, decided_in))))


def _walk(
    connection: Connection, archive: zipfile.ZipFile, about: _About, hashes: dict[str, str]
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Write chain.txt; return the receipts that belong, and the chain's two ends."""
    chain = connection.execute(sa.select(tables.chain)).one()
    found: list[dict[str, Any]] = []
    ids = set(about.ids)
    whole = sha256()
    query = sa.select(tables.receipts).order_by(tables.receipts.c.seq)
    with (
        archive.open("chain.txt", "w", force_zip64=True) as file,
        connection.execute(query, execution_options={"yield_per": 1000}) as rows,
    ):
        for row in rows:
            is_plain = row.seq <= chain.plain_until
            line = ("=" + row.hash if is_plain else receipts.digest(row.body)) + "\n"
            file.write(line.encode())
            whole.update(line.encode())
            if row.id in ids or _belongs(row.body, about, ids):
                ids.add(row.id)
                found.append(
                    {"id": row.id, "number": row.seq, "previous_hash": row.prev_hash}
                    | {"hash": row.hash, "body": row.body}
                )
    hashes["chain.txt"] = whole.hexdigest()
    base = {"number": chain.base_seq, "hash": chain.base_hash}
    return found, {"base": base, "head": {"number": chain.seq, "hash": chain.hash}}


def _belongs(body: str, about: _About, ids: set[str]) -> bool:
    # What a person wrote into a reason cannot pretend: in JSON its quotes are escaped.
    if about.stretch is not None and about.stretch in body:
        return True
    return '"kind":"verdict"' in body and json.loads(body).get("decided_in") in ids


def _pushes(connection: Connection, ids: list[str]) -> Iterator[dict[str, Any]]:
    for row in _of_receipts(connection, tables.outbox, ids):
        yield {
            "receipt": row.receipt_id,
            "event": row.id,
            "change": row.event.get("type"),
            "target": row.target,
            "state": row.state,
            "attempts": row.attempts,
            "asked_at": row.received_at.isoformat(),
            "delivered_at": row.delivered_at.isoformat() if row.delivered_at else None,
            "last_error": row.last_error,
        }


def _replies(connection: Connection, ids: list[str]) -> list[Any]:
    return list(_of_receipts(connection, tables.replies, ids))


def _of_receipts(connection: Connection, table: sa.Table, ids: list[str]) -> Iterator[Any]:
    for start in range(0, len(ids), 1000):
        some = table.c.receipt_id.in_(ids[start : start + 1000])
        yield from connection.execute(sa.select(table).where(some))


def _subject(store: Store, inquiry: Inquiry, replies: list[Any]) -> dict[str, str]:
    """Return whom or what it is about, the number in clear only where that was asked for."""
    phone = inquiry.phone
    if phone is None:
        sealed = next((r.phone_sealed for r in replies if r.phone_sealed), None)
        phone = store.phones.unseal(sealed) if sealed else None
    subject = {} if inquiry.receipt is None else {"receipt": inquiry.receipt}
    if phone is not None:
        subject |= {"phone": phone} if inquiry.reveal else {"phone_masked": masked(phone)}
    return subject


def _jsonl(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _note(store: Store, inquiry: Inquiry, count: int, manifest: str, at: datetime) -> None:
    """Put down in the chain that the dossier was made, and which."""
    asked = asdict(inquiry)
    phone = asked.pop("phone")
    body = {"kind": "dossier", **asked, "receipts": count} | {
        "manifest_sha256": sha256(manifest.encode()).hexdigest()
    }
    if phone is not None:
        body["phone_hmac"] = store.phones.key(phone)
    with store.write() as connection, receipts.Chain(connection) as chain:
        chain.append(receipts.new_id(), body, at)
