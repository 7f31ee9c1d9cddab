"""The corpus: read, validate, split without leaks, export.

A row of data/corpus/*.jsonl is one JSON object:
`{"id": "w01-0001", "text": "…", "labels": ["opt_out"], "source": "written:w01", "family": "w01/slug"}`.
`family` groups rows that would leak into each other; a split never cuts a family.
"""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from model.labels import LabelError, Schema
from model.text import normalise

Split = Literal["train", "validation", "test"]
SHARES: dict[Split, float] = {"test": 0.10, "validation": 0.10, "train": 0.80}
REQUIRED = {"id", "text", "labels", "source", "family"}
SHOWN_FAULTS = 20
LIKENESS = 0.8  # character-trigram overlap above which two texts count as one message written twice


class DatasetError(ValueError):
    """The corpus breaks its contract; the message lists file, line, fault and remedy."""


@dataclass(frozen=True, slots=True)
class Row:
    """One labelled message."""

    id: str
    text: str
    labels: tuple[str, ...]
    source: str
    family: str
    split: Split


def split_of(family: str) -> Split:
    """Return the split of a family: a hash decides, so that adding families never moves an old one.

    >>> split_of("w01/first-loan") == split_of("w01/first-loan")
    True
    """
    point = int.from_bytes(hashlib.sha256(family.encode()).digest()[:8], "big") / 2**64
    for split, share in SHARES.items():
        if point < share:
            return split
        point -= share
    return "train"


def read(folder: Path, schema: Schema) -> list[Row]:
    """Read and validate every *.jsonl of a corpus folder; raise DatasetError listing all faults found."""
    rows: list[Row] = []
    faults: list[str] = []
    seen: dict[str, str] = {}
    texts: dict[str, tuple[str, Row]] = {}
    files = sorted(folder.glob("*.jsonl"))
    if not files:
        raise DatasetError(f"{folder}: no *.jsonl file; the corpus lives in data/corpus")
    for path in files:
        for number, line in enumerate(_lines(path), start=1):
            place = f"{path}:{number}"
            try:
                row = parse(line, schema)
                if row.id in seen:
                    raise DatasetError(
                        f"id {row.id!r} stands at {seen[row.id]} too; give it its own"
                    )
                seen[row.id] = place
                key = normalise(row.text).text
                if key in texts:
                    other, twin = texts[key]
                    fault = "with other labels" if set(twin.labels) != set(row.labels) else "too"
                    raise DatasetError(f"the text stands at {other} {fault}; keep one of them")
                texts[key] = (place, row)
                rows.append(row)
            except (DatasetError, LabelError) as error:
                faults.append(f"{place}: {error}")
    if faults:
        more = f"\n… and {len(faults) - SHOWN_FAULTS} more" if len(faults) > SHOWN_FAULTS else ""
        raise DatasetError("\n".join(faults[:SHOWN_FAULTS]) + more)
    return rows


def _lines(path: Path) -> Iterator[str]:
    try:
        with path.open(encoding="utf-8") as file:
            yield from file
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path}: not UTF-8 ({error.reason}); save it as UTF-8") from error


def parse(line: str, schema: Schema) -> Row:
    """Return the row that one JSON line holds; raise DatasetError or LabelError with fault and remedy."""
    try:
        row: Any = json.loads(line)
    except ValueError as error:
        raise DatasetError(f"not JSON ({error}); one object a line") from error
    if not isinstance(row, dict) or not set(row) >= REQUIRED:
        missing = sorted(REQUIRED - set(row)) if isinstance(row, dict) else sorted(REQUIRED)
        raise DatasetError(f"lacks {', '.join(missing)}; add them")
    for key in ("id", "text", "source", "family"):
        if not isinstance(row[key], str) or not row[key].strip():
            raise DatasetError(f"{key} is blank or no text; found {type(row[key]).__name__}")
    labels = row["labels"]
    if not isinstance(labels, list) or len(set(labels)) != len(labels):
        raise DatasetError("labels is a list of different names; [] for none")
    for label in labels:
        schema.index(label)
    split = row.get("split", split_of(row["family"]))
    if split not in get_args(Split):
        raise DatasetError(f"split {split!r} is unknown; one of {', '.join(get_args(Split))}")
    ordered = tuple(name for name in schema.names if name in labels)
    return Row(row["id"], row["text"], ordered, row["source"], row["family"], split)


def near_duplicates(rows: list[Row]) -> list[tuple[Row, Row, float]]:
    """Return pairs of unlike families whose texts overlap by LIKENESS or more: leaks if their splits differ.

    Jaccard overlap of character trigrams of the normalised texts; texts under eight characters are
    left out, as short messages are alike by nature.
    """
    grams: list[set[str]] = []
    index: dict[str, list[int]] = defaultdict(list)
    pairs = []
    for k, row in enumerate(rows):
        text = normalise(row.text).text
        own = {text[i : i + 3] for i in range(len(text) - 2)} if len(text) >= 8 else set()
        shared = Counter(j for gram in own for j in index[gram])
        for j, common in shared.items():
            likeness = common / (len(own) + len(grams[j]) - common)
            if likeness >= LIKENESS and rows[j].family != row.family:
                pairs.append((rows[j], row, likeness))
        grams.append(own)
        for gram in own:
            index[gram].append(k)
    return pairs


def matrix(rows: Iterable[Row], schema: Schema) -> NDArray[np.float32]:
    """Return the labels of rows as a 0/1 matrix [N, C] in the schema's order."""
    return np.array([[n in row.labels for n in schema.names] for row in rows], np.float32).reshape(
        -1, len(schema.names)
    )


def read_real(path: Path, schema: Schema) -> list[Row]:
    """Read a file of labelled messages without ids and families (real_dev.jsonl): for evaluation only."""
    rows = []
    for number, line in enumerate(_lines(path), start=1):
        document = json.loads(line)
        identity = f"{path.stem}-{number:04d}"
        document |= {"id": identity, "family": identity, "split": "test"}
        rows.append(parse(json.dumps(document), schema))
    return rows


def export(rows: list[Row], out: Path) -> None:
    """Write the splits as a `datasets.DatasetDict` of Parquet-ready columns, for other tools."""
    from datasets import Dataset, DatasetDict

    columns = ("id", "text", "labels", "source", "family")
    parts = {}
    for split in get_args(Split):
        # An empty split would be written, but not read back.
        if own := [{c: getattr(r, c) for c in columns} for r in rows if r.split == split]:
            parts[split] = Dataset.from_list(own)
    DatasetDict(parts).save_to_disk(str(out))
