"""`blemish calibrate`: thresholds from good images, with what they promise, into a small file."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from blemish._version import __version__
from blemish.cli import options
from blemish.errors import ImageError, UsageError

if TYPE_CHECKING:
    from blemish.calibration import Calibration, Rule, Scored, Setup
    from blemish.inspection.inspector import Inspector

__all__ = ["calibrate"]

DEFAULT_NAME = Path("calibration.json")
UNREADABLE = 3
OFF = "off"


def calibrate(
    paths: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="GOOD...", help="Good images: files, folders (recursive), patterns, .txt lists.", show_default=False
        ),
    ] = None,
    *,
    max_false_rejects: Annotated[str, typer.Option(metavar="SHARE", help="Good images that may be called NG.")] = "1%",
    confidence: Annotated[
        str | None,
        typer.Option(metavar="SHARE", help="Promise it for this very calibration, as 95%; takes more images."),
    ] = None,
    review: Annotated[
        str, typer.Option(metavar="SHARE", help="Good images that may be called NG or review; off for no review.")
    ] = "5%",
    unlabelled: Annotated[
        bool, typer.Option("--unlabelled", help="The images are good and bad, nobody knows which: a mere estimate.")
    ] = False,
    bad: Annotated[
        list[str] | None, typer.Option(help="Bad images, as GOOD: the threshold of the highest F1, or the least cost.")
    ] = None,
    cost_miss: Annotated[float | None, typer.Option(help="What a missed bad image costs.")] = None,
    cost_false_reject: Annotated[float | None, typer.Option(help="What a good image called NG costs.")] = None,
    false_alarms: Annotated[
        Path | None,
        typer.Option(help="List of good images that were called NG: moves the thresholds of --calibration."),
    ] = None,
    calibration: Annotated[Path | None, typer.Option(help="The calibration that --false-alarms moves.")] = None,
    run: Annotated[
        Path | None, typer.Option(help="Folder of results with the scores of --false-alarms, instead of looking again.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="File to write. Default: calibration.json; with --false-alarms, in place.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file.")] = False,
    defects: options.Defects = None,
    method: options.Method = None,
    backbone: options.Backbone = "embedded",
    prompts: options.Prompts = None,
    settings: options.Settings = None,
    force: options.Force = False,
    input_px: options.InputPx = None,
    tiles: options.Tiles = None,
    peers: options.Peers = None,
    roi: options.Roi = None,
    ignore: options.Ignore = None,
    value_range: options.Range = None,
    max_megapixels: options.Megapixels = 200.0,
    device: options.Device = "cpu",
    batch_size: options.BatchSize = 8,
    quiet: options.Quiet = False,
) -> None:
    """Choose thresholds from good images alone, and say what they promise.

    Exit codes: 0 done, 2 bad usage or too few images, 3 done, but some images could not be read.
    """
    if (false_alarms is None) != (calibration is None) or (run is not None and false_alarms is None):
        raise UsageError("--false-alarms goes with --calibration, and --run with both")
    if bool(paths) == (false_alarms is not None):
        raise UsageError("give the good images, or --false-alarms with --calibration")

    def load() -> Inspector:
        from blemish.inspection import load as loading

        return loading.load(
            backbone,
            method=method,
            prompts=prompts,
            options=options.parse_settings(settings or []),
            force=force,
            defects=defects,
            device=device,
            threshold=None,
            pixel_threshold=None,
            calibration=calibration,
            input_px=input_px,
            tiles=tiles,
            peers=peers,
            roi=roi,
            ignore=ignore,
            batch_size=batch_size,
            value_range=options.parse_range(value_range),
            max_megapixels=max_megapixels,
        )

    if false_alarms is not None and calibration is not None:
        if peers is not None:
            _check_apart(_images([str(false_alarms)]), peers)
        _add_false_alarms(false_alarms, calibration, run, out or calibration, load=load, quiet=quiet)
        return
    out = out or DEFAULT_NAME
    if out.exists() and not overwrite:
        raise UsageError(f"{out}: is there already; --overwrite replaces it, --out writes another")
    rule = _rule(
        max_false_rejects,
        review,
        confidence=confidence,
        unlabelled=unlabelled,
        labelled=bool(bad),
        cost_miss=cost_miss,
        cost_false_reject=cost_false_reject,
    )
    good_paths, bad_paths = _images(paths or []), _images(bad) if bad else []
    both = {path.resolve() for path in good_paths} & {path.resolve() for path in bad_paths}
    if both:
        raise UsageError(f"{min(both)}: is among the good and among the bad images")
    if peers is not None and not unlabelled:  # of unlabelled ones nothing is promised
        _check_apart(good_paths, peers)
    inspector = load()
    scored, setup, unreadable = score_images(inspector, [*good_paths, *bad_paths], quiet=quiet)
    good, bad_ones = (
        [one for one in part if one is not None] for part in (scored[: len(good_paths)], scored[len(good_paths) :])
    )
    found = _calibrate(rule, good, bad_ones, setup=setup, types=inspector.types)
    found.write(out)
    _report(found, out, unreadable, quiet=quiet)


def score_images(
    inspector: Inspector, paths: Sequence[Path], *, quiet: bool
) -> tuple[list[Scored | None], Setup, list[ImageError]]:
    """The scores of images in their order, None for unreadable ones; the setup they hold for; and what was unreadable.

    UsageError where none can be read, or images with more than 8 bits do not share one value range.
    """
    from blemish.calibration import Scored
    from blemish.io.progress import TerminalReporter

    scored: list[Scored | None] = []
    unreadable: list[ImageError] = []
    ranges = set()
    with TerminalReporter(quiet=quiet).progress("scoring", len(paths)) as advance:
        for outcome in inspector.stream(list(paths)):
            if isinstance(outcome, ImageError):
                unreadable.append(outcome)
                scored.append(None)
            else:
                seen = outcome.inspection
                scored.append(Scored(seen.source, seen.image_score, float(seen.map_peak or 0)))
                ranges.add(seen.value_range)
            advance()
    if len(unreadable) == len(paths):
        raise UsageError(f"none of the {len(paths)} images can be used; the first: {unreadable[0]}")
    setup = effective_setup(inspector.setup, ranges)
    return scored, setup, unreadable


def effective_setup(setup: Setup, ranges: set[Any]) -> Setup:
    """The setup with the value range that its images with more than 8 bits were read with, where it left that open."""
    ranges = ranges - {None}
    if setup.value_range is not None or not ranges:
        return setup
    if len(ranges) > 1:
        raise UsageError(
            "the images were read with several value ranges, and their scores cannot be compared: give --range"
        )
    low, high = ranges.pop()
    return replace(setup, value_range=(float(low), float(high)))


def _calibrate(
    rule: Rule, good: Sequence[Scored], bad: Sequence[Scored], *, setup: Setup, types: Sequence[str]
) -> Calibration:
    from blemish.calibration import calibrate as find

    return find(rule, good, bad, setup=setup, types=types, command=sys.argv, version=__version__)


def _rule(
    max_false_rejects: str,
    review: str,
    *,
    confidence: str | None,
    unlabelled: bool,
    labelled: bool,
    cost_miss: float | None,
    cost_false_reject: float | None,
) -> Rule:
    from blemish.calibration import Rule

    if unlabelled and (labelled or confidence is not None):
        raise UsageError("--unlabelled goes with neither --bad nor --confidence: nothing can be promised then")
    if labelled and confidence is not None:
        raise UsageError("--bad goes without --confidence: a promise comes from good images alone")
    if not labelled and (cost_miss, cost_false_reject) != (None, None):
        raise UsageError("costs take bad images, too: give --bad")
    share = options.parse_share(max_false_rejects, option="--max-false-rejects")
    reviewed = None if review.strip().lower() == OFF else options.parse_share(review, option="--review")
    return Rule(
        kind="labelled"
        if labelled
        else "unlabelled"
        if unlabelled
        else "average"
        if confidence is None
        else "confidence",
        max_false_rejects=share,
        review=reviewed,
        confidence=None if confidence is None else options.parse_share(confidence, option="--confidence"),
        cost_miss=cost_miss,
        cost_false_reject=cost_false_reject,
    )


def _check_apart(good: Sequence[Path], peers: str) -> None:
    """UsageError where a good image is one of those that all are compared with: what is promised is for images that are not."""
    from blemish.inspection.references import find_references

    drawn = {Path(str(image)).resolve() for image in find_references(peers)}
    shared = [path for path in good if path.resolve() in drawn]
    if shared:
        raise UsageError(
            f"{len(shared)} of the good images, {shared[0]} the first, are among the peers; what is promised holds for images "
            "that are not: give --peers other images of the product"
        )


def _images(named: Sequence[str]) -> list[Path]:
    from blemish.images import list_images

    asked: list[str] = []
    for name in named:
        asked += options.read_list(Path(name)) if Path(name).suffix.lower() == ".txt" else [name]
    return list_images(asked)


def _add_false_alarms(listed: Path, calibration: Path, run: Path | None, out: Path, *, load: Any, quiet: bool) -> None:
    from blemish.calibration import read_calibration

    before = read_calibration(calibration)
    unreadable: list[ImageError] = []
    if run is not None:
        alarms = _scores_of_run(run, options.read_list(listed), before)
    else:
        inspector = load()
        scored, setup, unreadable = score_images(inspector, _images([str(listed)]), quiet=quiet)
        before.check(setup)
        alarms = [one for one in scored if one is not None]
    after = before.with_false_alarms(alarms, reason=f"false alarms listed in {listed}", command=sys.argv)
    after.write(out)
    if not quiet:
        entry = after.history[-1]
        moved = f"image threshold {before.thresholds.image:.4g} -> {after.thresholds.image:.4g}"
        if before.thresholds.pixel is not None and after.thresholds.pixel is not None:
            moved += f", pixel {before.thresholds.pixel:.4g} -> {after.thresholds.pixel:.4g}"
        count = len(entry["added"])
        typer.echo(f"{moved}; of {count} added images {entry['now_below_image_threshold']} are no longer NG")
    _report(after, out, unreadable, quiet=quiet)


def _scores_of_run(run: Path, listed: Sequence[str], before: Calibration) -> list[Scored]:
    """The scores of the listed images in a finished run; UsageError where one is not in it, or it was made with another setup."""
    from blemish.calibration import Scored
    from blemish.runs.reading import read_records, read_run

    before.check(read_run(run).setup)
    known = {str(record["source"]): record for record in read_records(run) if record["verdict"] is not None}
    places = {str(Path(source).resolve()): source for source in known}
    found = []
    for name in listed:
        source = name if name in known else places.get(str(Path(name).resolve()))
        if source is None:
            raise UsageError(f"{run}: holds no result of {name}; leave --run out to look at the images again")
        found.append(Scored(source, known[source]["image_score"], known[source]["map_peak"]))
    return found


def _report(found: Calibration, out: Path, unreadable: Sequence[ImageError], *, quiet: bool) -> None:
    for error in unreadable:
        typer.echo(f"unreadable: {error}", err=True)
    if not quiet:
        lines = found.thresholds
        shown = [f"image {lines.image:.4g}"]
        shown += [] if lines.review is None else [f"review {lines.review:.4g}"]
        shown += [] if lines.pixel is None else [f"pixel {lines.pixel:.4g}"]
        typer.echo(lines.promise)
        for note in lines.notes:
            typer.echo(f"note: {note}")
        typer.echo(f"thresholds: {', '.join(shown)}")
        typer.echo(f"calibration: {out}")
    raise typer.Exit(UNREADABLE if unreadable else 0)
