"""calibration.json: thresholds with their rule, promise, scores and setup; and adding false alarms to it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from blemish.calibration.rules import Lines, Rule, Scored, draw_lines
from blemish.calibration.setup import Setup
from blemish.errors import UsageError
from blemish.io.atomic import reason, write_text

__all__ = ["MOST_KEPT", "SCHEMA", "Calibration", "calibrate", "read_calibration"]

SCHEMA = "blemish.calibration/1"
RAISED = "The thresholds were only raised since, by false alarms (see history); that keeps what is promised."
MOST_KEPT = 20_000  # scores in the file; of more a digest stands for them


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What `blemish calibrate` found, and everything needed to check it and to go on from it.

    good and bad: the scores, the highest first; empty where they were too many to keep (`n_good`, `n_bad` and `digest` stand
    for them). history: what has changed the thresholds since, and why.
    """

    rule: Rule
    lines: Lines
    setup: Setup
    types: tuple[str, ...]
    n_good: int
    n_bad: int
    good: tuple[Scored, ...]
    bad: tuple[Scored, ...]
    digest: str
    created: str
    command: tuple[str, ...] = ()
    history: tuple[Mapping[str, Any], ...] = ()
    version: str = ""

    @property
    def identity(self) -> str:
        """16 hex digits of thresholds, setup and scores: what results refer to."""
        parts = [self.lines.image, self.lines.review, self.lines.pixel, self.setup.to_dict(), self.digest]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]

    def to_dict(self) -> dict[str, Any]:
        """The documented file (docs/calibration.md), ready for JSON."""
        lines = self.lines
        return {
            "schema": SCHEMA,
            "id": self.identity,
            "thresholds": {"image": lines.image, "review": lines.review, "pixel": lines.pixel},
            "promise": lines.promise,
            "figures": dict(lines.figures),
            "notes": list(lines.notes),
            "rule": self.rule.to_dict(),
            "n_good": self.n_good,
            "n_bad": self.n_bad,
            "setup": self.setup.to_dict(),
            "types": list(self.types),
            "created": self.created,
            "command": list(self.command),
            "version": self.version,
            "history": [dict(entry) for entry in self.history],
            "scores": {
                "digest": self.digest,
                "good": [asdict(one) for one in self.good],
                "bad": [asdict(one) for one in self.bad],
            },
        }

    def write(self, path: str | Path) -> None:
        """Put the file at `path`, whole or not at all."""
        write_text(Path(path), json.dumps(self.to_dict(), indent=2, allow_nan=False) + "\n")

    def check(self, setup: Setup) -> None:
        """UsageError with both sides named where scores made with `setup` cannot be held against these thresholds."""
        differences = self.setup.differences(setup)
        if differences:
            raise UsageError(f"the calibration {self.identity} was made with {'; with '.join(differences)}")

    def with_false_alarms(
        self, alarms: Sequence[Scored], *, why: str = "false alarms", command: Sequence[str] = ()
    ) -> Calibration:
        """This calibration with the scores of good images that were called NG, or had regions, among its good ones.

        Images that it holds already count once. No threshold is lowered: chosen images are no random ones, and only what
        moves up keeps the promise. UsageError where the scores were not kept, or nothing is new.
        """
        if self.rule.kind == "unlabelled":
            raise UsageError(
                "false alarms cannot be added to an estimate from unlabelled images: calibrate with good ones"
            )
        if len(self.good) != self.n_good or len(self.bad) != self.n_bad:
            raise UsageError(
                f"this calibration keeps no scores (more than {MOST_KEPT}): calibrate again with the images added"
            )
        known = {one.source for one in self.good}
        new = tuple({one.source: one for one in alarms if one.source not in known}.values())
        if not new:
            raise UsageError("all of these images are among the calibration's good ones already")
        before, good = self.lines, _highest_first((*self.good, *new))
        drawn = draw_lines(self.rule, good, self.bad)
        image = max(before.image, drawn.image)
        promise = drawn.promise if self.rule.kind == "labelled" else before.promise
        review = drawn.review if drawn.review is not None and drawn.review < image else None
        lines = replace(
            drawn,
            promise=promise if RAISED in promise else f"{promise} {RAISED}",
            figures=drawn.figures if self.rule.kind == "labelled" else before.figures,
            image=image,
            review=review if before.review is None or review is None else max(before.review, review),
            pixel=None if drawn.pixel is None or before.pixel is None else max(before.pixel, drawn.pixel),
        )
        entry = {
            "date": _now(),
            "why": why,
            "command": list(command),
            "added": [asdict(one) for one in new],
            "thresholds_before": {"image": before.image, "review": before.review, "pixel": before.pixel},
            "thresholds_after": {"image": lines.image, "review": lines.review, "pixel": lines.pixel},
            "now_below_image_threshold": sum(one.image_score < lines.image for one in new),
        }
        return replace(
            self,
            lines=lines,
            good=good,
            n_good=len(good),
            digest=_digest(good, self.bad),
            history=(*self.history, entry),
        )


