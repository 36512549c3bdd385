"""Thresholds without a promise: what they are on data where the right answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blemish.calibration import Rule, Scored, find_thresholds
from blemish.calibration.estimates import best_f1, least_cost, mirrored
from blemish.errors import UsageError

RNG = np.random.default_rng(5)
GOOD = 1 / (1 + np.exp(-RNG.normal(-1, 0.5, 4000)))
BAD = 1 / (1 + np.exp(-RNG.normal(2.5, 0.5, 1000)))


@pytest.mark.parametrize("bad", [0, 200, 1000])
def test_an_estimate_from_a_mixed_folder_comes_near_where_its_suppositions_hold(bad: int) -> None:
    threshold = mirrored(np.concatenate([GOOD, BAD[:bad]]), 0.05)
    assert np.mean(threshold <= GOOD) == pytest.approx(0.05, abs=0.03)
    assert np.mean(threshold <= BAD) > 0.99


def test_an_estimate_claims_nothing_and_takes_twenty_images() -> None:
    images = [Scored(str(number), float(score), float(score)) for number, score in enumerate(GOOD[:50])]
    assert find_thresholds(Rule(kind="unlabelled"), images).promise.startswith("Nothing is promised. An estimate")
    with pytest.raises(UsageError, match="at least 20, not 19"):
        find_thresholds(Rule(kind="unlabelled"), images[:19])


@given(st.lists(st.sampled_from([0.0, 0.2, 0.5, 1.0]) | st.floats(0, 1, width=32), min_size=20, max_size=60))
def test_an_estimate_lies_in_the_range_of_scores_whatever_they_are(scores: list[float]) -> None:
    assert 0 < mirrored(scores, 0.01) <= 1


labelled = st.lists(
    st.sampled_from([0.125, 0.25, 0.5, 0.75]) | st.floats(0, 0.96875, width=32), min_size=1, max_size=12
)


@given(labelled, labelled)
def test_the_f1_and_cost_points_are_those_of_trying_every_threshold(good: list[float], bad: list[float]) -> None:
    def counts(threshold: float) -> tuple[int, int]:
        return sum(score >= threshold for score in good), sum(score < threshold for score in bad)

    tried = [counts(threshold) for threshold in [*good, *bad, 1.0]]
    f1 = [2 * (len(bad) - missed) / (2 * (len(bad) - missed) + false + missed) for false, missed in tried]
    chosen = best_f1(good, bad)
    assert chosen.f1 == pytest.approx(max(f1))
    assert counts(chosen.threshold) == (chosen.false_rejects, chosen.misses)
    cheapest = least_cost(good, bad, miss=10, false_reject=3)
    assert counts(cheapest.threshold) == (cheapest.false_rejects, cheapest.misses)
    assert 10 * cheapest.misses + 3 * cheapest.false_rejects == min(10 * missed + 3 * false for false, missed in tried)


def test_the_line_lies_half_way_between_the_sides() -> None:
    assert best_f1([0.25], [0.75]).threshold == 0.5


def test_both_sides_and_sensible_costs_are_needed() -> None:
    with pytest.raises(UsageError, match="at least one good and one bad"):
        best_f1([0.5], [])
    with pytest.raises(UsageError, match="above 0"):
        least_cost([0.5], [0.5], miss=0, false_reject=1)


def test_labelled_lines_say_what_they_did_to_these_images() -> None:
    good = [Scored(f"g{number}", score, score) for number, score in enumerate([0.1, 0.2, 0.6])]
    bad = [Scored(f"b{number}", score, score) for number, score in enumerate([0.5, 0.8, 0.9])]
    found = find_thresholds(Rule(kind="labelled", cost_miss=10, cost_false_reject=1), good, bad)
    assert found.image == pytest.approx(0.35)
    assert "the least cost (a miss 10, a false reject 1)" in found.promise
    assert "1 false rejects and 0 misses" in found.promise
