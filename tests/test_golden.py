"""The shipped bundle against data/golden: behaviours that a release may not lose."""

from pathlib import Path

import pytest

from model.classifier import Classifier
from model.labels import Schema
from model.text import normalise
from training import dataset, golden

DATA = Path(__file__).parents[1] / "data"
SCHEMA = Schema.read(DATA / "labels.toml")
CASES = golden.read(DATA / "golden", SCHEMA)
KINDS = sorted({case.kind for case in CASES})
EACH = 0.85
# What a release must reach is 0.95 of all and 0.85 of each kind. Where the shipped bundle is not there yet, it may
# not fall behind what it had when it was shipped (less one: int8 rounds differently on other processors).
OVERALL = 0.87
NOT_YET = {
    "content": 15,
    "desperate_but_not_suicidal": 17,
    "disguised_abuse": 15,
    "frequency": 15,
    "hardship": 17,
    "how_to_unsubscribe": 16,
    "indirect_stop": 15,
    "negated_or_quoted_stop": 8,
}


@pytest.fixture(scope="module")
def results():
    return golden.check(Classifier.load(), CASES)


def test_there_are_enough_kinds_and_cases():
    assert len(KINDS) >= 25
    assert all(sum(case.kind == kind for case in CASES) >= 20 for kind in KINDS)


def test_all_kinds_together_pass(results):
    passed = sum(good for good, _ in results[0].values())
    assert passed >= OVERALL * len(CASES), [case.id for case in results[1]]


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_passes(results, kind):
    passed, total = results[0][kind]
    wanted = NOT_YET.get(kind, EACH * total)
    assert passed >= wanted, [case.text for case in results[1] if case.kind == kind]


def test_a_kind_that_is_well_read_leaves_the_list_of_those_that_are_not(results):
    assert not [kind for kind in NOT_YET if results[0][kind][0] > EACH * results[0][kind][1]]


def test_no_golden_case_is_trained_on():
    trained_on = {normalise(row.text).text for row in dataset.read(DATA / "corpus", SCHEMA)}
    assert not [case.id for case in CASES if normalise(case.text).text in trained_on]


def test_a_case_says_what_must_and_must_not_be_found(tmp_path):
    (tmp_path / "a.jsonl").write_text(
        '{"id": "a-1", "text": "滚", "has": ["opt_out"], "hasnt": ["dispute"]}\n', encoding="utf-8"
    )
    (case,) = golden.read(tmp_path, SCHEMA)
    assert case.passes(["opt_out", "abuse"])
    assert not case.passes(["opt_out", "dispute"])
    assert not case.passes(["abuse"])


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ('{"id": "a", "text": "b", "has": [], "hasnt": []}', "a.jsonl:1: a case has"),
        ('{"id": "a", "text": "b", "has": ["optout"], "hasnt": []}', "a.jsonl:1: .*optout"),
        ("{", "a.jsonl:1: "),
        ('{"id": "a", "text": "b", "has": ["abuse"], "hasnt": ["abuse"]}', "both wanted and not"),
    ],
)
def test_a_case_that_judges_nothing_or_contradicts_itself_is_refused(tmp_path, line, fault):
    (tmp_path / "a.jsonl").write_text(line, encoding="utf-8")
    with pytest.raises(dataset.DatasetError, match=fault):
        golden.read(tmp_path, SCHEMA)
