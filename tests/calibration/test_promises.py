"""The promises of a calibration hold: by simulation with and without ties, and by properties of the order-statistic rule."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from blemish.calibration import Rule, Scored, find_thresholds
from blemish.calibration.conformal import allowed_above, best_share, just_above, needed, threshold_above
from blemish.errors import UsageError
from blemish.inspection.decide import decide
from blemish.results import Thresholds, Verdict

REPETITIONS = 2000


def continuous(rng: np.random.Generator, n: int) -> NDArray[np.float32]:
    return rng.random((REPETITIONS, n), np.float32)


def tied(rng: np.random.Generator, n: int) -> NDArray[np.float32]:
    return rng.integers(0, 20, (REPETITIONS, n)).astype(np.float32) / np.float32(20)


def share_at_or_above(threshold: float, draw: Callable[..., object]) -> float:
    """Of the whole population that `draw` draws from."""
    if draw is continuous:
        return max(0.0, 1 - threshold)
    return float(np.mean(np.arange(20, dtype=np.float32) / np.float32(20) >= threshold))


def realised(scores: NDArray[np.float32], most: int, draw: Callable[..., object]) -> NDArray[np.float64]:
    return np.array([share_at_or_above(threshold_above(row, most), draw) for row in scores])


CASES = [(99, 0.01), (60, 0.05), (150, 0.02), (500, 0.01), (19, 0.05)]


@pytest.mark.parametrize("draw", [continuous, tied])
@pytest.mark.parametrize(("n", "share"), CASES)
def test_the_mean_false_reject_rate_is_at_most_the_promised_one(
    n: int, share: float, draw: Callable[[np.random.Generator, int], NDArray[np.float32]]
) -> None:
    most = allowed_above(n, share)
    assert most is not None
    rates = realised(draw(np.random.default_rng(n), n), most, draw)
    error = rates.std() / np.sqrt(REPETITIONS)
    assert rates.mean() <= share + 3 * error
    if draw is continuous:  # and not needlessly low: the mean is (e + 1) / (n + 1)
        assert rates.mean() == pytest.approx((most + 1) / (n + 1), abs=4 * error)


@pytest.mark.parametrize("draw", [continuous, tied])
@pytest.mark.parametrize(("n", "share"), [(299, 0.01), (100, 0.05), (473, 0.01), (59, 0.05)])
def test_with_confidence_the_promise_is_rarely_broken(
    n: int, share: float, draw: Callable[[np.random.Generator, int], NDArray[np.float32]]
) -> None:
    most = allowed_above(n, share, confidence=0.95)
    assert most is not None
    broken = float(np.mean(realised(draw(np.random.default_rng(n), n), most, draw) > share))
    error = np.sqrt(0.05 * 0.95 / REPETITIONS)
    assert broken <= 0.05 + 3 * error
    if draw is continuous and n in (299, 59):  # the fewest images that can promise it: no margin left
        assert broken >= 0.05 - 4 * error - 0.005


def test_the_numbers_that_the_documentation_names() -> None:
    assert [needed(0.01), needed(0.01, confidence=0.95)] == [99, 299]
    assert best_share(60) == pytest.approx(0.0164, abs=1e-4)
    assert allowed_above(99, 0.29) == 28  # 0.29 is 29 of 100, not a little less


@given(st.integers(1, 400), st.sampled_from([0.001, 0.01, 0.05, 0.07, 0.29]), st.sampled_from([None, 0.9, 0.99]))
def test_needed_is_the_fewest_and_more_images_never_allow_less(n: int, share: float, confidence: float | None) -> None:
    fewest = needed(share, confidence=confidence)
    assert allowed_above(fewest, share, confidence=confidence) == 0
    assert allowed_above(fewest - 1, share, confidence=confidence) is None
    here, more = (allowed_above(count, share, confidence=confidence) for count in (n, n + 1))
    assert (-1 if here is None else here) <= (-1 if more is None else more)
    assert (here is None) == (best_share(n, confidence=confidence) > share)


scores_of_good = hnp.arrays(
    np.float32, st.integers(1, 60), elements=st.floats(0, 1, width=32) | st.sampled_from([0.25, 0.5])
)


@given(scores_of_good, st.integers(0, 59))
def test_the_threshold_is_the_lowest_that_at_most_so_many_reach(scores: NDArray[np.float32], most: int) -> None:
    most = min(most, len(scores) - 1)
    threshold = threshold_above(scores, most)
    assert np.count_nonzero(scores >= threshold) <= most
    assert np.count_nonzero(scores >= np.nextafter(np.float32(threshold), np.float32(-1))) > most


@given(st.floats(0, 0.96875, width=32))
def test_just_above_separates_in_single_and_double_precision_and_through_text(score: float) -> None:
    threshold = just_above(score)
    assert float(repr(threshold)) == threshold == float(np.float32(threshold))
    assert score < threshold
    assert np.float32(score) < np.float32(threshold)
    assert decide(score, Thresholds(image=threshold, pixel=0.5)) is Verdict.OK
    assert decide(threshold, Thresholds(image=threshold, pixel=0.5)) is Verdict.NG


def scored(values: NDArray[np.float32] | list[float]) -> list[Scored]:
    return [
        Scored(f"{number}.png", float(np.float32(value)), float(np.float32(value)))
        for number, value in enumerate(values)
    ]


def test_the_words_and_numbers_of_a_promise() -> None:
    good = scored(np.linspace(0.1, 0.6, 99, dtype=np.float32))
    found = find_thresholds(Rule(), good)
    assert found.image == found.pixel == just_above(0.6)
    assert found.review is not None
    assert sum(one.image_score >= found.review for one in good) == 4
    assert "At most 1 % of good images will be NG" in found.promise
    assert "on average over calibrations with 99 good images" in found.promise
    assert "At most 5 % will be NG or review" in found.promise
    assert found.figures["best_possible"] == pytest.approx(0.01)
    surer = find_thresholds(Rule(kind="confidence", confidence=0.95, max_false_rejects=0.05, review=None), good)
    assert (
        "With a confidence of 95 %, at most 5 % of good images will be NG with this very calibration" in surer.promise
    )


@pytest.mark.parametrize(
    ("confidence", "message"),
    [
        (None, r"60 good images are too few for 1 %.* is 1\.6 %; give 99"),
        (0.95, r"with 95 % confidence, is 4\.9 %; give 299"),
    ],
)
def test_too_few_images_say_what_can_be_promised(confidence: float | None, message: str) -> None:
    rule = Rule(kind="average" if confidence is None else "confidence", confidence=confidence)
    with pytest.raises(UsageError, match=message):
        find_thresholds(rule, scored([0.5] * 60))


def test_without_room_for_a_review_band_there_is_none_and_it_is_said() -> None:
    found = find_thresholds(Rule(), scored([0.5] * 99))
    assert found.review is None
    assert "no review band" in found.notes[0]


def test_saturated_scores_are_refused_or_left_to_the_card() -> None:
    with pytest.raises(UsageError, match="the highest score there is"):
        find_thresholds(Rule(), scored([1.0] * 99))
    found = find_thresholds(Rule(), [Scored(str(number), 0.5, 1.0) for number in range(99)])
    assert found.pixel is None
    assert "the model card's stays in force" in found.notes[0]


@pytest.mark.parametrize(
    "options",
    [
        {"max_false_rejects": 0.0},
        {"max_false_rejects": 1.0},
        {"review": 0.01},
        {"kind": "confidence"},
        {"kind": "confidence", "confidence": 1.0},
        {"confidence": 0.9},
        {"kind": "labelled", "cost_miss": 1.0},
    ],
)
def test_senseless_rules_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        Rule(**options)  # type: ignore[arg-type]
