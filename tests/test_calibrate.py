from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from model.labels import Schema
from model.policy import Policy
from training.calibrate import best_f1, calibrate, recall_threshold, threshold_for, upper_bound

DATA = Path(__file__).parents[1] / "data"
SCHEMA = Schema.read(DATA / "labels.toml")
POLICY = Policy.read(DATA / "policy.toml", SCHEMA)


@given(st.integers(1, 400), st.data())
def test_the_bound_is_the_rate_at_which_so_few_errors_are_just_credible(n, data):
    wrong = data.draw(st.integers(0, n - 1))
    bound = upper_bound(wrong, n, 0.95)
    assert wrong / n <= bound <= 1
    assert binom.cdf(wrong, n, bound) == pytest.approx(0.05, abs=1e-6)


def test_all_wrong_bounds_nothing():
    assert upper_bound(5, 5, 0.95) == 1.0


def test_the_lowest_threshold_that_keeps_the_promise_is_found():
    scores = np.concatenate([np.linspace(0.9, 1, 320), np.linspace(0.5, 0.6, 40), [0.1]])
    truth = np.array([True] * 320 + [False] * 40 + [True])
    found = threshold_for(scores, truth, max_wrong=0.01, confidence=0.95)
    assert found is not None
    assert found.threshold == pytest.approx(0.9)
    assert (found.n, found.wrong) == (320, 0)
    assert found.bound < 0.01


def test_too_little_evidence_gives_no_threshold():
    scores, truth = np.linspace(0.9, 1, 298), np.ones(298, bool)
    assert threshold_for(scores, truth, 0.01, 0.95) is None


def test_equal_scores_are_never_parted():
    scores = np.array([0.9] * 400)
    truth = np.array([True] * 399 + [False])
    assert threshold_for(scores, truth, 0.005, 0.95) is None


def test_a_recall_threshold_keeps_the_recall():
    scores = np.linspace(0, 1, 100)
    truth = np.ones(100, bool)
    assert (scores[truth] >= recall_threshold(scores, truth, 0.95)).mean() >= 0.95


def test_false_alarms_bound_what_recall_may_cost():
    scores = np.concatenate([np.linspace(0, 1, 20), np.linspace(0, 0.5, 100)])
    truth = np.arange(120) < 20
    threshold = recall_threshold(scores, truth, 0.95, max_false_alarms=0.04)
    assert (scores[~truth] >= threshold).mean() <= 0.05
    assert recall_threshold(scores, truth, 0.95) < threshold


def test_the_best_f1_threshold_parts_two_groups():
    scores = np.array([0.3] * 50 + [0.6] * 50)
    assert 0.3 < best_f1(scores, scores > 0.5) <= 0.6


def _held_out(seed: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = (rng.random((n, len(SCHEMA.names))) < 0.3).astype(np.float32)
    logits = (truth * 8 - 4 + rng.normal(0, 1.2, truth.shape)).astype(np.float32)
    return logits, truth


def test_whatever_is_labelled_opt_out_is_at_least_held():
    for seed in range(5):
        found = calibrate(*_held_out(seed, 3000), SCHEMA, POLICY)["thresholds"]
        assert found["hold"] <= found["labels"]["opt_out"]
        assert found["suppress"] is None or found["hold"] <= found["suppress"]


def test_despair_is_found_with_the_recall_that_the_policy_asks_for():
    logits, truth = _held_out(1, 3000)
    result = calibrate(logits, truth, SCHEMA, POLICY)
    c = SCHEMA.index("self_harm")
    z = logits[:, c] / result["temperatures"]["self_harm"] + result["biases"]["self_harm"]
    caught = 1 / (1 + np.exp(-z[truth[:, c] > 0])) >= result["thresholds"]["labels"]["self_harm"]
    assert caught.mean() >= 0.95


def test_a_small_set_allows_no_automatic_suppression_and_says_so():
    result = calibrate(*_held_out(0, 200), SCHEMA, POLICY)
    assert result["thresholds"]["suppress"] is None
    assert "too little evidence" in result["evidence"]["suppress"]["verdict"]


def test_calibrated_probabilities_match_frequencies():
    logits, truth = _held_out(2, 20_000)
    result = calibrate(logits * 3, truth, SCHEMA, POLICY)  # an overconfident model
    z = logits[:, 0] * 3 / result["temperatures"]["opt_out"] + result["biases"]["opt_out"]
    p = 1 / (1 + np.exp(-z))
    middle = (p > 0.3) & (p < 0.7)
    assert truth[middle, 0].mean() == pytest.approx(p[middle].mean(), abs=0.08)
