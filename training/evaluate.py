"""Measure a bundle on labelled messages: per label and per action, with intervals, beside simpler means."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

from model import baseline
from model.classifier import Classifier
from model.policy import OPT_OUT
from training.dataset import Row, matrix

BASE_RATES = (
    0.005,
    0.01,
    0.05,
)  # shares of opt-outs among real replies at which precision is stated
RESAMPLES = 1000
Counts = NDArray[np.int64]


def interval(hits: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the two-sided Clopper-Pearson interval of a share; (0, 1) for nothing seen.

    >>> interval(0, 0)
    (0.0, 1.0)
    >>> [round(x, 3) for x in interval(95, 100)]
    [0.887, 0.984]
    """
    if n == 0:
        return (0.0, 1.0)
    tail = (1 - confidence) / 2
    low = 0.0 if hits == 0 else float(beta.ppf(tail, hits, n - hits + 1))
    high = 1.0 if hits == n else float(beta.ppf(1 - tail, hits + 1, n - hits))
    return (low, high)


def _counts(truth: NDArray[np.bool_], found: NDArray[np.bool_], families: Sequence[str]) -> Counts:
    """Return [families, C, 3]: true positives, false positives, false negatives of each family."""
    numbers = {name: k for k, name in enumerate(dict.fromkeys(families))}
    rows = np.array([numbers[f] for f in families])
    out = np.zeros((len(numbers), truth.shape[1], 3), np.int64)
    for kind, cell in enumerate((truth & found, ~truth & found, truth & ~found)):
        np.add.at(out[:, :, kind], rows, cell)
    return out


def _f1(counts: NDArray[Any]) -> NDArray[np.float64]:
    tp, fp, fn = counts[..., 0], counts[..., 1], counts[..., 2]
    return np.asarray(2 * tp / np.maximum(1, 2 * tp + fp + fn), np.float64)


def _resampled_f1(counts: Counts, seed: int = 0) -> NDArray[np.float64]:
    """Return F1 [RESAMPLES, C] over bootstrap draws of whole families, which is what varies."""
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(len(counts), np.full(len(counts), 1 / len(counts)), RESAMPLES)
    return _f1(np.einsum("bf,fck->bck", weights, counts))


def label_table(
    truth: NDArray[np.bool_],
    found: NDArray[np.bool_],
    families: Sequence[str],
    names: Sequence[str],
) -> dict[str, dict[str, Any]]:
    """Return per label: n, precision, recall and F1, each with its 95 % interval."""
    counts = _counts(truth, found, families)
    f1, draws = _f1(counts.sum(0)), _resampled_f1(counts)
    table = {}
    for c, name in enumerate(names):
        tp, fp, fn = (int(x) for x in counts[:, c].sum(0))
        table[name] = {
            "n": tp + fn,
            "precision": tp / (tp + fp) if tp + fp else None,
            "precision_interval": interval(tp, tp + fp),
            "recall": tp / (tp + fn) if tp + fn else None,
            "recall_interval": interval(tp, tp + fn),
            "f1": float(f1[c]) if tp + fn else None,
            "f1_interval": [float(x) for x in np.quantile(draws[:, c], [0.025, 0.975])],
        }
    return table


def macro_f1(
    truth: NDArray[np.bool_], found: NDArray[np.bool_], families: Sequence[str]
) -> dict[str, Any]:
    """Return the mean F1 over the columns that occur in the truth, with its interval."""
    seen = truth.any(0)
    counts = _counts(truth[:, seen], found[:, seen], families)
    draws = _resampled_f1(counts).mean(1)
    return {
        "value": float(_f1(counts.sum(0)).mean()),
        "interval": [float(x) for x in np.quantile(draws, [0.025, 0.975])],
    }


def margin(
    truth: NDArray[np.bool_],
    found: NDArray[np.bool_],
    rival: NDArray[np.bool_],
    families: Sequence[str],
) -> dict[str, Any]:
    """Return how far the macro-F1 of `found` lies above that of `rival`, with its paired interval."""
    seen = truth.any(0)
    ours, theirs = (_counts(truth[:, seen], x[:, seen], families) for x in (found, rival))
    draws = _resampled_f1(ours).mean(1) - _resampled_f1(theirs).mean(1)  # the same draws for both
    return {
        "value": float(_f1(ours.sum(0)).mean() - _f1(theirs.sum(0)).mean()),
        "interval": [float(x) for x in np.quantile(draws, [0.025, 0.975])],
    }


