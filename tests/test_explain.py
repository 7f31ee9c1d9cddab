"""Spans that decided: where they lie, and that they are causes and not decoration."""

import random
from pathlib import Path

import numpy as np
import pytest

from model.classifier import Classifier
from model.explain import deciding_stretch
from training import golden

DATA = Path(__file__).parents[1] / "data"
UNREAD = "\u3013"  # 〓, a character that the encoder does not know


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return Classifier.load()


def stretch(*values: float) -> tuple[int, int]:
    places = [(0, 0), *((k, k + 1) for k in range(len(values))), (0, 0)]
    return deciding_stretch(np.array([0, *values, 0], "f4"), np.array(places))


def test_the_stretch_is_where_the_contributions_stand_out():
    assert stretch(0.1, 3.0, 2.0, 0.1, 0.0) == (1, 3)
    assert stretch(2.0) == (0, 1)
    assert stretch() == (0, 0)


def test_every_label_found_has_a_span_of_its_own(classifier):
    text = "你们这帮畜生天天打电话骚扰我妈,我下岗了真没钱还,再打我就去投诉"
    (prediction,) = classifier.classify([text])
    assert set(prediction.spans) == set(prediction.labels)
    assert len(prediction.spans) >= 3
    assert len(set(prediction.spans.values())) >= 3
    assert all(0 <= i < j <= len(text) for i, j in prediction.spans.values())


def test_hiding_the_span_costs_more_than_hiding_another_stretch_as_long(classifier):
    rng = random.Random(0)
    cases = [c for c in golden.read(DATA / "golden", classifier.bundle.schema) if len(c.text) >= 10]
    predictions = classifier.classify([c.text for c in cases])
    hidden, elsewhere, before = [], [], []
    for case, prediction in zip(cases, predictions, strict=True):
        for label, (i, j) in prediction.spans.items():
            size = j - i
            if not size or prediction.hit or label not in case.has or 2 * size > len(case.text):
                continue
            free = [k for k in range(len(case.text) - size + 1) if k >= j or k + size <= i]
            if not free:
                continue
            start = rng.choice(free)
            before.append((label, prediction.scores[label]))
            hidden.append(case.text[:i] + UNREAD * size + case.text[j:])
            elsewhere.append(case.text[:start] + UNREAD * size + case.text[start + size :])
    assert len(before) >= 100

    def drops(texts: list[str]) -> np.ndarray:
        after = classifier.classify(texts)
        return np.array([p - q.scores[name] for (name, p), q in zip(before, after, strict=True)])

    own, other = drops(hidden), drops(elsewhere)
    assert own.mean() > 2 * other.mean()
    assert (own > other).mean() > 0.75
