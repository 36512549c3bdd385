"""calibration.json: thresholds with their rule, promise, scores and setup; and adding false alarms to it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from blemish.calibration.rules import CalibratedThresholds, Rule, Scored, find_thresholds
from blemish.calibration.setup import Setup
from blemish.errors import UsageError
from blemish.io import atomic
from blemish.io.atomic import write_text
from blemish.io.codec import from_dict, to_dict

__all__ = ["MOST_SCORES", "Calibration", "calibrate_scores", "calibration_from", "read_calibration"]

CALIBRATION_SCHEMA = "blemish.calibration/1"
RAISED = "The thresholds were only raised since, by false alarms (see history); that keeps what is promised."
MOST_SCORES = 20_000  # scores in the file; of more a digest stands for them


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What `blemish calibrate` found, and everything needed to check it and to go on from it."""

    rule: Rule
    thresholds: CalibratedThresholds
    setup: Setup
    types: tuple[str, ...]  # the defect names of the run
    n_good: int
    n_bad: int
    good: tuple[Scored, ...]  # the highest score first; empty where there were too many for the file
    bad: tuple[Scored, ...]  # likewise
    digest: str  # 16 hex digits of all scores
    created: str  # ISO 8601, UTC
    command: tuple[str, ...] = ()
    history: tuple[Mapping[str, Any], ...] = ()  # what has changed the thresholds since, and why
    version: str = ""

    @property
    def identity(self) -> str:
        """16 hex digits of thresholds, setup and scores: what results refer to."""
        parts = [*_numbers(self.thresholds).values(), self.setup.to_dict(), self.digest]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def holds_all_scores(self) -> bool:
        return (len(self.good), len(self.bad)) == (self.n_good, self.n_bad)

    def to_dict(self) -> dict[str, Any]:
        """The documented file (docs/calibration.md), ready for JSON."""
        return {
            "schema": CALIBRATION_SCHEMA,
            "id": self.identity,
            "thresholds": _numbers(self.thresholds),
            "promise": self.thresholds.promise,
            "figures": dict(self.thresholds.figures),
            "notes": list(self.thresholds.notes),
            "rule": to_dict(self.rule, keep_none=True),
            "n_good": self.n_good,
            "n_bad": self.n_bad,
            "setup": self.setup.to_dict(),
            "types": list(self.types),
            "created": self.created,
            "command": list(self.command),
            "version": self.version,
            "history": [dict(entry) for entry in self.history],
            "scores": {"digest": self.digest, "good": _plain(self.good), "bad": _plain(self.bad)},
        }

    def write(self, path: str | Path) -> None:
        """Put the file at `path`, whole or not at all."""
        write_text(Path(path), json.dumps(self.to_dict(), indent=2, allow_nan=False) + "\n")

    def with_note(self, note: str) -> Calibration:
        """This calibration with one more note."""
        return replace(self, thresholds=replace(self.thresholds, notes=(*self.thresholds.notes, note)))

    def check(self, setup: Setup) -> None:
        """UsageError with both sides named where scores made with `setup` cannot be held against these thresholds."""
        differences = self.setup.differences(setup)
        if differences:
            raise UsageError(f"the calibration {self.identity} was made with {'; with '.join(differences)}")

    def with_false_alarms(
        self, alarms: Sequence[Scored], *, reason: str = "false alarms", command: Sequence[str] = ()
    ) -> Calibration:
        """This calibration with the scores of good images that were called NG, or had regions, among its good ones.

        Images that it holds already count once. No threshold is lowered: chosen images are no random ones, and only what
        moves up keeps the promise.

        Raises:
            UsageError: The scores are not in the file, nothing is new, or the rule is an estimate.
        """
        if self.rule.kind == "unlabelled":
            raise UsageError(
                "false alarms cannot be added to an estimate from unlabelled images: calibrate with good ones"
            )
        if not self.holds_all_scores:
            raise UsageError(
                f"this calibration keeps no scores (more than {MOST_SCORES}): calibrate again with the images added"
            )
        known = {image.source for image in self.good}
        new = tuple({image.source: image for image in alarms if image.source not in known}.values())
        if not new:
            raise UsageError("all of these images are among the calibration's good ones already")
        good = _highest_first((*self.good, *new))
        thresholds = _only_raised(self.thresholds, find_thresholds(self.rule, good, self.bad), kind=self.rule.kind)
        entry = {
            "date": _now(),
            "why": reason,
            "command": list(command),
            "added": _plain(new),
            "thresholds_before": _numbers(self.thresholds),
            "thresholds_after": _numbers(thresholds),
            "now_below_image_threshold": sum(image.image_score < thresholds.image for image in new),
        }
        return replace(
            self,
            thresholds=thresholds,
            good=good,
            n_good=len(good),
            digest=_digest(good, self.bad),
            history=(*self.history, entry),
        )


