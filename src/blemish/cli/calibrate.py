"""`blemish calibrate`: thresholds from good images, with what they promise, into a small file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from blemish.cli.options import Quiet, command_words, configured
from blemish.config import Config
from blemish.errors import UsageError
from blemish.io.parsing import parse_share
from blemish.io.progress import TerminalReporter

if TYPE_CHECKING:
    from blemish.runs.calibrate import CalibrationOutcome

__all__ = ["calibrate"]

DEFAULT_NAME = Path("calibration.json")
UNREADABLE = 3  # exit code
OFF, AUTO = "off", "auto"


@configured("model", "vocabulary", "input", "references", "masks")
def calibrate(
    paths: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="GOOD...", help="Good images: files, folders (recursive), patterns, .txt lists.", show_default=False
        ),
    ] = None,
    *,
    max_false_rejects: Annotated[
        str,
        typer.Option(metavar="SHARE", help="Good images that may be called NG; 1% takes 99 good images, 5% takes 19."),
    ] = "1%",
    confidence: Annotated[
        str | None,
        typer.Option(metavar="SHARE", help="Promise it for this very calibration, as 95%; takes more images."),
    ] = None,
    review: Annotated[
        str, typer.Option(metavar="SHARE", help="Good images that may be called NG or review; off for no review.")
    ] = AUTO,
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
    config: Config,
    quiet: Quiet = False,
) -> None:
    """Choose thresholds from good images alone, and say what they promise.

    Exit codes: 0 done, 2 bad usage or too few images, 3 done, but some images could not be read.
    """
    if (false_alarms is None) != (calibration is None) or (run is not None and false_alarms is None):
        raise UsageError("--false-alarms goes with --calibration, and --run with both")
    if bool(paths) == (false_alarms is not None):
        raise UsageError("give the good images, or --false-alarms with --calibration")
    from blemish.runs import calibrate as calibrating

    reporter = TerminalReporter(quiet=quiet)
    if false_alarms is not None and calibration is not None:
        outcome = calibrating.add_false_alarms(
            false_alarms,
            calibration,
            run=run,
            out=out,
            config=config,
            reporter=reporter,
            command=command_words(),
        )
    else:
        outcome = calibrating.calibrate(
            paths or [],
            bad=bad or (),
            max_false_rejects=parse_share(max_false_rejects, option="--max-false-rejects"),
            confidence=None if confidence is None else parse_share(confidence, option="--confidence"),
            review=_review(review),
            unlabelled=unlabelled,
            cost_miss=cost_miss,
            cost_false_reject=cost_false_reject,
            out=out or DEFAULT_NAME,
            overwrite=overwrite,
            config=config,
            reporter=reporter,
            command=command_words(),
        )
    for error in outcome.unreadable:
        typer.echo(f"unreadable: {error}", err=True)
    for line in [] if quiet else _summary(outcome):
        typer.echo(line)
    raise typer.Exit(UNREADABLE if outcome.unreadable else 0)


def _review(text: str) -> float | Literal["auto"] | None:
    word = text.strip().lower()
    if word == AUTO:
        return "auto"
    return None if word == OFF else parse_share(text, option="--review")


def _summary(outcome: CalibrationOutcome) -> list[str]:
    found = outcome.calibration.thresholds
    lines = []
    if outcome.before is not None:
        before, entry = outcome.before.thresholds, outcome.calibration.history[-1]
        moved = f"image threshold {before.image:.4g} -> {found.image:.4g}"
        if before.pixel is not None and found.pixel is not None:
            moved += f", pixel {before.pixel:.4g} -> {found.pixel:.4g}"
        below = entry["now_below_image_threshold"]
        lines.append(f"{moved}; of {len(entry['added'])} added images {below} are no longer NG")
    shown = {"image": found.image, "review": found.review, "pixel": found.pixel}
    return [
        *lines,
        *(f"note: {note}" for note in outcome.notes),
        found.promise,
        *(f"note: {note}" for note in found.notes),
        "thresholds: " + ", ".join(f"{name} {value:.4g}" for name, value in shown.items() if value is not None),
        f"calibration: {outcome.path}",
    ]
