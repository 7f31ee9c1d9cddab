"""What the diagnoses say of a classifier whose faults are known."""

import numpy as np
import pytest

from training.dataset import Row
from training.diagnose import mistakes, reliability, under_noise
from training.evaluate import margin


def row(text: str, *labels: str) -> Row:
    return Row(text, text, labels, "test", text, "test")


# The fake reads 别再发 (0.99), 少发点 (0.70) as opt-outs, 活不下去 as self_harm, and nothing else.
ROWS = [
    row("别再发短信了", "opt_out"),
    row("少发点广告行不行", "opt_out"),
    row("活不下去了真的", "hardship", "self_harm"),
    row("少发点辣椒,谢谢"),
    row("缘尽于此", "opt_out"),
]


def test_noise_is_measured_on_the_messages_that_it_changes(classifier):
    report = under_noise(classifier, ROWS)
    apart = report["punctuate"]
    assert apart["messages"] == len(ROWS)
    assert apart["clean_caught"] == pytest.approx(2 / 3)
    assert apart["noisy_caught"] < apart["clean_caught"]
    assert report["traditional"]["messages"] < len(ROWS)  # 缘尽于此 has no traditional form but 緣
    assert "cut_off" not in report  # no text here is as long


def test_reliability_sets_scores_against_what_was_right(classifier):
    report = reliability(classifier, ROWS)["opt_out"]
    assert sum(n for _, _, n in report["bins"]) == len(ROWS)
    by_score = {round(score, 2): share for score, share, _ in report["bins"]}
    assert by_score == {0.01: 0.5, 0.7: 0.5, 0.99: 1.0}
    expected = (2 * abs(0.01 - 0.5) + 2 * abs(0.70 - 0.5) + 0.01) / 5
    assert report["expected_error"] == pytest.approx(expected)


def test_the_surest_mistakes_are_named(classifier):
    found = {(m["label"], m["kind"]): m["text"] for m in mistakes(classifier, ROWS)}
    assert found == {
        ("opt_out", "missed"): "缘尽于此",
        ("opt_out", "false alarm"): "少发点辣椒,谢谢",
        ("hardship", "missed"): "活不下去了真的",
    }


def test_a_margin_of_equals_is_nothing_and_of_a_better_one_excludes_nothing():
    truth = np.array([[True], [False]] * 20)
    families = [str(k) for k in range(40)]
    assert margin(truth, truth, truth, families) == {"value": 0.0, "interval": [0.0, 0.0]}
    better = margin(truth, truth, np.ones_like(truth), families)
    assert better["value"] == pytest.approx(1 / 3)
    assert better["interval"][0] > 0
