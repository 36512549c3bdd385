"""`blemish learn`: everything about one product, from good images, into one file; and what was learned since."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from blemish.cli.options import Quiet, command_words, configured
from blemish.config import Config
from blemish.errors import UsageError
from blemish.io.parsing import parse_share
from blemish.io.progress import TerminalReporter

if TYPE_CHECKING:
    from blemish.runs.learn import LearnedProfile

__all__ = ["learn"]

DEFAULT_NAME = Path("part.blemish")
UNREADABLE = 3  # exit code
OFF, AUTO = "off", "auto"


@configured("model", "vocabulary", "input", "references", "masks", without=("peers", "references"))
def learn(
    paths: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="GOOD...", help="Good images: files, folders (recursive), patterns, .txt lists.", show_default=False
        ),
    ] = None,
    *,
    out: Annotated[
        Path | None, typer.Option(help="File to write. Default: part.blemish; with --profile, in place.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file.")] = False,
    max_false_rejects: Annotated[
        str,
        typer.Option(
            metavar="SHARE",
            help="Good images that may be called NG. auto: 1% from 99 images on, 5% from 19, 10% from 10.",
        ),
    ] = AUTO,
    confidence: Annotated[
        str | None,
        typer.Option(metavar="SHARE", help="Promise it for this very profile, as 95%; implies --split."),
    ] = None,
    review: Annotated[
        str, typer.Option(metavar="SHARE", help="Good images that may be called NG or review; off for no review.")
    ] = AUTO,
    split: Annotated[
        bool | None,
        typer.Option(
            "--split/--no-split",
            help="Half of the images are remembered, half find the thresholds. Default: from 400 images on.",
        ),
    ] = None,
    keep_all: Annotated[bool, typer.Option("--keep-all", help="Images that look suspicious count, too.")] = False,
    leave_out: Annotated[
        list[str] | None, typer.Option(help="Images that do not count, as GOOD; all others do.")
    ] = None,
    profile: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The profile that the next options change or ask.")
    ] = None,
    add: Annotated[
        list[str] | None, typer.Option(help="Good images that were called NG, as GOOD: they are remembered.")
    ] = None,
    remove: Annotated[list[str] | None, typer.Option(help="Images to forget, as GOOD.")] = None,
    merge: Annotated[Path | None, typer.Option(metavar="FILE", help="Another profile of the same product.")] = None,
    found: Annotated[
        list[str] | None,
        typer.Option(
            help="Images with defects that were missed, as GOOD: from where on they were caught, and the cost."
        ),
    ] = None,
    config: Config,
    quiet: Quiet = False,
) -> None:
    """Learn one product from good images, into a profile that inspect, evaluate and calibrate take as --profile.

    Exit codes: 0 done, 2 bad usage or images to decide about, 3 done, but some images could not be read.
    """
    changed = bool(add or remove or merge)
    if found and (changed or out):
        raise UsageError("--found reports and changes nothing: leave --add, --remove, --merge and --out out")
    if (profile is None) == bool(changed or found) or bool(paths) == (profile is not None):
        raise UsageError("give the good images; or --profile with --add, --remove, --merge or --found")
    reporter = TerminalReporter(quiet=quiet)
    common: dict[str, Any] = {"config": config, "reporter": reporter}
    if profile is not None and found:
        _print_missed(profile, found, common, quiet=quiet)
        return
    common |= {"command": command_words(), "overwrite": overwrite}
    if profile is not None:
        from blemish.runs.feedback import update_profile

        learned = update_profile(profile, add=add or (), remove=remove or (), merge_with=merge, out=out, **common)
    else:
        from blemish.runs import learn as learning

        learned = learning.learn(
            paths or [],
            out=out or DEFAULT_NAME,
            max_false_rejects=_share(max_false_rejects, option="--max-false-rejects"),
            confidence=None if confidence is None else parse_share(confidence, option="--confidence"),
            review=None if _is(review, OFF) else _share(review, option="--review"),
            split=split,
            keep_all=keep_all,
            leave_out=leave_out,
            **common,
        )
    for error in learned.unreadable:
        typer.echo(f"unreadable: {error}", err=True)
    for line in [] if quiet else _summary(learned):
        typer.echo(line)
    raise typer.Exit(UNREADABLE if learned.unreadable else 0)


def _share(text: str, *, option: str) -> float | Literal["auto"]:
    return "auto" if _is(text, AUTO) else parse_share(text, option=option)


def _is(text: str, word: str) -> bool:
    return text.strip().lower() == word


def _summary(learned: LearnedProfile) -> list[str]:
    profile, before = learned.profile, learned.before
    lines = [f"note: {note}" for note in learned.notes]
    calibration = profile.calibration
    if calibration is not None:
        found = calibration.thresholds
        shown = {"image": found.image, "review": found.review, "pixel": found.pixel}
        lines += [found.promise, *(f"note: {note}" for note in found.notes)]
        lines.append(
            "thresholds: " + ", ".join(f"{name} {value:.4g}" for name, value in shown.items() if value is not None)
        )
    if before is not None:
        lines.append(f"images: {len(before.images)} -> {len(profile.images)}")
        if before.calibration is not None and calibration is not None:
            moved = f"{before.calibration.thresholds.image:.4g} -> {calibration.thresholds.image:.4g}"
            lines.append(f"image threshold: {moved} (of other memories, so not the same scale)")
    if profile.path is not None:
        size = profile.path.stat().st_size / 1e6
        lines.append(f"profile: {profile.path} ({len(profile.images)} images, {size:.1f} MB, {profile.identity})")
    return lines


def _print_missed(profile: Path, found: list[str], common: dict[str, Any], *, quiet: bool) -> None:
    from blemish.runs.feedback import report_missed

    missed = report_missed(found, profile, **common)
    for error in missed.unreadable:
        typer.echo(f"unreadable: {error}", err=True)
    for line in [] if quiet else missed.lines():
        typer.echo(line)
    raise typer.Exit(UNREADABLE if missed.unreadable else 0)
