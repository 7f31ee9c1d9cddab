from datetime import UTC, datetime
from pathlib import Path

import pytest

from model.labels import LabelError, Schema
from model.policy import CHINA, Due, Policy, Thresholds, decide, undecided
from model.rules import RuleHit

DATA = Path(__file__).parents[1] / "data"
SCHEMA = Schema.read(DATA / "labels.toml")
POLICY = Policy.read(DATA / "policy.toml", SCHEMA)
THRESHOLDS = Thresholds(labels=dict.fromkeys(SCHEMA.names, 0.5), suppress=0.9, hold=0.4)


def scores(**given: float) -> dict[str, float]:
    return dict.fromkeys(SCHEMA.names, 0.01) | given


def decided(hit: RuleHit | None = None, thresholds: Thresholds = THRESHOLDS, **given: float):
    return decide(scores(**given), hit, thresholds, POLICY)


def test_a_confident_opt_out_is_suppressed_for_marketing():
    decision = decided(opt_out=0.95)
    assert (decision.action, decision.labels, decision.scope) == (
        "suppress",
        ("opt_out",),
        "marketing",
    )
    assert decision.queue is None


def test_a_likely_opt_out_is_held_before_a_person():
    decision = decided(opt_out=0.6)
    assert (decision.action, decision.queue) == ("hold", "opt_out_review")
    assert decision.due == Due(1, "working days")


def test_a_hold_below_the_label_threshold_carries_no_label():
    assert decided(opt_out=0.45).labels == ()
    assert decided(opt_out=0.45).action == "hold"


def test_without_evidence_the_model_only_holds():
    thresholds = Thresholds(THRESHOLDS.labels, suppress=None, hold=0.4)
    assert decided(thresholds=thresholds, opt_out=0.999).action == "hold"


def test_a_keyword_suppresses_whatever_the_model_says():
    decision = decided(RuleHit("opt_out", "td"), opt_out=0.02)
    assert (decision.action, decision.labels) == ("suppress", ("opt_out",))
    assert "td" in decision.reason
    assert "0.02" in decision.reason


def test_a_keyword_suppresses_where_the_model_has_no_evidence_for_its_own():
    thresholds = Thresholds(THRESHOLDS.labels, suppress=None, hold=0.4)
    assert decided(RuleHit("opt_out", "td"), thresholds).action == "suppress"


def test_resuming_is_never_an_opt_out():
    decision = decided(RuleHit("resume", "恢复订阅"), opt_out=0.99)
    assert (decision.action, decision.labels) == ("none", ())


def test_despair_is_called_at_once_even_where_the_list_changes():
    decision = decided(opt_out=0.99, hardship=0.9, self_harm=0.8)
    assert (decision.action, decision.queue, decision.priority) == ("suppress", "crisis", 0)
    assert str(decision.due) == "now"


def test_the_most_urgent_label_names_the_queue():
    decision = decided(dispute=0.9, escalation=0.8)
    assert (decision.action, decision.queue) == ("route", "complaints")
    assert decision.labels == ("dispute", "escalation")


def test_an_unsure_score_is_reviewed_and_a_low_one_is_not():
    assert decided(dispute=0.4).action == "review"
    assert decided(dispute=0.2).action == "none"


def test_nothing_is_routed_without_a_model_but_to_a_person():
    assert undecided(POLICY).action == "review"


def test_every_label_but_opt_out_has_a_route():
    assert {r.label for r in POLICY.routes} == set(SCHEMA.names) - {"opt_out"}


@pytest.mark.parametrize(
    ("due", "received", "expected"),
    [
        ("now", datetime(2026, 11, 24, 9, tzinfo=CHINA), datetime(2026, 11, 24, 9, tzinfo=CHINA)),
        (
            "15 days",
            datetime(2026, 11, 24, 9, tzinfo=CHINA),
            datetime(2026, 12, 9, 9, tzinfo=CHINA),
        ),
        (
            "1 working day",
            datetime(2026, 11, 27, 9, tzinfo=CHINA),
            datetime(2026, 11, 30, 9, tzinfo=CHINA),
        ),
        # Late on Thursday in UTC is Friday in China already: the next working day is Monday.
        (
            "1 working day",
            datetime(2026, 11, 26, 20, tzinfo=UTC),
            datetime(2026, 11, 30, 4, tzinfo=CHINA),
        ),
        # A year that the calendar does not know yet falls back on weekends.
        (
            "1 working day",
            datetime(2099, 1, 2, 9, tzinfo=CHINA),
            datetime(2099, 1, 5, 9, tzinfo=CHINA),
        ),
    ],
)
def test_due_times_follow_the_chinese_calendar(due, received, expected):
    assert Due.parse(due).at(received) == expected


@pytest.mark.parametrize("text", ["", "soon", "x days", "3 weeks", "days"])
def test_an_unreadable_due_is_refused(text):
    with pytest.raises(ValueError, match="due is"):
        Due.parse(text)


def test_due_reads_back_as_it_was_written():
    for text in ("now", "1 working day", "7 working days", "15 days", "1 day"):
        assert str(Due.parse(text)) == text


@pytest.mark.parametrize(
    ("old", "new", "fault", "error"),
    [
        ("max_wrong = 0.01", "max_wrong = 1.5", "suppress.max_wrong is 1.5", ValueError),
        ('due = "now"', 'due = "soon"', "due is", ValueError),
        ('label = "dispute"', 'label = "disputes"', "did you mean 'dispute'", LabelError),
    ],
)
def test_a_faulty_policy_is_refused(tmp_path, old, new, fault, error):
    path = tmp_path / "policy.toml"
    content = (DATA / "policy.toml").read_text(encoding="utf-8")
    assert old in content
    path.write_text(content.replace(old, new), encoding="utf-8")
    with pytest.raises(error, match=fault):
        Policy.read(path, SCHEMA)