def calibrate(
    rule: Rule,
    good: Sequence[Scored],
    bad: Sequence[Scored] = (),
    *,
    setup: Setup,
    types: Sequence[str] = (),
    command: Sequence[str] = (),
    version: str = "",
) -> Calibration:
    """A calibration by this rule from the scores of good (or unlabelled) and bad images; UsageError as `draw_lines`."""
    lines = draw_lines(rule, good, bad)
    keep = len(good) + len(bad) <= MOST_KEPT
    ordered = _highest_first(good), _highest_first(bad)
    return Calibration(
        rule=rule,
        lines=lines,
        setup=setup,
        types=tuple(types),
        n_good=len(good),
        n_bad=len(bad),
        good=ordered[0] if keep else (),
        bad=ordered[1] if keep else (),
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
        raise UsageError(f"{path}: the calibration cannot be read ({reason(error)})") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: is no calibration (not JSON)") from error
    schema = data.get("schema") if isinstance(data, dict) else None
    if schema != SCHEMA:
        raise UsageError(f"{path}: is no calibration of this version ({SCHEMA}), but {schema or 'something else'}")
    try:
        scores, lines = data["scores"], data["thresholds"]
        found = Calibration(
            rule=Rule(**data["rule"]),
            lines=Lines(
                image=float(lines["image"]),
                review=lines["review"],
                pixel=lines["pixel"],
                promise=data["promise"],
                figures=data["figures"],
                notes=tuple(data["notes"]),
            ),
            setup=Setup.from_dict(data["setup"]),
            good=tuple(Scored(**one) for one in scores["good"]),
            bad=tuple(Scored(**one) for one in scores["bad"]),
            digest=scores["digest"],
            types=tuple(data["types"]),
            n_good=data["n_good"],
            n_bad=data["n_bad"],
            created=data["created"],
            command=tuple(data["command"]),
            history=tuple(data["history"]),
            version=data["version"],
        )
        kept = len(found.good) == found.n_good and len(found.bad) == found.n_bad
        unchanged = found.identity == data["id"] and (not kept or _digest(found.good, found.bad) == found.digest)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(f"{path}: the calibration is damaged ({type(error).__name__}: {error})") from error
    if not unchanged:
        raise UsageError(
            f"{path}: thresholds, setup or scores were changed by hand; give your own thresholds with --threshold and "
            "--pixel-threshold, or calibrate again"
        )
    return found


def _highest_first(images: Sequence[Scored]) -> tuple[Scored, ...]:
    return tuple(sorted(images, key=lambda one: (-one.image_score, -one.map_peak, one.source)))


def _digest(good: Sequence[Scored], bad: Sequence[Scored]) -> str:
    """16 hex digits of all scores, the highest first."""
    scores = [[(one.image_score, one.map_peak) for one in images] for images in (good, bad)]
    return hashlib.sha256(json.dumps(scores).encode()).hexdigest()[:16]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
