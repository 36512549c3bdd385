"""`blemish inspect`: images in; verdicts, tables, overlays and masks out."""

from __future__ import annotations

import platform
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from blemish._version import __version__
from blemish.cli import options
from blemish.errors import ImageError

if TYPE_CHECKING:
    from blemish.calibration import Setup
    from blemish.export.folder import ResultsFolder
    from blemish.images import FoundImage
    from blemish.pipeline import Inspector
    from blemish.results import Inspection

__all__ = ["inspect", "progress"]

UNREADABLE, FAILED = 3, 4  # exit codes; 2 is bad usage


class FailOn(StrEnum):
    """From which verdict on the exit code says so."""

    NG = "ng"
    REVIEW = "review"


def inspect(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="PATH...", help="Images, folders (searched recursively) or patterns.", show_default=False
        ),
    ],
    *,
    defects: Annotated[
        str | None, typer.Option(help='Defect types to tell apart: "scratch, hole". Default: the built-in list.')
    ] = None,
    method: Annotated[str | None, typer.Option(help="Method. Default: the backbone's own.")] = None,
    backbone: Annotated[str, typer.Option(help="Backbone: a name or a path.")] = "embedded",
    prompts: Annotated[
        str | None, typer.Option(help="Trained prompts: a name or a path. Default: those that ship for the backbone.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="OPTION=VALUE", help="An option of the method, as in --set smoothing=0.5."),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Use prompts with another backbone or option than they were trained with.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(help="New or empty folder for the results. Default: blemish-results, then blemish-results-2 …"),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier run in --out.")] = False,
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
    tiles: options.Tiles = None,
    roi: options.Roi = None,
    ignore: options.Ignore = None,
    min_area: options.MinArea = None,
    mm_per_px: options.MmPerPx = None,
    keep_maps: Annotated[
        bool, typer.Option("--keep-maps", help="Keep the raw maps, so that blemish rethreshold finds regions again.")
    ] = False,
    value_range: Annotated[
        str | None,
        typer.Option("--range", metavar="LOW:HIGH", help="Black and white of images with more than 8 bits."),
    ] = None,
    max_megapixels: Annotated[float, typer.Option(help="Largest image that is decoded.")] = 200.0,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps.")] = "cpu",
    batch_size: Annotated[int, typer.Option(help="Images that the model sees at once.")] = 8,
    json_lines: Annotated[
        bool,
        typer.Option("--json", help="Results as JSON lines on stdout, nothing else there; files only with --out."),
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no summary.")] = False,
    fail_on: Annotated[FailOn | None, typer.Option(help="Exit with 4 if any image has this verdict or worse.")] = None,
) -> None:
    """Inspect images: verdict, score, defect type and regions of each.

    Exit codes: 0 all done, 2 bad usage, 3 some files could not be read or drawn (before 4), 4 --fail-on met.
    """
    from blemish import loading
    from blemish.cli.train import parse_settings
    from blemish.export.folder import ResultsFolder, check_out
    from blemish.images import find_images

    limits = options.parse_range(value_range)
    out = None if out is None else check_out(out, overwrite=overwrite)
    images = find_images(paths, skip=out)
    inspector = loading.load(
        backbone,
        method=method,
        prompts=prompts,
        options=parse_settings(settings or []),
        force=force,
        defects=defects,
        device=device,
        threshold=threshold,
        pixel_threshold=pixel_threshold,
        calibration=calibration,
        tiles=tiles,
        roi=roi,
        ignore=ignore,
        min_area_px=min_area,
        mm_per_px=mm_per_px,
        batch_size=batch_size,
        value_range=limits,
        max_megapixels=max_megapixels,
    )
    run = _Run(inspector)
    # the folder is made only now, so that a start that fails leaves none behind
    with (
        nullcontext()
        if json_lines and out is None
        else ResultsFolder(out, run.record, overwrite=overwrite, keep_maps=keep_maps)
    ) as results:
        run.inspect(images, results, json_lines=json_lines, quiet=quiet)
    if results is not None:
        run.unwritten = results.unwritten
    for error in run.unreadable:
        typer.echo(f"unreadable: {error}", err=True)
    for error in run.unwritten:
        typer.echo(f"not drawn: {error}", err=True)
    if not quiet:
        _print_summary(run, None if results is None else results.path, err=json_lines)
    raise typer.Exit(_exit_code(run, fail_on))


