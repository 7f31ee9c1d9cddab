"""The list as one small file, for machines that must ask without a network: a Bloom filter.

    with open("list.key", encoding="ascii") as file:
        stopped = Filter.load(Path("list.filter"), bytes.fromhex(file.read()))
    "+8613800001001" in stopped      # microseconds

"No" is certain for the state of the list at `header.cursor`; follow `/v1/suppressions/changes?after=` that
cursor for what came later. "Yes" is wrong for at most `header.false_positives` of the numbers that are not
on the list: ask `/v1/suppressions/check` about them, or do not send.

The file: one line of JSON (the header), then the bits as rbloom writes them (rbloom 1.5: the number of
hashes as 8 bytes, little-endian, then the bits). An item's hash is the first 16 bytes of the number's
HMAC-SHA256, read as a signed big-endian number. The key that a reader needs makes hashes of numbers; it
unseals none. Whoever has both key and file can try all numbers there are: keep them apart and private.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from hashlib import sha256
from itertools import groupby
from pathlib import Path
from uuid import uuid4

import sqlalchemy as sa
from rbloom import Bloom
from sqlalchemy.engine import Connection

from serving import tables
from serving.phones import ListKey
from serving.store import Store, now
from serving.suppressions import BLOCKING, covering_scopes

FORMAT = "tingxin-filter"
VERSION = 1
FALSE_POSITIVES = 0.0001
_LONGEST_HEADER = 4096


class FilterError(ValueError):
    """A file is no filter, is damaged, or was made with another key."""


@dataclass(frozen=True, slots=True)
class Header:
    """What a filter file says of itself."""

    format: str
    version: int
    list: str
    scope: str  # of the messages it is asked about, as in /check
    count: int  # numbers in it
    false_positives: float
    key: str  # fingerprint of the key that its numbers were hashed with
    cursor: int  # of the last change of the list that it holds
    made_at: str
    sha256: str  # of all that follows the header


class Filter:
    """A loaded filter: `phone in filter`, for numbers in E.164."""

    def __init__(self, header: Header, bloom: Bloom, key: ListKey) -> None:
        self.header = header
        self._bloom = bloom
        self._key = key

    @classmethod
    def load(cls, path: Path, key: bytes) -> "Filter":
        """Read a filter file; raise FilterError if it is damaged or of another key."""
        with path.open("rb") as file:
            first, bits = file.readline(_LONGEST_HEADER), file.read()
        try:
            header = Header(**json.loads(first))
        except (ValueError, TypeError):
            raise FilterError(f"{path} is no filter of Tingxin") from None
        if (header.format, header.version) != (FORMAT, VERSION):
            raise FilterError(f"{path} is no filter of version {VERSION}; make it anew")
        if sha256(bits).hexdigest() != header.sha256:
            raise FilterError(f"{path} is damaged: its content is not what its header says")
        keyed = ListKey(key)
        if keyed.fingerprint != header.key:
            raise FilterError(f"{path} was made with another key")
        return cls(header, Bloom.load_bytes(bits, _hash), keyed)

    def __contains__(self, phone: str) -> bool:
        return self._key.digest(phone)[:16] in self._bloom


def write(
    store: Store, path: Path, list_name: str, scope: str, false_positives: float = FALSE_POSITIVES
) -> Header:
    """Write the filter of a list for messages of a scope; replaces a file as a whole, or not at all.

    Raises ValueError for what is no scope.
    """
    scopes = covering_scopes(scope)
    c = tables.changes.c
    with store.read() as connection:
        cursor = connection.scalar(sa.select(sa.func.max(c.cursor)).where(c.list == list_name))
        count = sum(1 for _ in _keys(connection, list_name, scopes))
        # rbloom refuses 0 items.
        bloom = Bloom(max(count, 1), false_positives, _hash)
        bloom.update(bytes.fromhex(key)[:16] for key in _keys(connection, list_name, scopes))
    bits = bloom.save_bytes()
    header = Header(
        format=FORMAT,
        version=VERSION,
        list=list_name,
        scope=scope,
        count=count,
        false_positives=false_positives,
        key=store.phones.list_key.fingerprint,
        cursor=cursor or 0,
        made_at=now().isoformat(),
        sha256=sha256(bits).hexdigest(),
    )
    first = json.dumps(asdict(header), ensure_ascii=False).encode() + b"\n"
    draft = path.with_name(f"{path.name}.{uuid4().hex}")
    try:
        with draft.open("xb") as file:
            file.write(first + bits)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return header


def _keys(connection: Connection, list_name: str, scopes: tuple[str, ...]) -> Iterator[str]:
    """Yield the key of each person that a message of the scopes is not for, once."""
    c = tables.suppressions.c
    query = (
        sa.select(c.phone_hmac)
        .where(c.list == list_name, c.scope.in_(scopes), c.state.in_(BLOCKING))
        .order_by(c.phone_hmac)
    )
    with connection.execute(query, execution_options={"yield_per": 10_000}) as rows:
        for key, _ in groupby(rows.scalars()):
            yield key


def _hash(item: bytes) -> int:
    return int.from_bytes(item, "big", signed=True)
