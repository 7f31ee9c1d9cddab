"""Golden cases: behaviours stated as messages, after CheckList (Ribeiro et al. 2020, arXiv 2005.04118).

`data/golden/KIND.jsonl` holds one kind of behaviour; a row is
`{"id": "negation-01", "text": "…", "has": ["opt_out"], "hasnt": ["dispute"]}`: labels that must be found, and
labels that must not. Labels in neither list are not judged. Nothing here is ever trained on.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.classifier import Classifier
from model.labels import Schema
from training.dataset import DatasetError


@dataclass(frozen=True, slots=True)
class Case:
    """One message and what must, and must not, be found in it."""

    id: str
    kind: str
    text: str
    has: frozenset[str]
    hasnt: frozenset[str]

    def passes(self, labels: Sequence[str]) -> bool:
        return self.has <= set(labels) and not self.hasnt & set(labels)


def read(folder: Path, schema: Schema) -> list[Case]:
    """Return every case of a folder, none for a folder without; raise DatasetError with file, line and fault."""
    cases = []
    for path in sorted(folder.glob("*.jsonl")):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            try:
                cases.append(_parse(line, path.stem, schema))
            except ValueError as error:
                raise DatasetError(f"{path}:{number}: {error}") from error
    return cases


def _parse(line: str, kind: str, schema: Schema) -> Case:
    row = json.loads(line)
    if set(row) != {"id", "text", "has", "hasnt"} or not (row["has"] or row["hasnt"]):
        raise DatasetError("a case has id, text, and has or hasnt")
    for label in (*row["has"], *row["hasnt"]):
        schema.index(label)
    has, hasnt = frozenset(row["has"]), frozenset(row["hasnt"])
    if has & hasnt:
        raise DatasetError(f"{sorted(has & hasnt)} both wanted and not")
    return Case(row["id"], kind, row["text"], has, hasnt)


def check(
    classifier: Classifier, cases: Sequence[Case]
) -> tuple[dict[str, tuple[int, int]], list[Case]]:
    """Return (passed, all) by kind, and the cases that fail."""
    found = classifier.classify([case.text for case in cases])
    kinds: dict[str, tuple[int, int]] = {}
    failed = []
    for case, prediction in zip(cases, found, strict=True):
        good = case.passes(prediction.labels)
        passed, total = kinds.get(case.kind, (0, 0))
        kinds[case.kind] = (passed + good, total + 1)
        if not good:
            failed.append(case)
    return kinds, failed


def summary(classifier: Classifier, cases: Sequence[Case]) -> dict[str, Any] | None:
    """Return passed and all by kind and the ids that fail; None where there are no cases."""
    if not cases:
        return None
    kinds, failed = check(classifier, cases)
    return {"kinds": kinds, "failed": [case.id for case in failed]}
