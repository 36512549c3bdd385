"""Thresholds from images: good ones through an inspector into a calibration, and false alarms added to one."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from blemish._version import __version__
from blemish.calibration import Calibration, Rule, Scored, Setup, calibrate_scores, read_calibration
from blemish.config import Config, ReferencesConfig
from blemish.errors import ImageError, UsageError
from blemish.images import FoundImages, find_images, list_images
from blemish.inspection.inspector import Inspector
from blemish.inspection.load import load, merge
from blemish.inspection.references import find_references
from blemish.io.parsing import read_list
from blemish.io.progress import Reporter
from blemish.io.provenance import command_line
from blemish.profiles import read_profile
from blemish.runs.reading import read_records, read_run

__all__ = [
    "CalibrationOutcome",
    "ImageNames",
    "ScoredImages",
    "add_false_alarms",
    "calibrate",
    "copies_note",
    "distinct_files",
    "image_files",
    "listed_images",
    "review_share",
    "score_images",
    "without_thresholds",
]

ImageNames: TypeAlias = str | Path | Iterable[str | Path]

REVIEW_SHARE = 0.05  # of good images, that may be NG or review where nobody says another
MOST_NAMED = 3


@dataclass(frozen=True, kw_only=True)
class CalibrationOutcome:
    """A calibration, and what became of its images."""

    calibration: Calibration
    path: Path | None = None  # the file that it was written to
    unreadable: tuple[ImageError, ...] = ()  # images that are not in it, and folders that could not be looked into
    before: Calibration | None = None  # what false alarms were added to
    notes: tuple[str, ...] = ()  # what else a person should know of the images


@dataclass(frozen=True, kw_only=True)
class ScoredImages:
    """The scores of images, and the setup that they hold for."""

    scores: tuple[Scored | None, ...]  # in the order of the images, None for unreadable ones
    setup: Setup
    unreadable: tuple[ImageError, ...]


def calibrate(
    good: ImageNames,
    *,
    bad: ImageNames = (),
    max_false_rejects: float = 0.01,
    confidence: float | None = None,
    review: float | Literal["auto"] | None = "auto",
    unlabelled: bool = False,
    cost_miss: float | None = None,
    cost_false_reject: float | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
    config: Config | None = None,
    reporter: Reporter | None = None,
    command: Sequence[str] | None = None,
    **given: Any,
) -> CalibrationOutcome:
    """Finds thresholds from good images, and says what they promise, as `blemish calibrate` does.

    Args:
        good: Good images: files, folders (searched recursively), patterns, .txt lists of them.
        bad: Bad images, likewise: the threshold is then that of the highest F1, or of the least cost.
        max_false_rejects: The share (0..1) of good images that may be called NG.
        confidence: Promise it for this very calibration with this confidence, as 0.95; takes more images.
        review: The share (0..1) of good images that may be called NG or review; "auto" for 5 %, or twice `max_false_rejects`
            where that is more; None for no review band.
        unlabelled: The images are good and bad, nobody knows which: an estimate that promises nothing.
        cost_miss: What a missed bad image costs.
        cost_false_reject: What a good image called NG costs.
        out: The file to write; None writes none.
        overwrite: Replace the file.
        config: A configuration; its thresholds do not matter here.
        reporter: Is told how the work goes on.
        command: What the file names as the command; by default that of this process.
        **given: Settings by their names, as `blemish.load` takes them; they come before those of `config`.

    Returns:
        The calibration, and the images that could not be read.

    Raises:
        UsageError: Too few images for the promise, options that do not go together, or a file that is there already.

    Example:
        >>> outcome = calibrate("good", max_false_rejects=0.05, review=None, out="calibration.json")
        >>> outcome.calibration.n_good, outcome.path.name
        (20, 'calibration.json')
    """
    out = None if out is None else Path(out).expanduser()
    if out is not None and out.exists() and not overwrite:
        raise UsageError(f"{out}: is there already; --overwrite replaces it, --out writes another")
    rule = _rule(
        max_false_rejects,
        review_share(max_false_rejects) if review == "auto" else review,
        confidence=confidence,
        unlabelled=unlabelled,
        labelled=bool(bad),
        cost_miss=cost_miss,
        cost_false_reject=cost_false_reject,
    )
    config = without_thresholds(merge(config, given))
    found = [image_files(good), *([image_files(bad)] if bad else [])]
    good_paths, good_copies = distinct_files(found[0].paths)
    bad_paths, bad_copies = distinct_files(found[1].paths if bad else [])
    both = {path.resolve() for path in good_paths} & {path.resolve() for path in bad_paths}
    if both:
        raise UsageError(f"{min(both)}: is among the good and among the bad images")
    if not unlabelled:  # of unlabelled ones nothing is promised
        _check_apart(good_paths, config)
    inspector = load(config)
    images = score_images(inspector, [*good_paths, *bad_paths], reporter=reporter)
    count = len(good_paths)
    copies = [*good_copies, *bad_copies]
    try:
        calibration = calibrate_scores(
            rule,
            [score for score in images.scores[:count] if score is not None],
            [score for score in images.scores[count:] if score is not None],
            setup=images.setup,
            types=inspector.types,
            command=command_line() if command is None else command,
            version=__version__,
        )
    except UsageError as error:
        if not copies:
            raise
        raise UsageError(f"{error} ({copies_note(copies)})") from error  # they may be why there are too few
    if copies:
        calibration = calibration.with_note(copies_note(copies))
    if out is not None:
        calibration.write(out)
    return CalibrationOutcome(
        calibration=calibration,
        path=out,
        unreadable=(*images.unreadable, *(error for beside in found for error in beside.unlisted)),
        notes=(*(beside.summary for beside in found if beside.summary), *inspector.notes),
    )


def add_false_alarms(
    images: str | Path,
    calibration: str | Path,
    *,
    run: str | Path | None = None,
    out: str | Path | None = None,
    config: Config | None = None,
    reporter: Reporter | None = None,
    command: Sequence[str] | None = None,
    **given: Any,
) -> CalibrationOutcome:
    """Moves the thresholds of a calibration so that good images that were called NG count, as `--false-alarms` does.

    Args:
        images: A text file that names a false alarm a line.
        calibration: The file of the calibration.
        run: A folder of results with their scores, instead of looking at the images again.
        out: The file to write; None replaces `calibration`.
        config: A configuration; not needed with `run`.
        reporter: Is told how the work goes on.
        command: What the file names as the command; by default that of this process.
        **given: Settings by their names, as `blemish.load` takes them.

    Returns:
        The calibration after and before, and the images that could not be read.

    Raises:
        UsageError: The images are not in the run, are all known already, or were scored with another setup.
    """
    images, calibration = Path(images), Path(calibration)
    config = merge(config, given)
    if config.references != ReferencesConfig():
        _check_apart(listed_images(images), config)
    before = read_calibration(calibration)
    unreadable: tuple[ImageError, ...] = ()
    if run is not None:
        alarms = _scores_of_run(run, read_list(images), before)
    else:
        inspector = load(without_thresholds(config).with_settings(calibration=calibration))
        scored = score_images(inspector, listed_images(images), reporter=reporter)
        before.check(scored.setup)
        alarms, unreadable = [score for score in scored.scores if score is not None], scored.unreadable
    words = command_line() if command is None else command
    after = before.with_false_alarms(alarms, reason=f"false alarms listed in {images}", command=words)
    path = calibration if out is None else Path(out).expanduser()
    after.write(path)
    return CalibrationOutcome(calibration=after, path=path, unreadable=unreadable, before=before)


def score_images(inspector: Inspector, paths: Sequence[Path], *, reporter: Reporter | None = None) -> ScoredImages:
    """The scores of images, in their order.

    Raises:
        UsageError: None of them can be read, or images with more than 8 bits do not share one value range.
    """
    scores: list[Scored | None] = []
    unreadable: list[ImageError] = []
    ranges = set()
    with (reporter or Reporter()).progress("scoring", len(paths)) as advance:
        for outcome in inspector.stream(list(paths)):
            if isinstance(outcome, ImageError):
                unreadable.append(outcome)
                scores.append(None)
            else:
                inspection = outcome.inspection
                scores.append(Scored(inspection.source, inspection.image_score, float(inspection.map_peak or 0)))
                if inspection.value_range is not None:
                    ranges.add(inspection.value_range)
            advance()
    if len(unreadable) == len(paths):
        raise UsageError(f"none of the {len(paths)} images can be used; the first: {unreadable[0]}")
    setup = inspector.setup
    if setup.value_range is None and len(ranges) > 1:
        raise UsageError(
            "the images were read with several value ranges, and their scores cannot be compared: give --range"
        )
    return ScoredImages(scores=tuple(scores), setup=setup.with_ranges(ranges), unreadable=tuple(unreadable))


def _rule(
    max_false_rejects: float,
    review: float | None,
    *,
    confidence: float | None,
    unlabelled: bool,
    labelled: bool,
    cost_miss: float | None,
    cost_false_reject: float | None,
) -> Rule:
    if unlabelled and (labelled or confidence is not None):
        raise UsageError("--unlabelled goes with neither --bad nor --confidence: nothing can be promised then")
    if labelled and confidence is not None:
        raise UsageError("--bad goes without --confidence: a promise comes from good images alone")
    if not labelled and (cost_miss, cost_false_reject) != (None, None):
        raise UsageError("costs take bad images, too: give --bad")
    for_good_ones = "average" if confidence is None else "confidence"
    return Rule(
        kind="labelled" if labelled else "unlabelled" if unlabelled else for_good_ones,  # type: ignore[arg-type]
        max_false_rejects=max_false_rejects,
        review=review,
        confidence=confidence,
        cost_miss=cost_miss,
        cost_false_reject=cost_false_reject,
    )


def review_share(max_false_rejects: float) -> float:
    """The share of good images that may be NG or review where nobody says one: 5 %, or twice that of false rejects."""
    return max(REVIEW_SHARE, min(2 * max_false_rejects, (1 + max_false_rejects) / 2))


def listed_images(path: Path) -> list[Path]:
    """The image files that a text file names, one a line; a folder in it stands for the images in it."""
    return list_images(read_list(path))


def without_thresholds(config: Config) -> Config:
    """A configuration whose thresholds are the card's: they are what is looked for."""
    return config.with_settings(threshold=None, pixel_threshold=None, calibration=None)