def found_labels(classifier: Classifier, texts: Sequence[str]) -> NDArray[np.bool_]:
    """Return the labels that a classifier finds, [N, C] in the schema's order."""
    names = classifier.bundle.schema.names
    return np.array([[n in p.labels for n in names] for p in classifier.classify(texts)], bool)


def _opt_out_actions(truth: NDArray[np.bool_], actions: NDArray[np.str_]) -> dict[str, Any]:
    """Return what the list would have seen: wrong suppressions, opt-outs caught, precision at base rates."""
    suppressed = actions == "suppress"
    caught = suppressed | (actions == "hold")
    right, positives = int((truth & suppressed).sum()), int(truth.sum())
    recall = right / positives if positives else None
    false_rate = float((~truth & suppressed).sum() / max(1, (~truth).sum()))
    at = {
        str(rate): rate * recall / (rate * recall + (1 - rate) * false_rate)
        for rate in BASE_RATES
        if recall
    }
    return {
        "suppressed": int(suppressed.sum()),
        "suppress_precision": right / int(suppressed.sum()) if suppressed.any() else None,
        "suppress_precision_interval": interval(right, int(suppressed.sum())),
        "suppress_recall": recall,
        "held": int((actions == "hold").sum()),
        "caught_recall": float((truth & caught).sum() / positives) if positives else None,
        "caught_recall_interval": interval(int((truth & caught).sum()), positives),
        "false_suppression_rate": false_rate,
        "precision_at_base_rate": at,
    }


def evaluate(classifier: Classifier, rows: Sequence[Row]) -> dict[str, Any]:
    """Return the report of a bundle on one set of rows."""
    schema = classifier.bundle.schema
    texts = [row.text for row in rows]
    actions = np.array([p.action for p in classifier.classify(texts)])
    truth, found = matrix(rows, schema) > 0.5, found_labels(classifier, texts)
    families = [row.family for row in rows]
    intents = [schema.index(name) for name in schema.intents]
    return {
        "messages": len(rows),
        "families": len(set(families)),
        "intents_macro_f1": macro_f1(truth[:, intents], found[:, intents], families),
        "labels": label_table(truth, found, families, schema.names),
        "actions": _opt_out_actions(truth[:, schema.index(OPT_OUT)], actions),
    }


def compare(
    classifier: Classifier, train: Sequence[Row], sets: Mapping[str, Sequence[Row]]
) -> dict[str, Any]:
    """Return, for each set, what the keyword filters and the jieba baseline reach, and the margin over the latter."""
    schema = classifier.bundle.schema
    linear = baseline.build().fit([row.text for row in train], matrix(train, schema))
    intents = [schema.index(name) for name in schema.intents]
    column = schema.index(OPT_OUT)
    report: dict[str, Any] = {}
    for title, rows in sets.items():
        texts, families = [row.text for row in rows], [row.family for row in rows]
        truth = matrix(rows, schema) > 0.5
        found = np.asarray(linear.predict(texts)) > 0.5
        opt_out = truth[:, [column]]

        def filter_report(
            hits: NDArray[np.bool_],
            opt_out: NDArray[np.bool_] = opt_out,
            families: list[str] = families,
        ) -> dict[str, Any]:
            return label_table(opt_out, hits[:, None], families, [OPT_OUT])[OPT_OUT]

        report[title] = {
            "exact keyword list": {
                "labels": {OPT_OUT: filter_report(baseline.exact_filter(texts))}
            },
            "substring filter": {
                "labels": {OPT_OUT: filter_report(baseline.substring_filter(texts))}
            },
            "jieba baseline": {
                "intents_macro_f1": macro_f1(truth[:, intents], found[:, intents], families),
                "labels": label_table(truth, found, families, schema.names),
                "margin": margin(
                    truth[:, intents],
                    found_labels(classifier, texts)[:, intents],
                    found[:, intents],
                    families,
                ),
            },
        }
    return report
