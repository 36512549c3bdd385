"""Thresholds of a profile: by the rules of calibration, from scores that good images have without themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from blemish._version import __version__
from blemish.calibration import Calibration, Rule, Scored, Setup, calibrate_scores
from blemish.calibration.conformal import needed
from blemish.profiles import GoodImage
from blemish.runs.calibrate import review_share

__all__ = ["FEWEST_FOR_THRESHOLDS", "WantedPromise", "promised"]

FEWEST_FOR_THRESHOLDS = 10
SHARES = (0.01, 0.05, 0.1)  # of false rejects: the least that the images can promise is taken where nobody says one
WITHOUT_ITSELF = (
    "each image was scored by a memory without itself; that the promise holds is a theorem where more good images never raise a "
    "score, and was measured where they may (docs/calibration.md)"
)


@dataclass(frozen=True, kw_only=True)
class WantedPromise:
    """What somebody asked a profile to promise."""

    max_false_rejects: float | Literal["auto"] = "auto"  # share of good images that may be NG, 0..1
    confidence: float | None = None  # 0..1, that this very profile keeps it
    review: float | Literal["auto"] | None = (
        "auto"  # share of good images that may be NG or review, 0..1; None: no band
    )

    @classmethod
    def of(cls, rule: Rule) -> WantedPromise:
        """What led to a rule."""
        return cls(max_false_rejects=rule.max_false_rejects, confidence=rule.confidence, review=rule.review)

    def rule(self, images: int) -> Rule | None:
        """The rule for so many good images; None where they are too few and nobody asked for a share."""
        share = self.max_false_rejects
        if share == "auto":
            reached = [each for each in SHARES if images >= needed(each, confidence=self.confidence)]
            if images < FEWEST_FOR_THRESHOLDS or not reached:
                return None
            share = reached[0]
        return Rule(
            kind="average" if self.confidence is None else "confidence",
            max_false_rejects=share,
            review=review_share(share) if self.review == "auto" else self.review,
            confidence=self.confidence,
        )


def promised(
    wanted: WantedPromise,
    images: Sequence[GoodImage],
    *,
    setup: Setup,
    types: Sequence[str],
    command: Sequence[str],
    split: bool,
) -> Calibration | None:
    """The calibration from the scores of good images; None where they are too few and nobody asked for a share.

    Images that were added because they had been called NG only raise thresholds, as false alarms do in `blemish calibrate`.

    Args:
        wanted: What to promise.
        images: The scored images of a profile.
        setup: What decided the scores.
        types: The defect names, for the file.
        command: The command line, for the file.
        split: The images that calibrate are not in the memory: only those count.

    Raises:
        UsageError: There are too few images for what was asked for.
    """
    counting = [image for image in images if image.memory_digest is None] if split else list(images)
    drawn = [_scored(image) for image in counting if image.origin == "drawn"]
    added = [_scored(image) for image in images if image.origin == "added" and image.seen.image_score is not None]
    rule = wanted.rule(len(drawn))
    if rule is None:
        return None
    calibration = calibrate_scores(rule, drawn, setup=setup, types=types, command=command, version=__version__)
    if not split:
        calibration = calibration.with_note(WITHOUT_ITSELF)
    return calibration.with_false_alarms(added, command=command) if added else calibration


def _scored(image: GoodImage) -> Scored:
    return Scored(image.source, float(image.seen.image_score or 0), float(image.map_peak or 0))
