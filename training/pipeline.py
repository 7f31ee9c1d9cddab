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
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from model.bundle import write_manifest
from model.classifier import Classifier
from model.labels import Schema
from model.policy import Policy
from model.scorer import probabilities
from training import dataset, golden
from training.calibrate import calibrate
from training.config import Recipe
from training.dataset import Row, matrix
from training.diagnose import mistakes, reliability, under_noise
from training.distill import cross_fit, soft_targets
from training.evaluate import compare, evaluate
from training.export import write_parts
from training.finetune import finetune, met_labels

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


def _write_held_out(
    path: Path, rows: Sequence[Row], logits: NDArray[np.float32], schema: Schema
) -> None:
    """Write a line for each row: id, labels, and the uncalibrated score of each label; texts stay in the corpus."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        for row, scores in zip(rows, probabilities(logits), strict=True):
            named = {name: round(float(p), 4) for name, p in zip(schema.names, scores, strict=True)}
            line = {"id": row.id, "labels": row.labels, "scores": named}
            file.write(json.dumps(line, ensure_ascii=False) + "\n")


def train(data: Path, out: Path, recipe: Recipe, real: Path | None = None) -> Run:
    """Train a bundle from a data folder into `out`, which is replaced only by a finished one.

    `real`: a file of labelled messages that others wrote, for the report alone. Beside `out`, as `NAME.held_out.jsonl`,
    stands what a model that had not seen it says of each message: where it differs from the labels, one is wrong. These
    are the validation split and, where the recipe has folds, the training messages.
    """
    began = time.monotonic()
    schema = Schema.read(data / "labels.toml")
    policy = Policy.read(data / "policy.toml", schema)
    rows = dataset.read(data / "corpus", schema)
    cases = golden.read(data / "golden", schema)
    train_rows, validation, test = (
        [r for r in rows if r.split == s] for s in ("train", "validation", "test")
    )
    sets = {"validation": validation, "test": test}
    if real is not None and real.is_file():
        sets["real_dev"] = dataset.read_real(real, schema)

    with _progress() as progress:
        crossed = train_rows if recipe.folds else []
        out_of_fold = cross_fit(crossed, schema, recipe, progress)
        soft = soft_targets(train_rows, schema, recipe, out_of_fold, progress)
        trained = finetune(train_rows, schema, recipe, progress, "final model", soft)
    held_out = [*crossed, *validation]
    logits = np.concatenate([out_of_fold, trained.logits([r.text for r in validation])])
    _write_held_out(out.with_name(f"{out.name}.held_out.jsonl"), held_out, logits, schema)
    calibration = calibrate(logits, matrix(held_out, schema), schema, policy)

    draft = out.with_name(out.name + ".draft")
    shutil.rmtree(draft, ignore_errors=True)
    write_parts(trained, data, calibration, draft)
    provenance = {
        "max_length": recipe.max_length,
        "recipe": asdict(recipe),
        "encoder": met_labels(recipe.base),
        "corpus": {name: len(part) for name, part in [("train", train_rows), *sets.items()]},
        "losses": [round(x, 4) for x in trained.losses],
        "cores": torch.get_num_threads(),
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
    }
    write_manifest(draft, provenance)
    classifier = Classifier.load(draft)
    report = {
        "sets": {title: evaluate(classifier, part) for title, part in sets.items()},
        "compared": compare(classifier, train_rows, sets),
        "union": evaluate(
            classifier, [r for title in sets if title != "validation" for r in sets[title]]
        ),
        "noise": under_noise(classifier, test),
        "reliability": reliability(classifier, test),
        "mistakes": mistakes(classifier, validation),
        "golden": golden.summary(classifier, cases),
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
