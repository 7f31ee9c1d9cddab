"""The recipe from labels to a bundle: read as a table of contents."""

import json
import platform
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from model.bundle import write_manifest
from model.classifier import Classifier
from model.labels import Schema
from model.policy import Policy
from training import dataset
from training.calibrate import calibrate
from training.config import Recipe
from training.dataset import Row, matrix
from training.evaluate import compare, evaluate
from training.export import write_parts
from training.finetune import Trained, finetune

console = Console(stderr=True)


@dataclass(frozen=True)
class Run:
    """What a training run left: the bundle and its report."""

    bundle: Path
    version: str
    report: dict[str, Any]


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
    )


def train(data: Path, out: Path, recipe: Recipe, real: Path | None = None) -> Run:
    """Train a bundle from a data folder into `out`, which is replaced only by a finished one.

    `real`: a file of labelled messages that others wrote, for the report alone.
    """
    began = time.monotonic()
    schema = Schema.read(data / "labels.toml")
    policy = Policy.read(data / "policy.toml", schema)
    rows = dataset.read(data / "corpus", schema)
    train_rows, validation, test = (
        [r for r in rows if r.split == s] for s in ("train", "validation", "test")
    )
    sets = {"validation": validation, "test": test}
    if real is not None and real.is_file():
        sets["real_dev"] = dataset.read_real(real, schema)

    with _progress() as progress:
        out_of_fold = cross_fit(train_rows, schema, recipe, progress)
        trained = finetune(train_rows, schema, recipe, progress, "final model")
    held_out = [*train_rows, *validation]
    logits = np.concatenate([out_of_fold, trained.logits([r.text for r in validation])])
    calibration = calibrate(logits, matrix(held_out, schema), schema, policy)

    draft = out.with_name(out.name + ".draft")
    shutil.rmtree(draft, ignore_errors=True)
    write_parts(trained, data, calibration, draft)
    provenance = {
        "max_length": recipe.max_length,
        "recipe": asdict(recipe),
        "corpus": {name: len(part) for name, part in [("train", train_rows), *sets.items()]},
        "losses": [round(x, 4) for x in trained.losses],
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
    }
    write_manifest(draft, provenance)
    classifier = Classifier.load(draft)
    report = {
        "sets": {title: evaluate(classifier, part) for title, part in sets.items()},
        "compared": compare(train_rows, sets, schema),
        "evidence": calibration["evidence"],
        "seconds": round(time.monotonic() - began),
    }
    (draft / "report.json").write_text(
        json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    version = write_manifest(draft, provenance)
    shutil.rmtree(out, ignore_errors=True)
    draft.rename(out)
    return Run(out, version, report)


def cross_fit(
    rows: Sequence[Row], schema: Schema, recipe: Recipe, progress: Progress | None = None
) -> NDArray[np.float32]:
    """Return logits [N, C] for each row from a model that saw none of its family."""
    families = sorted({row.family for row in rows})
    order = np.random.default_rng(recipe.seed).permutation(len(families))
    fold_of = {families[f]: k % recipe.folds for k, f in enumerate(order)}
    logits = np.zeros((len(rows), len(schema.names)), np.float32)
    for fold in range(recipe.folds):
        inside = [k for k, row in enumerate(rows) if fold_of[row.family] == fold]
        rest = [row for row in rows if fold_of[row.family] != fold]
        model: Trained = finetune(
            rest, schema, recipe, progress, f"fold {fold + 1} of {recipe.folds}"
        )
        logits[inside] = model.logits([rows[k].text for k in inside])
    return logits
