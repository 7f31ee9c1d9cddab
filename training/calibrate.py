"""Turn logits into probabilities, and a stated risk into thresholds, from held-out labels.

The owner says what error is acceptable; `threshold_for` finds the lowest score that keeps the promise
by the exact binomial bound (Clopper and Pearson 1934), as selective classification does (Geifman and
El-Yaniv, NeurIPS 2017).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta
from sklearn.linear_model import LogisticRegression

from model.labels import Schema
from model.policy import OPT_OUT, Policy
from model.scorer import probabilities

FEW = 12  # positives below which a label keeps temperature 1 and threshold 0.5
LOWEST, HIGHEST = 0.25, 0.7  # range of a label's own threshold


@dataclass(frozen=True, slots=True)
class Bound:
    """A threshold and the evidence for it: of `n` held-out messages at or above it, `wrong` were wrong."""

    threshold: float
    n: int
    wrong: int
    bound: float  # upper confidence bound of the share of wrong ones
    recall: float


def upper_bound(wrong: int, n: int, confidence: float) -> float:
    """Return the one-sided Clopper-Pearson upper bound of an error rate.

    >>> round(upper_bound(0, 299, 0.95), 4)
    0.01
    """
    return 1.0 if wrong >= n else float(beta.ppf(confidence, wrong + 1, n - wrong))


def threshold_for(
    scores: NDArray[np.float64], truth: NDArray[np.bool_], max_wrong: float, confidence: float
) -> Bound | None:
    """Return the lowest threshold whose bound is within `max_wrong`; None where the evidence is too small.

    Scores and truth are [N]. A threshold is only placed between different scores.
    """
    order = np.argsort(-scores, kind="stable")
    wrong = np.cumsum(~truth[order])
    found = None
    for k in range(len(order) - 1, -1, -1):
        if k + 1 < len(order) and scores[order[k]] == scores[order[k + 1]]:
            continue
        bound = upper_bound(int(wrong[k]), k + 1, confidence)
        if bound <= max_wrong:
            recall = float((k + 1 - wrong[k]) / max(1, truth.sum()))
            found = Bound(float(scores[order[k]]), k + 1, int(wrong[k]), bound, recall)
            break
    return found


def best_f1(scores: NDArray[np.float64], truth: NDArray[np.bool_]) -> float:
    """Return the threshold of highest F1 within [LOWEST, HIGHEST], the middle of the best stretch."""
    grid = np.round(np.arange(LOWEST, HIGHEST + 1e-9, 0.01), 2)
    tp = np.array([(truth & (scores >= t)).sum() for t in grid])
    chosen = np.array([(scores >= t).sum() for t in grid])
    f1 = 2 * tp / np.maximum(1, chosen + truth.sum())
    smooth = np.convolve(np.pad(f1, 3, mode="edge"), np.ones(7) / 7, "valid")
    return float(grid[np.flatnonzero(smooth >= smooth.max() - 1e-9)].mean())


def recall_threshold(
    scores: NDArray[np.float64],
    truth: NDArray[np.bool_],
    min_recall: float,
    max_false_alarms: float = 1.0,
) -> float:
    """Return the highest threshold that finds `min_recall` of the positives, within the false alarms allowed.

    Where both cannot be had, the false alarms win: the lowest threshold that raises no more of them.
    """
    positives = np.sort(scores[truth])
    missed = int(np.floor((1 - min_recall) * len(positives) + 1e-9))
    allowed = float(np.quantile(scores[~truth], 1 - max_false_alarms)) if (~truth).any() else 0.0
    return max(float(positives[missed]), allowed)


def calibrate(
    logits: NDArray[np.float32], truth: NDArray[np.float32], schema: Schema, policy: Policy
) -> dict[str, Any]:
    """Return the bundle's calibration.json from held-out logits and labels, both [N, C]."""
    temperatures: dict[str, float] = {}
    biases: dict[str, float] = {}
    labels: dict[str, float] = {}
    p = np.zeros(logits.shape)
    wishes = {r.label: (r.min_recall, r.max_false_alarms) for r in policy.routes if r.min_recall}
    for c, name in enumerate(schema.names):
        positive = truth[:, c] > 0.5
        temperatures[name], biases[name] = 1.0, 0.0
        if positive.sum() >= FEW:
            fit = LogisticRegression(C=1e4).fit(logits[:, [c]], positive)
            slope = float(fit.coef_[0, 0])
            if slope > 0:
                temperatures[name], biases[name] = 1 / slope, float(fit.intercept_[0])
        scale, shift = np.array(temperatures[name]), np.array(biases[name])
        p[:, c] = probabilities(logits[:, c], scale, shift)
        if positive.sum() < FEW:
            labels[name] = 0.5
        elif name in wishes:
            wanted = recall_threshold(p[:, c], positive, *wishes[name])
            labels[name] = min(wanted, best_f1(p[:, c], positive))
        else:
            labels[name] = best_f1(p[:, c], positive)
    opt_out = p[:, schema.index(OPT_OUT)]
    is_opt_out = truth[:, schema.index(OPT_OUT)] > 0.5
    suppress = threshold_for(opt_out, is_opt_out, policy.max_wrong, policy.confidence)
    hold = threshold_for(opt_out, is_opt_out, policy.hold_max_wrong, policy.hold_confidence)
    # Whatever is labelled opt_out is at least held.
    hold_at = min(labels[OPT_OUT], hold.threshold if hold else 1.0)
    if suppress is not None and suppress.threshold < hold_at:
        hold_at = suppress.threshold
    return {
        "temperatures": temperatures,
        "biases": biases,
        "thresholds": {
            "labels": labels,
            "suppress": suppress.threshold if suppress else None,
            "hold": hold_at,
        },
        "evidence": {
            "messages": len(logits),
            "opt_outs": int(is_opt_out.sum()),
            "suppress": _evidence(suppress, policy.max_wrong, policy.confidence),
            "hold": _evidence(hold, policy.hold_max_wrong, policy.hold_confidence)
            | {"recall_at_threshold": float((opt_out[is_opt_out] >= hold_at).mean())},
        },
    }


def _evidence(bound: Bound | None, max_wrong: float, confidence: float) -> dict[str, Any]:
    promise = {"max_wrong": max_wrong, "confidence": confidence}
    if bound is None:
        return promise | {"verdict": "too little evidence for this promise"}
    return promise | {
        "verdict": "kept",
        "n": bound.n,
        "wrong": bound.wrong,
        "bound": round(bound.bound, 5),
        "recall": round(bound.recall, 4),
    }
