"""`blemish report`: a finished run as one HTML page to look at, offline."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from blemish.cli.options import Quiet
from blemish.io.progress import TerminalReporter

__all__ = ["report"]


def report(
    run: Annotated[Path, typer.Argument(help="Folder of results of blemish inspect.", show_default=False)],
    *,
    out: Annotated[
        Path | None, typer.Option(help="Page to write. Default: report.html in RUN, replaced.", show_default=False)
    ] = None,
    inline: Annotated[
        bool, typer.Option("--inline", help="Put pictures of full size into the page, too, instead of links to them.")
    ] = False,
    sheet: Annotated[
        Path | None, typer.Option(help="Write a contact sheet, too (.jpg, .png): the highest scores first.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the page and the sheet.")] = False,
    quiet: Quiet = False,
) -> None:
    """Write a finished run as one self-contained page: gallery, filters, histogram, thresholds to try, provenance."""
    from blemish.reports.report import report as write_report

    reporter = TerminalReporter(quiet=quiet)
    done = write_report(run, out=out, inline=inline, sheet=sheet, overwrite=overwrite, reporter=reporter)
    if not quiet:
        typer.echo(f"{done.images} images, {done.path.stat().st_size / 1e6:.1f} MB: {done.path}")
        if done.sheet is not None:
            typer.echo(f"contact sheet: {done.sheet}")
