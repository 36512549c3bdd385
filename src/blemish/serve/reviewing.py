"""Reviews: what people say of inspections; and calibration from them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import insert, select, update
from sqlalchemy.engine import Engine

from blemish._version import __version__
from blemish.calibration import Calibration, Rule, Scored, Setup, calibrate_scores, read_calibration
from blemish.errors import UsageError
from blemish.serve.clock import iso, now_ms
from blemish.serve.database.tables import inspections, reviews
from blemish.serve.history import reading
from blemish.serve.profiles import StoredProfile

__all__ = ["GOOD_LABELS", "LABELS", "Review", "calibrated_from_reviews", "review", "reviews_of"]

Label = Literal["accept", "reject", "other_type", "false_alarm"]
# accept: the part passes. reject: it is bad, as found. other_type: it is bad, of another type. false_alarm: it is good, and
# what was found is no defect.
LABELS: tuple[Label, ...] = ("accept", "reject", "other_type", "false_alarm")
GOOD_LABELS = ("accept", "false_alarm")
LONGEST_NOTE = 2000
NOT_RANDOM = (
    "From reviewed images: people look at REVIEW and NG images more often than at OK ones, so that these were not drawn at "
    "random, as a promise supposes."
)


@dataclass(frozen=True, kw_only=True)
class Review:
    """What a person says of an inspection."""

    label: Label
    reviewer: str
    type: str | None = None  # for other_type
    note: str = ""

    def __post_init__(self) -> None:
        if self.label == "other_type" and not (self.type or "").strip():
            raise UsageError("a review with the label other_type names the type")
        if len(self.note) > LONGEST_NOTE:
            raise UsageError(f"a note has at most {LONGEST_NOTE} characters, not {len(self.note)}")


def review(db: Engine, image_id: str, said: Review, *, token: str) -> dict[str, Any]:
    """Adds a review, which counts from now on; UsageError where there is no such inspection with a verdict."""
    with db.begin() as connection:
        row = connection.execute(
            select(inspections.c.number, inspections.c.verdict).where(inspections.c.id == image_id)
        ).one_or_none()
        if row is None or row.verdict is None:
            raise UsageError(f"there is no inspected image {image_id[:40]}")
        made = {
            "inspection": row.number,
            "created_ms": now_ms(),
            "label": said.label,
            "type": said.type,
            "note": said.note,
            "reviewer": said.reviewer,
            "token": token,
        }
        connection.execute(insert(reviews).values(**made))
        connection.execute(
            update(inspections).where(inspections.c.number == row.number).values(review_label=said.label)
        )
    return _shown(made)


def reviews_of(db: Engine, number: int) -> list[dict[str, Any]]:
    """The reviews of an inspection, the newest first."""
    with reading(db) as connection:
        found = connection.execute(
            select(reviews).where(reviews.c.inspection == number).order_by(reviews.c.number.desc())
        )
        return [_shown(row._asdict()) for row in found]


def calibrated_from_reviews(
    db: Engine,
    profile: StoredProfile,
    *,
    versions: Sequence[int],
    calibration_file: str | None,
    max_false_rejects: float = 0.01,
) -> tuple[Calibration, int, int]:
    """A calibration from what people said of a profile's images, and how many good and bad ones it is from.

    With a calibration before, the good images that were called NG or REVIEW are added to it: it only rises, and its promise
    stays. Without one, thresholds come from the reviewed good images alone, or with bad ones by the highest F1.

    Args:
        db: The database.
        profile: The profile.
        versions: Those of its versions whose scores can be compared.
        calibration_file: The file of its calibration.
        max_false_rejects: The share of good images that may be NG, 0..1.

    Raises:
        UsageError: There are too few reviews, or nothing is new.
    """
    if profile.setup is None:
        raise UsageError(f"no image was inspected with the profile {profile.name!r} as it is now")
    setup = Setup.from_dict(profile.setup)
    good, bad = _scored(db, profile.name, versions, setup)
    if not good:
        raise UsageError(
            "no image of this profile, inspected as it is now, was reviewed as good: accept some, or mark false alarms"
        )
    if calibration_file is not None:
        alarms = [scored for scored, verdict in good if verdict != "ok"]
        if not alarms:
            raise UsageError("no image that was called NG or REVIEW was reviewed as good: there is nothing to add")
        return read_calibration(calibration_file).with_false_alarms(alarms, reason="reviews"), len(alarms), 0
    good_scores, bad_scores = [scored for scored, _ in good], [scored for scored, _ in bad]
    rule = Rule(kind="labelled" if bad else "average", max_false_rejects=max_false_rejects, review=None)
    made = calibrate_scores(
        rule, good_scores, bad_scores, setup=setup, command=("blemish", "serve", "reviews"), version=__version__
    )
    return made.with_note(NOT_RANDOM), len(good), len(bad)


def _scored(
    db: Engine, profile: str, versions: Sequence[int], setup: Setup
) -> tuple[list[tuple[Scored, str]], list[tuple[Scored, str]]]:
    """The scores and verdicts of reviewed images that this setup holds for, good ones and bad ones."""
    good: list[tuple[Scored, str]] = []
    bad: list[tuple[Scored, str]] = []
    c = inspections.c
    with reading(db) as connection:
        rows = connection.execute(
            select(c.id, c.record, c.settings, c.review_label, c.verdict).where(
                c.profile == profile, c.profile_version.in_(versions), c.review_label.is_not(None)
            )
        )
        for row in rows:
            record, asked = json.loads(row.record), json.loads(row.settings)
            other_names = setup.vocabulary and ("defects" in asked or "vocabulary" in asked)
            if record["model"]["fingerprint"] != setup.model.fingerprint or other_names:
                continue
            scored = Scored(row.id, record["image_score"], record["map_peak"])
            (good if row.review_label in GOOD_LABELS else bad).append((scored, row.verdict))
    return good, bad


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "label": row["label"],
        "type": row["type"],
        "note": row["note"],
        "reviewer": row["reviewer"],
        "token": row["token"],
        "when": iso(row["created_ms"]),
    }
