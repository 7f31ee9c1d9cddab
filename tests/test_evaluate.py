import numpy as np
import pytest

from training.evaluate import interval, label_table, macro_f1

TRUTH = np.array([[1, 0], [1, 0], [0, 1], [0, 0], [1, 0]], bool)
FOUND = np.array([[1, 0], [0, 0], [0, 1], [1, 0], [1, 0]], bool)
FAMILIES = ["a", "a", "b", "b", "c"]


def test_precision_recall_and_f1_are_counted():
    table = label_table(TRUTH, FOUND, FAMILIES, ["x", "y"])
    assert table["x"]["n"] == 3
    assert table["x"]["precision"] == pytest.approx(2 / 3)
    assert table["x"]["recall"] == pytest.approx(2 / 3)
    assert table["x"]["f1"] == pytest.approx(2 / 3)
    assert table["y"]["f1"] == 1.0
    low, high = table["x"]["f1_interval"]
    assert low <= 2 / 3 <= high


def test_a_label_that_does_not_occur_has_no_recall_and_no_f1():
    table = label_table(TRUTH[:, :1] & False, FOUND[:, :1], FAMILIES, ["x"])
    assert table["x"]["recall"] is None
    assert table["x"]["f1"] is None


def test_macro_f1_is_the_mean_over_labels_that_occur():
    truth = np.concatenate([TRUTH, np.zeros((5, 1), bool)], axis=1)
    found = np.concatenate([FOUND, np.zeros((5, 1), bool)], axis=1)
    assert macro_f1(truth, found, FAMILIES)["value"] == pytest.approx((2 / 3 + 1) / 2)


def test_fewer_messages_give_a_wider_interval():
    small, large = interval(9, 10), interval(900, 1000)
    assert small[1] - small[0] > 3 * (large[1] - large[0])
