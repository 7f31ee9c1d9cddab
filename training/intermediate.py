"""Between masked words and a bundle the encoder learns labels: of the corpus, and of lines that others wrote.

Our own messages are invented; those lines are what people really type, and what is learned of both at once carries
over to the bundle (Phang et al. 2018, arXiv 1811.01088). The lines stay in the folder they came from: the project holds
our labels of them, under a hash of each line, and the encoder that learned them, with the layer that reads labels.

    line	labels
    0008db2747c3946b	dispute,content
    000add2e25a3b8ed	-
"""

import csv
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from rich.progress import Progress
from transformers import PreTrainedTokenizerFast

from model.labels import LabelError, Schema
from training.config import Recipe
from training.dataset import DatasetError, Row
from training.finetune import finetune, save_head
from training.pretrain import read_lines, save_encoder

NONE = "-"


def line_key(line: str) -> str:
    """Return what a line is known by: 16 hexadecimal digits of its SHA-256.

    >>> line_key(" 还了还显示没还 ") == line_key("还了还显示没还")
    True
    """
    return hashlib.sha256(line.strip().encode()).hexdigest()[:16]


def read_labels(table: Path, schema: Schema) -> dict[str, tuple[str, ...]]:
    """Return the labels of each line by its key; raise DatasetError with place and fault."""
    labels: dict[str, tuple[str, ...]] = {}
    with table.open(encoding="utf-8", newline="") as file:
        for number, record in enumerate(csv.DictReader(file, delimiter="\t"), start=2):
            key, given = record.get("line"), record.get("labels")
            if not key or not given:
                raise DatasetError(f"{table}:{number}: needs the columns line and labels")
            names = () if given == NONE else tuple(given.split(","))
            try:
                for name in names:
                    schema.index(name)
            except LabelError as error:
                raise DatasetError(f"{table}:{number}: {error}") from None
            labels[key] = names
    return labels


def labelled_lines(folder: Path, table: Path, schema: Schema) -> list[Row]:
    """Return the lines of a folder of text that the table has labels for, each once."""
    labels = read_labels(table, schema)
    rows = {}
    for line in read_lines(folder):
        key = line_key(line)
        if key in labels and key not in rows:
            rows[key] = Row(key, line, labels[key], "corpora", key, "train")
    return list(rows.values())


def school(
    lines: Sequence[Row],
    corpus: Sequence[Row],
    encoder: Path,
    out: Path,
    schema: Schema,
    recipe: Recipe,
    progress: Progress | None = None,
) -> None:
    """Teach an encoder of `pretrain` labelled lines and a corpus' training split; write it to `out` with its head.

    `out` may be the encoder's own folder. The record in pretraining.json says what it has met: a model that starts
    from it is no longer blind to those messages, so that they are no held-out evidence for its calibration.
    """
    recipe = replace(recipe, base=str(encoder))
    trained = finetune([*lines, *corpus], schema, recipe, progress, "labels")
    save_encoder(trained.network.body, PreTrainedTokenizerFast.from_pretrained(encoder), out)
    save_head(trained.network, schema.names, out)
    record = json.loads((encoder / "pretraining.json").read_text(encoding="utf-8"))
    record["labels"] = {
        "lines": len(lines),
        "corpus": len(corpus),
        "recipe": asdict(recipe) | {"base": ""},
        "losses": [round(x, 4) for x in trained.losses],
    }
    (out / "pretraining.json").write_text(json.dumps(record, indent=1), encoding="utf-8")