def _check_apart(good: Sequence[Path], config: Config) -> None:
    """UsageError where a good image is one of those that all are compared with: what is promised is for images that are not."""
    if config.references.profile is not None:
        known = {Path(image.source).resolve() for image in read_profile(config.references.profile).images}
        shared = [path for path in good if path.resolve() in known]
        if shared:
            raise UsageError(
                f"{len(shared)} of the good images, {shared[0]} the first, are in the profile; what is promised holds for "
                "images that are not: give others, or let blemish learn find the thresholds"
            )
    peers = None if config.references.peers == "off" else config.references.peers
    if peers == "auto":
        raise UsageError(
            "good images that judge each other promise nothing of others: give --peers other images of the product, or let "
            "blemish learn make a profile of the good ones"
        )
    for option, images in (("peers", peers), ("references", config.references.references)):
        if images is None:
            continue
        compared = {Path(str(image)).resolve() for image in find_references(images, good=option == "references")}
        shared = [path for path in good if path.resolve() in compared]
        if shared:
            raise UsageError(
                f"{len(shared)} of the good images, {shared[0]} the first, are among the {option}; what is promised holds for "
                f"images that are not: give --{option} other images of the product"
            )


def image_files(images: ImageNames) -> FoundImages:
    """The image files meant, and what lay beside them; a .txt file is a list of them."""
    named = [images] if isinstance(images, str | Path) else list(images)
    asked: list[str | Path] = []
    for name in named:
        asked += read_list(Path(name)) if Path(name).suffix.lower() == ".txt" else [name]
    return find_images(asked)