@dataclass
class _Run:
    """One run: what it does and what it has seen so far."""

    inspector: Inspector
    verdicts: Counter[str] = field(default_factory=Counter)
    top_types: Counter[str] = field(default_factory=Counter)
    value_ranges: Counter[tuple[float, float]] = field(default_factory=Counter)
    unreadable: list[ImageError] = field(default_factory=list)
    unwritten: list[ImageError] = field(default_factory=list)  # inspected, but without pictures
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    clock: float = field(default_factory=time.perf_counter)

    def inspect(
        self, images: list[FoundImage], results: ResultsFolder | None, *, json_lines: bool, quiet: bool
    ) -> None:
        from blemish.export.names import output_names
        from blemish.export.records import json_line

        names = output_names(images)
        with progress(len(images), "inspecting", quiet=quiet) as advance:
            for name, outcome in zip(names, self.inspector.stream([image.path for image in images]), strict=True):
                if isinstance(outcome, ImageError):
                    self.unreadable.append(outcome)
                else:
                    self._count(outcome.inspection)
                    record = {**outcome.inspection.to_dict(), "overlay": None, "mask": None, "maps": None}
                    if results is not None:
                        record = results.add(outcome.inspection, outcome.picture, name)
                    if json_lines:
                        typer.echo(json_line(record, ascii_only=True))
                advance()

    def record(self) -> dict[str, Any]:
        """The content of run.json but its schema and status (docs/results.md)."""
        import numpy as np
        import PIL
        import torch

        inspector = self.inspector
        return {
            "command": sys.argv,
            "started": self.started.isoformat(timespec="seconds"),
            "duration_s": round(time.perf_counter() - self.clock, 3),
            "versions": {
                "blemish": __version__,
                "python": platform.python_version(),
                "torch": str(torch.__version__),
                "numpy": np.__version__,
                "pillow": PIL.__version__,
            },
            "model": inspector.model.to_dict(),
            "types": list(inspector.method.types),
            "thresholds": inspector.thresholds.to_dict(),
            "calibration": None if inspector.calibration is None else inspector.calibration.identity,
            "setup": self._setup().to_dict(),
            "value_range": None if inspector.value_range is None else list(inspector.value_range),
            "value_ranges_used": [list(used) for used in sorted(self.value_ranges)],
            "counts": {verdict: self.verdicts[verdict] for verdict in ("ok", "review", "ng")}
            | {"unreadable": len(self.unreadable)},
            "unreadable": [{"source": error.source, "reason": error.reason} for error in self.unreadable],
        }

    def _setup(self) -> Setup:
        """The inspector's, with the value range that all images with more than 8 bits were read with."""
        setup = self.inspector.setup
        if setup.value_range is None and len(self.value_ranges) == 1:
            return replace(setup, value_range=next(iter(self.value_ranges)))
        return setup

    def _count(self, inspection: Inspection) -> None:
        self.verdicts[inspection.verdict.value] += 1
        if inspection.verdict != "ok" and inspection.top_type is not None:
            self.top_types[inspection.top_type] += 1
        if inspection.value_range is not None:
            self.value_ranges[inspection.value_range] += 1


def _exit_code(run: _Run, fail_on: FailOn | None) -> int:
    if run.unreadable or run.unwritten:
        return UNREADABLE
    failing = {None: (), FailOn.NG: ("ng",), FailOn.REVIEW: ("ng", "review")}[fail_on]
    return FAILED if any(run.verdicts[verdict] for verdict in failing) else 0


@contextmanager
def progress(total: int, what: str, *, quiet: bool) -> Iterator[Any]:
    """A progress bar on stderr where that is a terminal; yields what advances it by one image."""
    if quiet or not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda: bar.advance(task)


def _print_summary(run: _Run, folder: Path | None, *, err: bool) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(stderr=err, highlight=False, soft_wrap=True)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("verdict")
    table.add_column("images", justify="right")
    styles = {"ok": "green", "review": "yellow", "ng": "red"}
    for verdict, style in styles.items():
        table.add_row(f"[{style}]{verdict.upper()}[/]", str(run.verdicts[verdict]))
    if run.unreadable:
        table.add_row("unreadable", str(len(run.unreadable)))
    if run.unwritten:
        table.add_row("not drawn", str(len(run.unwritten)))
    console.print(table)
    if run.top_types:
        listed = ", ".join(f"{name} {count}" for name, count in run.top_types.most_common(5))
        console.print(f"top types of what is not OK: {listed}", markup=False)
    console.print(_threshold_line(run), markup=False)
    for low, high in sorted(run.value_ranges):
        console.print(f"images with more than 8 bits were read as {low:g}:{high:g}", markup=False)
    if folder is not None:
        console.print(f"results: {folder}", markup=False)


def _threshold_line(run: _Run) -> str:
    thresholds = run.inspector.thresholds
    parts = [f"image {thresholds.image:.3g} ({thresholds.calibration})"]
    if thresholds.review is not None:
        parts.append(f"review {thresholds.review:.3g}")
    parts.append(f"pixel {thresholds.pixel:.3g} ({thresholds.pixel_calibration})")
    return "thresholds: " + ", ".join(parts)
