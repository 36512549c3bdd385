"""From scores to decisions: which thresholds are in force, and what an image's verdict is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from blemish.calibration import CalibratedThresholds
from blemish.results import Thresholds, Verdict

__all__ = ["decide", "region_threshold", "resolve_thresholds"]

DEFAULT_THRESHOLD = 0.5  # where a card has none


def resolve_thresholds(
    card: Mapping[str, float] | None = None,
    *,
    calibration: CalibratedThresholds | None = None,
    image: float | None = None,
    pixel: float | None = None,
    only_map: bool = False,
    current: Thresholds | None = None,
) -> Thresholds:
    """The thresholds in force: the user's before the calibration's, those before the model card's or the current ones.

    A review threshold stays where it lies below the image threshold; else there is no review band.

    Args:
        card: The model card's "image", "review" and "pixel" thresholds, each 0..1, where it has them.
        calibration: Those of `blemish calibrate`.
        image: The user's image threshold, 0..1.
        pixel: The user's pixel threshold, 0..1.
        only_map: The image score is the map's peak, so that the card's pixel threshold serves both.
        current: The thresholds of a run that is decided again; they stand in the place of the card's.

    Raises:
        UsageError: A threshold is not in 0..1.

    Example:
        >>> resolve_thresholds({"image": 0.6, "review": 0.4, "pixel": 0.5}, image=0.3)
        Thresholds(image=0.3, pixel=0.5, review=None, calibration='user', pixel_calibration='uncalibrated')
    """
    card = card or {}
    card_pixel = float(card.get("pixel", DEFAULT_THRESHOLD))
    if current is not None:
        review, thresholds = current.review, replace(current, review=None)
    elif only_map:
        review, thresholds = None, Thresholds(image=card_pixel if pixel is None else float(pixel), pixel=card_pixel)
    else:
        review = card.get("review")
        thresholds = Thresholds(image=float(card.get("image", DEFAULT_THRESHOLD)), pixel=card_pixel)
    if calibration is not None:
        thresholds = replace(thresholds, image=float(calibration.image), calibration="calibrated")
        review = calibration.review
        if calibration.pixel is not None:
            thresholds = replace(thresholds, pixel=float(calibration.pixel), pixel_calibration="calibrated")
    if image is not None:
        thresholds = replace(thresholds, image=float(image), calibration="user")
    if pixel is not None:
        thresholds = replace(thresholds, pixel=float(pixel), pixel_calibration="user")
    return replace(thresholds, review=float(review) if review is not None and review < thresholds.image else None)


def decide(image_score: float, thresholds: Thresholds) -> Verdict:
    """The verdict of an image: NG from the image threshold up, REVIEW from the review threshold up, else OK.

    Example:
        >>> decide(0.5, Thresholds(image=0.6, pixel=0.5, review=0.5)).value
        'review'
    """
    if image_score >= thresholds.image:
        return Verdict.NG
    if thresholds.review is not None and image_score >= thresholds.review:
        return Verdict.REVIEW
    return Verdict.OK


def region_threshold(verdict: Verdict, thresholds: Thresholds, *, map_peak: float) -> float:
    """The score that a region's peak reaches: the pixel threshold, or the map's highest score in an image that is not OK.

    So an image that is not OK always shows where it scored highest, also where no pixel reaches the pixel threshold.

    Example:
        >>> region_threshold(Verdict.NG, Thresholds(image=0.6, pixel=0.9), map_peak=0.7)
        0.7
    """
    if verdict is Verdict.OK or map_peak <= 0:
        return thresholds.pixel
    return min(thresholds.pixel, map_peak)