def distinct_files(paths: Sequence[Path]) -> tuple[list[Path], list[tuple[Path, Path]]]:
    """The files with different content, and each copy with the file that it is a copy of."""
    first: dict[str, Path] = {}
    copies: list[tuple[Path, Path]] = []
    for path in paths:
        try:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError:  # its error is told where it is read
            digest = str(path)
        if digest in first:
            copies.append((path, first[digest]))
        else:
            first[digest] = path
    return list(first.values()), copies


def copies_note(copies: Sequence[tuple[Path, Path]]) -> str:
    shown = ", ".join(f"{copy} = {original}" for copy, original in copies[:MOST_NAMED])
    more = f" and {len(copies) - MOST_NAMED} more" if len(copies) > MOST_NAMED else ""
    are = (
        "1 image is a copy of another and does"
        if len(copies) == 1
        else f"{len(copies)} images are copies of others and do"
    )
    return f"{are} not count again: {shown}{more}"


def _scores_of_run(run: str | Path, listed: Sequence[str], before: Calibration) -> list[Scored]:
    """The scores of the listed images in a finished run; UsageError where one is not in it, or it was made with another setup."""
    before.check(read_run(run).setup)
    known = {str(record["source"]): record for record in read_records(run) if record["verdict"] is not None}
    resolved = {str(Path(source).resolve()): source for source in known}
    found = []
    for name in listed:
        source = name if name in known else resolved.get(str(Path(name).resolve()))
        if source is None:
            raise UsageError(f"{run}: holds no result of {name}; leave --run out to look at the images again")
        found.append(Scored(source, known[source]["image_score"], known[source]["map_peak"]))
    return found
