"""From scores of images to thresholds, by one of four rules, each with what it promises in words and numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from blemish.calibration.conformal import (
    allowed_above,
    best_share,
    check_confidence,
    check_share,
    needed,
    threshold_above,
)
from blemish.calibration.estimates import Labelled, best_f1, least_cost, mirrored
from blemish.errors import UsageError

__all__ = ["CalibratedThresholds", "Rule", "Scored", "find_thresholds"]

HIGHEST = 1.0  # of a score


@dataclass(frozen=True)
class Scored:
    """The scores of one image that decisions are made of: see `results.Inspection`."""

    source: str  # the path of the image
    image_score: float  # 0..1
    map_peak: float  # the highest pixel score, 0..1


@dataclass(frozen=True, kw_only=True)
class Rule:
    """How thresholds are chosen.

    "average" and "confidence" start from good images and promise something (see `calibration.conformal`); "unlabelled" is an
    estimate from a mixed folder; "labelled" takes good and bad images, and has the highest F1 or, with costs, the least cost.
    """

    kind: Literal["average", "confidence", "unlabelled", "labelled"] = "average"
    max_false_rejects: float = 0.01  # the share of good images that may be NG, 0..1
    review: float | None = 0.05  # the share of good images that may be NG or review, 0..1; None: no review band
    confidence: float | None = None  # 0..1, for the kind "confidence" alone
    cost_miss: float | None = None  # of one missed defect, above 0, for the kind "labelled"
    cost_false_reject: float | None = None  # of one good image called NG, likewise

    def __post_init__(self) -> None:
        check_share(self.max_false_rejects)
        if (self.kind == "confidence") != (self.confidence is not None):
            raise UsageError("a confidence belongs to a promise from good images alone")
        if self.confidence is not None:
            check_confidence(self.confidence)
        if (self.cost_miss is None) != (self.cost_false_reject is None):
            raise UsageError("costs come in pairs: --cost-miss and --cost-false-reject")
        if self.review is not None and check_share(self.review) <= check_share(self.max_false_rejects):
            raise UsageError(
                f"the share of good images to review ({_percent(self.review)}) must be above that of false rejects "
                f"({_percent(self.max_false_rejects)}), or off"
            )


@dataclass(frozen=True, kw_only=True)
class CalibratedThresholds:
    """Thresholds, and what is promised of them."""

    image: float  # at or above: NG; 0..1
    review: float | None  # at or above, and below `image`: review; None: no review band
    pixel: float | None  # at or above: part of a region; None: maps of good images reach 1
    promise: str  # sentences for a person
    figures: Mapping[str, Any]  # the numbers in these sentences
    notes: tuple[str, ...] = ()  # what could not be had, and why


def find_thresholds(rule: Rule, good: Sequence[Scored], bad: Sequence[Scored] = ()) -> CalibratedThresholds:
    """The thresholds of a rule.

    Args:
        rule: How they are chosen.
        good: Scores of good images, or of unlabelled ones where the rule says so.
        bad: Scores of bad images, for the rule "labelled".

    Raises:
        UsageError: There are too few images for what is asked, or good ones already reach the highest score.

    Example:
        >>> good = [Scored(f"{number}.png", image_score=number / 100, map_peak=0.25) for number in range(99)]
        >>> found = find_thresholds(Rule(max_false_rejects=0.01, review=0.05), good)
        >>> round(found.image, 3), round(found.review, 3), round(found.pixel, 3)
        (0.98, 0.94, 0.25)
        >>> found.figures["good_at_or_above"]
        0
    """
    if rule.kind == "labelled":
        return _labelled(rule, good, bad)
    if rule.kind == "unlabelled":
        return _unlabelled(rule, good)
    return _promised(rule, good)


def _promised(rule: Rule, good: Sequence[Scored]) -> CalibratedThresholds:
    n, share = len(good), rule.max_false_rejects
    most = allowed_above(n, share, confidence=rule.confidence)
    if most is None:
        raise UsageError(_too_few(n, rule))
    image = threshold_above([image.image_score for image in good], most)
    pixel, notes = _below_one(threshold_above([image.map_peak for image in good], most))
    if image > HIGHEST:
        raise UsageError(
            f"more than {most} of the {n} good images have the highest score there is, 1: no threshold keeps them OK and calls "
            "anything NG; use another method or backbone"
        )
    review, review_note = _review(rule, good, image)
    return CalibratedThresholds(
        image=image,
        review=review,
        pixel=pixel,
        promise=_promise(n, rule, review is not None),
        figures={
            "max_false_rejects": share,
            "confidence": rule.confidence,
            "n": n,
            "good_at_or_above": most,
            "best_possible": best_share(n, confidence=rule.confidence),
        },
        notes=(*notes, *review_note),
    )


def _promise(n: int, rule: Rule, has_review: bool) -> str:
    share = _percent(rule.max_false_rejects)
    if rule.confidence is None:
        text = (
            f"At most {share} of good images will be NG, and at most {share} will reach the pixel threshold: on average over "
            "calibrations "
            f"with {n} good images. A single calibration may lie above or below; --confidence 95% limits this very one."
        )
    else:
        text = (
            f"With a confidence of {_percent(rule.confidence)}, at most {share} of good images will be NG with this very "
            f"calibration; the same holds, by itself, for the share that reaches the pixel threshold."
        )
    if has_review and rule.review is not None:
        text += f" At most {_percent(rule.review)} will be NG or review."
    return (
        text
        + " It holds for good images like these, taken in the same way, and says nothing of defects that are missed."
    )


def _too_few(n: int, rule: Rule) -> str:
    how = "on average over calibrations" if rule.confidence is None else f"with {_percent(rule.confidence)} confidence"
    best = best_share(n, confidence=rule.confidence)
    return (
        f"{n} good {'image is' if n == 1 else 'images are'} too few for {_percent(rule.max_false_rejects)}: the best that they "
        f"can promise, {how}, is "
        f"{_percent(best)}; give {needed(rule.max_false_rejects, confidence=rule.confidence)}, or allow more with "
        f"--max-false-rejects"
    )


def _review(rule: Rule, good: Sequence[Scored], image: float) -> tuple[float | None, tuple[str, ...]]:
    """The lower end of the review band by the rule's own promise at its larger share, where it lies below the image threshold."""
    if rule.review is None:
        return None, ()
    most = allowed_above(len(good), rule.review, confidence=rule.confidence)
    if most is None:
        fewest = needed(rule.review, confidence=rule.confidence)
        return None, (f"no review band: {_percent(rule.review)} takes {fewest} good images",)
    review = threshold_above([image.image_score for image in good], most)
    if review >= image:
        return None, (f"no review band: its threshold, {review:.4g}, would not lie below the image threshold",)
    return review, ()