def calibrate_scores(
    rule: Rule,
    good: Sequence[Scored],
    bad: Sequence[Scored] = (),
    *,
    setup: Setup,
    types: Sequence[str] = (),
    command: Sequence[str] = (),
    version: str = "",
) -> Calibration:
    """A calibration by this rule from the scores of good (or unlabelled) and bad images.

    Args:
        rule: How the thresholds are chosen.
        good: Scores of good images, or of unlabelled ones where the rule says so.
        bad: Scores of bad images, for the rule "labelled".
        setup: What decided the scores.
        types: The defect names, for the file.
        command: The command line, for the file.
        version: The version of Blemish, for the file.

    Raises:
        UsageError: As `find_thresholds`.
    """
    thresholds = find_thresholds(rule, good, bad)
    fits = len(good) + len(bad) <= MOST_SCORES
    ordered = _highest_first(good), _highest_first(bad)
    return Calibration(
        rule=rule,
        thresholds=thresholds,
        setup=setup,
        types=tuple(types),
        n_good=len(good),
        n_bad=len(bad),
        good=ordered[0] if fits else (),
        bad=ordered[1] if fits else (),
        digest=_digest(*ordered),
        created=_now(),
        command=tuple(command),
        version=version,
    )


def read_calibration(path: str | Path) -> Calibration:
    """The calibration in a file; UsageError where it is none, or was changed by hand."""
    path = Path(path).expanduser()
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: the calibration cannot be read ({atomic.reason(error)})") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: is no calibration (not JSON)") from error
    return calibration_from(data, path)


def calibration_from(data: Any, path: Path) -> Calibration:
    """The calibration in the content of a file, which errors name; UsageError where it is none, or was changed by hand."""
    schema = data.get("schema") if isinstance(data, dict) else None
    if schema != CALIBRATION_SCHEMA:
        raise UsageError(
            f"{path}: is no calibration of this version ({CALIBRATION_SCHEMA}), but {schema or 'something else'}"
        )
    try:
        scores, promised = data["scores"], {key: data[key] for key in ("promise", "figures", "notes")}
        found = Calibration(
            rule=from_dict(Rule, data["rule"]),
            thresholds=from_dict(CalibratedThresholds, {**data["thresholds"], **promised}),
            setup=Setup.from_dict(data["setup"]),
            good=tuple(from_dict(Scored, image) for image in scores["good"]),
            bad=tuple(from_dict(Scored, image) for image in scores["bad"]),
            digest=scores["digest"],
            types=tuple(data["types"]),
            n_good=data["n_good"],
            n_bad=data["n_bad"],
            created=data["created"],
            command=tuple(data["command"]),
            history=tuple(data["history"]),
            version=data["version"],
        )
        intact = not found.holds_all_scores or _digest(found.good, found.bad) == found.digest
        unchanged = intact and found.identity == data["id"]
    except (KeyError, TypeError, ValueError, AttributeError, UsageError) as error:
        raise UsageError(f"{path}: the calibration is damaged ({type(error).__name__}: {error})") from error
    if not unchanged:
        raise UsageError(
            f"{path}: thresholds, setup or scores were changed by hand; give your own thresholds with --threshold and "
            "--pixel-threshold, or calibrate again"
        )
    return found


def _only_raised(before: CalibratedThresholds, found: CalibratedThresholds, *, kind: str) -> CalibratedThresholds:
    """The newly found thresholds where they are higher than before, else those before; what is promised stays."""
    image = max(before.image, found.image)
    review = found.review if found.review is not None and found.review < image else None
    promised = found if kind == "labelled" else before
    return replace(
        found,
        promise=promised.promise if RAISED in promised.promise else f"{promised.promise} {RAISED}",
        figures=promised.figures,
        image=image,
        review=review if before.review is None or review is None else max(before.review, review),
        pixel=None if found.pixel is None or before.pixel is None else max(before.pixel, found.pixel),
    )


def _numbers(thresholds: CalibratedThresholds) -> dict[str, float | None]:
    return {"image": thresholds.image, "review": thresholds.review, "pixel": thresholds.pixel}


def _plain(images: Sequence[Scored]) -> list[dict[str, Any]]:
    return [to_dict(image) for image in images]


def _highest_first(images: Sequence[Scored]) -> tuple[Scored, ...]:
    return tuple(sorted(images, key=lambda image: (-image.image_score, -image.map_peak, image.source)))


def _digest(good: Sequence[Scored], bad: Sequence[Scored]) -> str:
    """16 hex digits of all scores, the highest first."""
    scores = [[(image.image_score, image.map_peak) for image in images] for images in (good, bad)]
    return hashlib.sha256(json.dumps(scores).encode()).hexdigest()[:16]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
