"""What the corpus covers: labels by industry, by who writes, by form.

Industry and writer are said per family in data/families.tsv (`mixed` where a family holds several); the form is
seen in the text itself.
"""

import csv
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import opencc

from model.labels import Schema
from training.dataset import DatasetError, Row

COLUMNS = ("family", "industry", "age", "speech", "register")
NO_INTENT = "no intent"


@dataclass(frozen=True, slots=True)
class Background:
    """Where the messages of a family come from."""

    industry: str
    age: str
    speech: str
    register: str


def read_families(path: Path) -> dict[str, Background]:
    """Return the background of each family; raise DatasetError naming line and fault."""
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        if tuple(next(reader, ())) != COLUMNS:
            raise DatasetError(f"{path}:1: the columns are {', '.join(COLUMNS)}")
        families = {}
        for number, cells in enumerate(reader, start=2):
            if len(cells) != len(COLUMNS) or not all(cells):
                raise DatasetError(f"{path}:{number}: a family has {len(COLUMNS)} filled columns")
            if cells[0] in families:
                raise DatasetError(f"{path}:{number}: {cells[0]!r} stands twice; keep one line")
            families[cells[0]] = Background(*cells[1:])
    return families


def _is_emoji(char: str) -> bool:
    return char >= "\u2600" and unicodedata.category(char) == "So"


@lru_cache(maxsize=1)
def _simplifier() -> opencc.OpenCC:
    return opencc.OpenCC("t2s")


FORMS: dict[str, Callable[[str], bool]] = {
    "1–3 characters": lambda t: len(t) <= 3,
    "4–15": lambda t: 4 <= len(t) <= 15,
    "16–59": lambda t: 16 <= len(t) <= 59,
    "60–200": lambda t: 60 <= len(t) <= 200,
    "no punctuation, 12 or more": lambda t: len(t) >= 12 and not re.search(r"[^\w\s]", t),
    "blanks for commas": lambda t: re.search(r"[\u4e00-\u9fff] +[\u4e00-\u9fff]", t) is not None,
    "Latin letters": lambda t: re.search(r"[A-Za-z]", t) is not None,
    "Latin letters only": lambda t: (
        re.fullmatch(r"[\x00-\x7f]*[A-Za-z][\x00-\x7f]*", t) is not None
    ),
    "emoji": lambda t: any(map(_is_emoji, t)),
    "traditional characters": lambda t: _simplifier().convert(t) != t,
}


def tables(
    rows: Sequence[Row], families: dict[str, Background], schema: Schema
) -> Iterator[tuple[str, dict[str, Counter[str]]]]:
    """Yield (title, {cell: counts by label}) for industry, age, speech, register and form."""
    for column in COLUMNS[1:]:
        cells: dict[str, Counter[str]] = {}
        for row in rows:
            cell = getattr(families[row.family], column)
            _count(cells.setdefault(cell, Counter()), row, schema)
        yield column, dict(sorted(cells.items(), key=lambda item: -item[1]["messages"]))
    forms: dict[str, Counter[str]] = {name: Counter() for name in FORMS}
    for row in rows:
        for name, holds in FORMS.items():
            if holds(row.text):
                _count(forms[name], row, schema)
    yield "form", forms


def _count(counts: Counter[str], row: Row, schema: Schema) -> None:
    counts.update(row.labels)
    counts["messages"] += 1
    counts[NO_INTENT] += not set(row.labels) & set(schema.intents)


def markdown(rows: Sequence[Row], families: dict[str, Background], schema: Schema) -> Iterable[str]:
    """Yield the tables' lines; raise DatasetError where a family of the corpus has no background."""
    if missing := sorted({row.family for row in rows} - set(families)):
        raise DatasetError(
            f"data/families.tsv lacks {len(missing)} families, the first {missing[0]!r}; add a line each"
        )
    columns = [*schema.names, NO_INTENT, "messages"]
    for title, cells in tables(rows, families, schema):
        yield f"| {title} | {' | '.join(columns)} |"
        yield f"|---|{'---:|' * len(columns)}"
        for cell, counts in cells.items():
            yield f"| {cell} | {' | '.join(str(counts[c]) for c in columns)} |"
        yield ""