def _unlabelled(rule: Rule, images: Sequence[Scored]) -> CalibratedThresholds:
    scores = [image.image_score for image in images]
    image = mirrored(scores, rule.max_false_rejects)
    review = None if rule.review is None else mirrored(scores, rule.review)
    return CalibratedThresholds(
        image=image,
        review=review if review is not None and review < image else None,
        pixel=mirrored([image.map_peak for image in images], rule.max_false_rejects),
        promise=(
            f"Nothing is promised. An estimate from {len(images)} unlabelled images of where {_percent(rule.max_false_rejects)} "
            "of the good ones would be NG, if most of them are good and good scores spread alike to both sides of their middle."
        ),
        figures={"max_false_rejects": None, "estimated_for": rule.max_false_rejects, "n": len(images)},
    )


def _labelled(rule: Rule, good: Sequence[Scored], bad: Sequence[Scored]) -> CalibratedThresholds:
    def choose(name: Literal["image_score", "map_peak"]) -> Labelled:
        scores = [getattr(image, name) for image in good], [getattr(image, name) for image in bad]
        if rule.cost_miss is None or rule.cost_false_reject is None:
            return best_f1(*scores)
        return least_cost(*scores, miss=rule.cost_miss, false_reject=rule.cost_false_reject)

    image, peak = choose("image_score"), choose("map_peak")
    pixel, notes = _below_one(peak.threshold)
    if image.threshold > HIGHEST:
        raise UsageError("good images have the highest score there is, 1: at these costs it is best to call nothing NG")
    review, review_note = _review(rule, good, image.threshold)
    by = (
        "the highest F1"
        if rule.cost_miss is None
        else f"the least cost (a miss {rule.cost_miss:g}, a false reject {rule.cost_false_reject:g})"
    )
    return CalibratedThresholds(
        image=image.threshold,
        review=review,
        pixel=pixel,
        promise=(
            f"Nothing is promised. By {by} on {len(good)} good and {len(bad)} bad images, in this mixture: on these very images "
            f"{image.false_rejects} false rejects and {image.misses} misses (precision {image.precision:.3f}, recall "
            f"{image.recall:.3f}, F1 {image.f1:.3f}); on others expect somewhat worse."
        ),
        figures={
            "max_false_rejects": None,
            "n": len(good),
            "n_bad": len(bad),
            "image": asdict(image),
            "pixel": asdict(peak),
        },
        notes=(*notes, *review_note),
    )


def _below_one(pixel: float) -> tuple[float | None, tuple[str, ...]]:
    if pixel <= HIGHEST:
        return pixel, ()
    return None, (
        "no pixel threshold: maps of good images reach the highest score there is, 1; the model card's stays in force",
    )


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %" if share < 0.1 else f"{100 * share:.4g} %"
