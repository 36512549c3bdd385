"""`blemish report`: a finished run as one HTML page to look at, offline."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from blemish.cli import options
from blemish.errors import UsageError

__all__ = ["report"]


def report(
    run: Annotated[Path, typer.Argument(help="Folder of results of blemish inspect.", show_default=False)],
    *,
    out: Annotated[Path, typer.Option(help="Page to write.", show_default=False)],
    inline: Annotated[
        bool, typer.Option("--inline", help="Put pictures of full size into the page, too, instead of links to them.")
    ] = False,
    sheet: Annotated[
        Path | None, typer.Option(help="Write a contact sheet, too (.jpg, .png): the highest scores first.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the page.")] = False,
    quiet: options.Quiet = False,
) -> None:
    """Write a finished run as one self-contained page: gallery, filters, histogram, thresholds to try, provenance."""
    out = out.expanduser()
    if out.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"{out}: the page is an .html file")
    for path in (out, sheet):
        if path is not None and path.exists() and not overwrite:
            raise UsageError(f"{path}: is there already; --overwrite replaces it")
    from blemish.io.progress import TerminalReporter
    from blemish.reports.page import write_page
    from blemish.reports.sheet import write_contact_sheet
    from blemish.runs.reading import read_records, read_run

    finished = read_run(run)
    with TerminalReporter(quiet=quiet).progress("drawing", sum(finished.record["counts"].values())) as advance:
        count = write_page(
            finished.path, finished.record, read_records(finished.path), out, inline=inline, advance=advance
        )
    if sheet is not None:
        write_contact_sheet(finished.path, sheet)
    if not quiet:
        typer.echo(f"{count} images, {out.stat().st_size / 1e6:.1f} MB: {out}")
        if sheet is not None:
            typer.echo(f"contact sheet: {sheet}")
