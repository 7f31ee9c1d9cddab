"""What the diagnoses say of a classifier whose faults are known."""

from dataclasses import replace

import numpy as np
import pytest

from training.dataset import Row
from training.diagnose import mistakes, reliability, under_noise
from training.evaluate import margin


def row(text: str, *labels: str) -> Row:
    return Row(text, text, labels, "written:test", text, "test")


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
    marked = report["punctuate"]
    assert marked["messages"] == len(ROWS)
    assert marked["clean_caught"] == pytest.approx(2 / 3)
    assert marked["noisy_caught"] < marked["clean_caught"]
    assert report["traditional"]["messages"] < len(ROWS)
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


def test_a_customers_words_stay_out_of_the_report(classifier):
    theirs = [replace(r, id=f"real-{k}", source="service") for k, r in enumerate(ROWS)]
    found = mistakes(classifier, theirs)
    assert {m["id"] for m in found} == {"real-2", "real-3", "real-4"}
    assert not any("text" in m for m in found)


def test_a_margin_of_equals_is_zero_and_of_a_better_one_excludes_zero():
    truth = np.array([[True], [False]] * 20)
    families = [str(k) for k in range(40)]
    assert margin(truth, truth, truth, families) == {"value": 0.0, "interval": [0.0, 0.0]}
    better = margin(truth, truth, np.ones_like(truth), families)
    assert better["value"] == pytest.approx(1 / 3)
    assert better["interval"][0] > 0
