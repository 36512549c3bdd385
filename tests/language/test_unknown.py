"""When a region's type is unknown: the line, where it comes from, and what it does."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blemish.errors import UsageError
from blemish.inspection.regions import find_regions
from blemish.language.unknown import find_unknown_rule
from blemish.results import UNKNOWN, lead


@pytest.mark.parametrize(
    ("shares", "expected"), [([1.0], 1.0), ([0.5, 0.5], 0.5), ([0.6, 0.2, 0.2], 0.75), ([0.0, 0.0], 0.5)]
)
def test_the_lead_is_the_probability_against_the_next_type_alone(shares: list[float], expected: float) -> None:
    best, second = (sorted([*shares, 0.0], reverse=True))[:2]
    assert lead(best, best - second) == pytest.approx(expected)


def test_names_that_fit_nowhere_do_not_change_the_lead() -> None:
    few = np.array([0.6, 0.4])
    many = np.concatenate([few, np.full(50, 0.02)])
    many /= many.sum()
    assert lead(many[0], many[0] - many[1]) == pytest.approx(lead(0.6, 0.2))


@given(
    st.lists(st.tuples(st.floats(0.5, 1), st.booleans()), min_size=1, max_size=60).filter(
        lambda found: any(right for _, right in found)
    ),
    st.floats(0.05, 1),
)
def test_at_least_the_stated_share_of_right_types_keeps_its_name_and_no_higher_line_does(
    found: list[tuple[float, bool]], keep: float
) -> None:
    leads, correct = np.array([value for value, _ in found]), np.array([right for _, right in found])
    rule = find_unknown_rule(leads, correct, keep=keep)
    right = leads[correct]
    assert (right >= rule.min_lead).mean() >= keep - 1e-6
    higher = right[right > rule.min_lead + 2e-6]
    if len(higher):
        assert (right >= higher.min()).mean() < keep
    assert (rule.right, rule.wrong) == (int(correct.sum()), int((~correct).sum()))


def test_the_rule_tells_what_it_does_to_wrong_types() -> None:
    rule = find_unknown_rule([0.9, 0.8, 0.7, 0.6, 0.55, 0.75], [1, 1, 1, 0, 0, 0], keep=1.0)
    assert rule.to_dict() == {"min_lead": 0.7, "right": 3, "wrong": 3, "right_named": 1.0, "wrong_named": 0.3333}


@pytest.mark.parametrize(
    ("leads", "correct", "keep", "message"),
    [
        ([0.9], [False], 0.9, "no region is typed rightly"),
        ([], [], 0.9, "no region is typed rightly"),
        ([0.9, 0.8], [True], 0.9, "of one length"),
        ([float("nan")], [True], 0.9, "must be numbers"),
        ([0.9], [True], 0.0, "share to keep"),
    ],
)
def test_no_line_without_sound_data(leads: list[float], correct: list[bool], keep: float, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        find_unknown_rule(leads, correct, keep=keep)


def test_a_region_without_a_clear_lead_is_unknown_and_keeps_its_numbers() -> None:
    anomaly = np.zeros((4, 8), np.float32)
    anomaly[1:3, 1:3] = anomaly[1:3, 5:7] = 0.9
    maps = np.zeros((2, 4, 8), np.float32)
    maps[0, :, :4], maps[1, :, :4] = 0.8, 0.1  # clear on the left
    maps[0, :, 4:], maps[1, :, 4:] = 0.42, 0.48  # not on the right

    def types(min_lead: float) -> dict[str | None, float | None]:
        regions = find_regions(
            anomaly, (8, 4), threshold=0.5, min_area_px=1, types=("scratch", "hole"), type_maps=maps, min_lead=min_lead
        )
        return {region.type: region.type_probability for region in regions}

    assert types(0.0) == pytest.approx({"scratch": 8 / 9, "hole": 0.48 / 0.9})
    assert types(0.6) == pytest.approx({"scratch": 8 / 9, UNKNOWN: 0.48 / 0.9})
