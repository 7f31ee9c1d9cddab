"""The label schema, read from labels.toml: names, groups, display names, and the order of the scores."""

import difflib
import tomllib
from dataclasses import dataclass
from pathlib import Path


class LabelError(ValueError):
    """A label or a schema is not what labels.toml allows."""


@dataclass(frozen=True, slots=True)
class Label:
    """One label: `group` is "intent" (where the message goes) or "tag" (why, and how urgent)."""

    name: str
    group: str
    zh: str
    en: str


@dataclass(frozen=True)
class Schema:
    """All labels, in the order of a bundle's scores.

    >>> schema = Schema((Label("opt_out", "intent", "退订", "opt-out"),))
    >>> schema.index("opt-out")
    Traceback (most recent call last):
    model.labels.LabelError: label 'opt-out' is unknown; did you mean 'opt_out'?
    """

    labels: tuple[Label, ...]

    @classmethod
    def read(cls, path: Path) -> "Schema":
        """Read labels.toml; raise LabelError naming the file and the fault."""
        tables = tomllib.loads(path.read_text(encoding="utf-8")).get("label", [])
        labels = []
        for number, table in enumerate(tables, start=1):
            if set(table) != {"name", "group", "zh", "en"}:
                raise LabelError(
                    f"{path}: label {number} needs name, group, zh, en; found {sorted(table)}"
                )
            if table["group"] not in ("intent", "tag"):
                raise LabelError(f"{path}: group of {table['name']} is 'intent' or 'tag'")
            labels.append(Label(**table))
        if not labels:
            raise LabelError(f"{path}: no [[label]] table")
        if len({label.name for label in labels}) != len(labels):
            raise LabelError(f"{path}: a label name stands twice")
        return cls(tuple(labels))

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(label.name for label in self.labels)

    @property
    def intents(self) -> tuple[str, ...]:
        return tuple(label.name for label in self.labels if label.group == "intent")

    def index(self, name: str) -> int:
        """Return the position of a label; raise LabelError, with the nearest name, if there is none."""
        try:
            return self.names.index(name)
        except ValueError:
            near = difflib.get_close_matches(name, self.names, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(self.names)}"
            raise LabelError(f"label {name!r} is unknown; {hint}") from None
