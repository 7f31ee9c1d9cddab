"""The breaker's arithmetic: quiet on ordinary traffic, open on a flood, closed when the flood is over."""

import random
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from serving.breaker import CHANCE, LEAST, MEMORY, Limits, Watch, tail

AT = datetime(2026, 1, 1, tzinfo=UTC)
LIMITS = Limits(window=100, factor=3, history=200)
answers = st.lists(st.booleans(), max_size=600)


def after(watch: Watch, given: list[bool], limits: Limits = LIMITS) -> Watch:
    for is_yes in given:
        watch = watch.counted(is_yes, AT, limits)
    return watch


def tossed(share: float, count: int, seed: int = 1) -> list[bool]:
    coin = random.Random(seed)
    return [coin.random() < share for _ in range(count)]


@given(st.integers(1, 500), st.integers(0, 500), st.floats(0.01, 0.99))
def test_the_tail_is_the_binomial_one(n: int, k: int, p: float) -> None:
    k = min(k, n)
    assert tail(k, n, p) == pytest.approx(binom.sf(k - 1, n, p), rel=1e-6, abs=1e-12)


@given(answers)
def test_it_stays_quiet_until_there_is_history(given: list[bool]) -> None:
    watch = Watch("model")
    for is_yes in given:
        watch = watch.counted(is_yes, AT, LIMITS)
        assert not (watch.is_open and watch.usual_seen < LIMITS.history)
        assert len(watch.latest) <= LIMITS.window
        assert 0 <= watch.usual_yes <= watch.usual_seen <= MEMORY * LIMITS.window + 1
        assert LEAST <= watch.usual < 1


@given(answers, st.sampled_from([0.02, 0.2, 0.6]))
def test_it_opens_only_where_both_rules_hold(given: list[bool], share: float) -> None:
    watch = Watch("model", usual_yes=share * 1000, usual_seen=1000)
    for is_yes in given:
        before, watch = watch, watch.counted(is_yes, AT, LIMITS)
        if watch.is_open and not before.is_open:
            usual, found = watch.usual, watch.share
            assert binom.sf(watch.yes - 1, len(watch.latest), usual) < CHANCE * 1.001
            assert found == 1 or found / (1 - found) > 3 * usual / (1 - usual)


@given(st.sampled_from([0.0, 0.02, 0.2, 0.6, 0.8]), st.integers(0, 1000))
def test_a_flood_opens_it_and_its_end_closes_it(share: float, seed: int) -> None:
    usual = Watch("model", usual_yes=share * 1000, usual_seen=1000)
    calm = after(usual, tossed(share, 100, seed))
    flooded = after(calm, [True] * 100)
    assert flooded.is_open
    # What came while it was open has not become usual, though far more came than is remembered.
    still = after(flooded, [True] * 3000)
    assert still.is_open
    assert (still.usual_yes, still.usual_seen) == (flooded.usual_yes, flooded.usual_seen)
    assert not after(still, [False] * 100).is_open


def test_a_person_closes_it_either_way() -> None:
    flooded = after(Watch("model", usual_yes=50, usual_seen=1000), [True] * 100)
    repaired = flooded.closed(False, LIMITS)
    assert (repaired.is_open, repaired.latest, repaired.usual) == (False, "", flooded.usual)
    assert after(repaired, [True] * 100).is_open
    accepted = flooded.closed(True, LIMITS)
    assert accepted.usual > 0.9
    assert not after(accepted, [True] * 500).is_open


def test_a_window_made_shorter_keeps_the_latest() -> None:
    watch = after(Watch("model"), [True] * 50 + [False] * 50)
    assert after(watch, [True], Limits(10, 3, 200)).latest == "0" * 9 + "1"


def test_ordinary_traffic_rarely_opens_it() -> None:
    limits = Limits(500, 3, 2000)
    watch, opened = Watch("model"), 0
    for is_yes in tossed(0.05, 20_000):
        before, watch = watch, watch.counted(is_yes, AT, limits)
        opened += watch.is_open > before.is_open
    assert opened == 0
    assert watch.usual == pytest.approx(0.05, abs=0.01)
