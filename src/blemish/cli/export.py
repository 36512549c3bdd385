"""`blemish export`: a finished run in the formats that other tools read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from blemish.cli.options import Quiet
from blemish.exports import FORMATS

__all__ = ["export"]


def export(
    run: Annotated[Path, typer.Argument(help="Folder of results of blemish inspect.", show_default=False)],
    *,
    format_name: Annotated[
        str,
        typer.Option("--format", help=f"The format: {', '.join(FORMATS.own)}, or a plug-in's.", show_default=False),
    ],
    out: Annotated[
        Path,
        typer.Option(
            help="File to write, or new folder where the format is one (docs/exports.md).", show_default=False
        ),
    ],
    rle: Annotated[bool, typer.Option("--rle", help="coco: exact run lengths instead of polygons.")] = False,
    url_prefix: Annotated[
        str | None,
        typer.Option(help="label-studio: what comes before the path of an image. Default: local storage."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file.")] = False,
    quiet: Quiet = False,
) -> None:
    """Write a finished run for another tool: COCO, Label Studio, YOLO, masks, Parquet, CSV, FiftyOne."""
    from blemish.exports.formats import export as write_export
    from blemish.runs.reading import read_run

    finished = read_run(run)
    given = {"rle": rle or None, "url_prefix": url_prefix}
    asked = {name: value for name, value in given.items() if value is not None}
    count = write_export(finished, format_name, out=out, options=asked, overwrite=overwrite)
    if quiet:
        return
    unreadable = 0 if FORMATS[format_name].lists_unreadable else len(finished.record["unreadable"])
    left_out = f", {unreadable} unreadable left out" if unreadable else ""
    typer.echo(f"{count} images{left_out}: {out}")
