"""Between guessing masked words and learning our corpus, the encoder learns our labels on lines that others wrote.

Our own messages are invented; these lines are what people really type. Training on a related task first carries over
to the one that matters (Phang et al. 2018, arXiv 1811.01088). The lines stay in the folder they came from: the
project holds our labels of them, under a hash of each line, and the encoder that learned them.

    line	labels
    0008db2747c3946b	dispute,content
    000add2e25a3b8ed	-
"""

import csv
import hashlib
import json
import logging
from dataclasses import replace
from pathlib import Path

from rich.progress import Progress
from transformers import AutoTokenizer

from model.labels import LabelError, Schema
from training.config import Recipe
from training.dataset import DatasetError, Row
from training.finetune import finetune
from training.pretrain import read_lines, save_encoder

log = logging.getLogger(__name__)

NONE = "-"
EPOCHS = 3


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
    folder: Path,
    table: Path,
    encoder: Path,
    out: Path,
    schema: Schema,
    recipe: Recipe,
    progress: Progress | None = None,
) -> int:
    """Teach an encoder of `pretrain` the labelled lines, write it to `out`; return how many lines there were.

    `out` may be the encoder's own folder. Only the body is kept: the layer that reads labels starts anew with
    our own corpus. The recipe's dials are taken but for its base, epochs and consistency.
    """
    rows = labelled_lines(folder, table, schema)
    if not rows:
        log.warning("%s holds none of the lines that %s labels", folder, table)
        return 0
    recipe = replace(recipe, base=str(encoder), epochs=EPOCHS, consistency=0.0)
    trained = finetune(rows, schema, recipe, progress, "labelled lines")
    save_encoder(trained.network.body, AutoTokenizer.from_pretrained(encoder), out)
    record = json.loads((encoder / "pretraining.json").read_text(encoding="utf-8"))
    record["intermediate"] = {
        "lines": len(rows),
        "epochs": recipe.epochs,
        "losses": [round(x, 4) for x in trained.losses],
    }
    (out / "pretraining.json").write_text(json.dumps(record, indent=1), encoding="utf-8")
    return len(rows)
