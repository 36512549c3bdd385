"""`blemish rethreshold`: a finished run decided again, without the model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from blemish.cli.options import Quiet, command_words, configured
from blemish.config import Config

__all__ = ["rethreshold"]


@configured("thresholds")
def rethreshold(
    run: Annotated[Path, typer.Argument(help="Folder of results of blemish inspect.", show_default=False)],
    *,
    config: Config,
    quiet: Quiet = False,
) -> None:
    """Decide a finished run again: verdicts from its raw scores; regions from its maps, where --keep-maps kept them."""
    from blemish.runs.rethreshold import rethreshold as decide_again

    thresholds = config.thresholds
    done = decide_again(
        run,
        calibration=thresholds.calibration,
        threshold=thresholds.threshold,
        pixel_threshold=thresholds.pixel_threshold,
        command=command_words(),
    )
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
