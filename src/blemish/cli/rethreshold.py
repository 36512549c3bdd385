"""`blemish rethreshold`: a finished run decided again, without the model."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from blemish.cli import options
from blemish.errors import UsageError

__all__ = ["rethreshold"]


def rethreshold(
    run: Annotated[Path, typer.Argument(help="Folder of results of blemish inspect.", show_default=False)],
    *,
    calibration: Annotated[Path | None, typer.Option(help="File of blemish calibrate.")] = None,
    threshold: Annotated[float | None, typer.Option(help="Image score (0..1) from which an image is NG.")] = None,
    pixel_threshold: Annotated[
        float | None, typer.Option(help="Pixel score (0..1) from which a pixel belongs to a region.")
    ] = None,
    quiet: options.Quiet = False,
) -> None:
    """Decide a finished run again: verdicts from its raw scores; regions from its maps, where --keep-maps kept them."""
    if calibration is None and threshold is None and pixel_threshold is None:
        raise UsageError("give --calibration, --threshold or --pixel-threshold")
    from blemish.calibration import read_calibration
    from blemish.runs.rethreshold import Change
    from blemish.runs.rethreshold import rethreshold as decide_again

    calibrated = None if calibration is None else read_calibration(calibration)
    change = Change(image=threshold, pixel=pixel_threshold, calibration=calibrated)
    done = decide_again(run, change, command=sys.argv)
    if quiet:
        return
    counts = ", ".join(f"{name.upper()} {done.verdicts.get(name, 0)}" for name in ("ok", "review", "ng"))
    typer.echo(f"{counts}; {done.changed} verdicts changed")
    if done.old_regions:
        typer.echo(
            f"regions of {done.old_regions} images stay as found at their old pixel threshold: the run kept no maps "
            "(inspect --keep-maps)"
        )
    if done.old_overlays:
        typer.echo(f"{done.old_overlays} overlays still show the earlier decision")
    typer.echo(f"results: {run}")
