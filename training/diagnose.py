"""Where a bundle goes wrong: under each family of noise, in its calibration, in its surest mistakes."""

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from model.classifier import Classifier
from training.dataset import Row, matrix
from training.evaluate import evaluate, found_labels
from training.synthesis import FAMILIES

BINS = 10  # of the calibration plot, equally wide
SHOWN = 2  # mistakes of each label and kind


def under_noise(classifier: Classifier, rows: Sequence[Row], seed: int = 0) -> dict[str, Any]:
    """Return, for each family of noise, macro-F1 over the intents before and after it.

    Only messages that the noise changed are counted, and so is the share of their opt-outs that are still
    suppressed or held.
    """
    report = {}
    intents = set(classifier.bundle.schema.intents)
    for name, noise in FAMILIES.items():
        rng = random.Random(seed)
        changed = [(row, noise(row.text, rng)) for row in rows]
        changed = [(row, text) for row, text in changed if text.strip() and text != row.text]
        if not any(intents & set(row.labels) for row, _ in changed):
            continue
        clean = evaluate(classifier, [row for row, _ in changed])
        noisy = evaluate(classifier, [replace(row, text=text) for row, text in changed])
        report[name] = {
            "messages": len(changed),
            "clean": clean["intents_macro_f1"],
            "noisy": noisy["intents_macro_f1"],
            "clean_caught": clean["actions"]["caught_recall"],
            "noisy_caught": noisy["actions"]["caught_recall"],
        }
    return report


def reliability(classifier: Classifier, rows: Sequence[Row]) -> dict[str, Any]:
    """Return, per intent, bins of [mean score, share that was right, n], and their mean distance (ECE)."""
    predictions = classifier.classify([row.text for row in rows])
    report = {}
    for name in classifier.bundle.schema.intents:
        scores = np.array([p.scores[name] for p in predictions])
        truth = np.array([name in row.labels for row in rows])
        number = np.minimum((scores * BINS).astype(int), BINS - 1)
        bins = [
            [float(scores[own].mean()), float(truth[own].mean()), int(own.sum())]
            for own in (number == k for k in range(BINS))
            if own.any()
        ]
        error = sum(n * abs(mean - share) for mean, share, n in bins) / len(rows)
        report[name] = {"bins": bins, "expected_error": error}
    return report


def _naming(row: Row) -> dict[str, str]:
    """Return a message's id, and its text if it was written for the corpus: a customer's words stay out of reports."""
    return {"id": row.id} | ({"text": row.text} if row.source.startswith("written:") else {})


def mistakes(classifier: Classifier, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return the surest wrong answers: for each label its unlikeliest finds missed and likeliest false alarms."""
    schema = classifier.bundle.schema
    texts = [row.text for row in rows]
    scores = np.array([list(p.scores.values()) for p in classifier.classify(texts)])
    truth, found = matrix(rows, schema) > 0.5, found_labels(classifier, texts)
    shown = []
    for c, name in enumerate(schema.names):
        order = np.argsort(scores[:, c])
        missed = [k for k in order if truth[k, c] and not found[k, c]]
        alarms = [k for k in order[::-1] if found[k, c] and not truth[k, c]]
        for kind, cases in (("missed", missed), ("false alarm", alarms)):
            shown += [
                {"label": name, "kind": kind, "score": float(scores[k, c])} | _naming(rows[k])
                for k in cases[:SHOWN]
            ]
    return shown
