"""`blemish inspect`: images in; verdicts, tables, overlays and masks out."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import nullcontext
from enum import StrEnum
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from blemish.cli import options
from blemish.errors import UsageError

if TYPE_CHECKING:
    from blemish.images import FoundImages
    from blemish.runs.folder import ResultsFolder
    from blemish.runs.run import Run

__all__ = ["inspect"]

UNREADABLE, FAILED = 3, 4  # exit codes; 2 is bad usage


class FailOn(StrEnum):
    """From which verdict on the exit code says so."""

    NG = "ng"
    REVIEW = "review"


def inspect(
    paths: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PATH...",
            help="Images, folders (searched recursively) or patterns; - reads a list of them from stdin.",
            show_default=False,
        ),
    ] = None,
    *,
    listed: Annotated[
        Path | None, typer.Option("--list", metavar="FILE", help="A text file that names one PATH a line.")
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Inspect images as they arrive in the folders PATH, until Ctrl-C.")
    ] = False,
    watch_for: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="--watch until none has come for so long.")
    ] = None,
    watch_rest: Annotated[
        float, typer.Option(metavar="SECONDS", help="--watch takes a file when it has not changed for so long.")
    ] = 1.0,
    defects: options.Defects = None,
    vocabulary: options.VocabularyFile = None,
    product: options.Product = None,
    method: options.Method = None,
    backbone: options.Backbone = "embedded",
    prompts: options.Prompts = None,
    settings: options.Settings = None,
    force: options.Force = False,
    out: Annotated[
        Path | None,
        typer.Option(help="New or empty folder for the results. Default: blemish-results, then blemish-results-2 …"),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier run in --out.")] = False,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on with the run in --out that was cut off; begin it where there is none."),
    ] = False,
    parquet: Annotated[
        bool, typer.Option("--parquet", help="Write the table as results.parquet, too, at the end.")
    ] = False,
    threshold: Annotated[
        float | None, typer.Option(help="Image score (0..1) from which an image is NG. Default: the model card's.")
    ] = None,
    pixel_threshold: Annotated[
        float | None,
        typer.Option(help="Pixel score (0..1) from which a pixel belongs to a region. Default: the card's."),
    ] = None,
    calibration: Annotated[
        Path | None, typer.Option(help="File of blemish calibrate: its thresholds, if it was made with this model.")
    ] = None,
    input_px: options.InputPx = None,
    tiles: options.Tiles = None,
    peers: options.Peers = None,
    roi: options.Roi = None,
    ignore: options.Ignore = None,
    min_area: options.MinArea = None,
    mm_per_px: options.MmPerPx = None,
    keep_maps: Annotated[
        bool, typer.Option("--keep-maps", help="Keep the raw maps, so that blemish rethreshold finds regions again.")
    ] = False,
    value_range: options.Range = None,
    max_megapixels: options.Megapixels = 200.0,
    device: options.Device = "cpu",
    batch_size: options.BatchSize = 8,
    json_lines: Annotated[
        bool,
        typer.Option("--json", help="Results as JSON lines on stdout, nothing else there; files only with --out."),
    ] = False,
    quiet: options.Quiet = False,
    fail_on: Annotated[FailOn | None, typer.Option(help="Exit with 4 if any image has this verdict or worse.")] = None,
) -> None:
    """Inspect images: verdict, score, defect type and regions of each.

    Exit codes: 0 all done, 2 bad usage, 3 some files could not be read or drawn (before 4), 4 --fail-on met.
    """
    if not paths and listed is None:
        raise UsageError("no images were named: give files, folders or patterns, or --list")
    watch = watch or watch_for is not None
    if watch and (listed is not None or "-" in (paths or ())):
        raise UsageError("--watch takes folders, not lists of images")
    if not watch_rest >= 0:
        raise UsageError(f"--watch-rest is a number of seconds from 0 on, not {watch_rest:g}")
    if resume and (out is None or overwrite):
        raise UsageError("--resume takes the folder of the run, --out, and goes without --overwrite")
    from blemish.images import watch_images
    from blemish.inspection import load as loading
    from blemish.runs.folder import ResultsFolder, check_out
    from blemish.runs.run import Run, print_summary

    limits = options.parse_range(value_range)
    out = None if out is None else check_out(out, overwrite=overwrite, resume=resume)
    images = None if watch else _images(paths or [], listed, out)
    if watch:
        watch_images(paths or [])  # says at once what is no folder
    inspector = loading.load(
        backbone,
        method=method,
        prompts=prompts,
        options=options.parse_settings(settings or []),
        force=force,
        defects=defects,
        vocabulary=vocabulary,
        product=product,
        device=device,
        threshold=threshold,
        pixel_threshold=pixel_threshold,
        calibration=calibration,
        input_px=input_px,
        tiles=tiles,
        peers=peers,
        roi=roi,
        ignore=ignore,
        min_area_px=min_area,
        mm_per_px=mm_per_px,
        batch_size=1 if watch else batch_size,
        value_range=limits,
        max_megapixels=max_megapixels,
    )
    run = Run(inspector, json_lines=json_lines, quiet=quiet)
    if images is not None:
        run.left_out, run.unlisted = dict(images.left_out), list(images.unlisted)
    # the folder is made only now, so that a start that fails leaves none behind
    with (
        nullcontext()
        if json_lines and out is None
        else ResultsFolder(
            out,
            run.record,
            overwrite=overwrite,
            keep_maps=keep_maps,
            parquet=parquet,
            resume=resume,
            identity=run.identity(images, keep_maps=keep_maps),
            taken=run.take,
        )
    ) as results:
        if images is None:
            folders = [Path(path) for path in paths or []]
            skip = out if results is None else results.path
            known = run.sources - {error.source for error in run.unreadable}
            arrivals = watch_images(folders, skip=skip, known=known, for_s=watch_for, rest_s=watch_rest)
            run.watch(arrivals, folders, results)
        else:
            run.inspect(images, results)
    for error in [*run.unlisted, *run.unreadable]:
        typer.echo(f"unreadable: {error}", err=True)
    for error in [] if results is None else results.unwritten:
        typer.echo(f"not drawn: {error}", err=True)
    if not quiet:
        print_summary(run, results)
    raise typer.Exit(_exit_code(run, results, fail_on))


def _images(named: Sequence[str], listed: Path | None, skip: Path | None) -> FoundImages:
    """The images meant: of the paths, of the list, and of stdin where a path is `-`."""
    from blemish.images import find_images

    asked: list[str] = [] if listed is None else options.read_list(listed)
    if "-" in named and isinstance(sys.stdin, TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")  # names of files may be no text
    for name in named:
        asked += [line for line in sys.stdin.read().splitlines() if line.strip()] if name == "-" else [name]
    return find_images(asked, skip=skip)


def _exit_code(run: Run, results: ResultsFolder | None, fail_on: FailOn | None) -> int:
    if run.unreadable or run.unlisted or (results is not None and results.unwritten):
        return UNREADABLE
    failing = {None: (), FailOn.NG: ("ng",), FailOn.REVIEW: ("ng", "review")}[fail_on]
    return FAILED if any(run.verdicts[verdict] for verdict in failing) else 0
