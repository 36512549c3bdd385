"""`blemish export`: a finished run in the formats that other tools read."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from blemish.cli import options
from blemish.errors import UsageError

__all__ = ["export"]


class Format(StrEnum):
    """What other tools read; docs/exports.md says which."""

    COCO = "coco"
    CSV = "csv"
    FIFTYONE = "fiftyone"
    LABEL_STUDIO = "label-studio"
    MASKS = "masks"
    PARQUET = "parquet"
    YOLO_SEG = "yolo-seg"


FOLDERS = {Format.MASKS, Format.YOLO_SEG, Format.FIFTYONE}


def export(
    run: Annotated[Path, typer.Argument(help="Folder of results of blemish inspect.", show_default=False)],
    *,
    format_name: Annotated[Format, typer.Option("--format", help="The format.", show_default=False)],
    out: Annotated[
        Path, typer.Option(help="File (coco, csv, label-studio, parquet) or new folder to write.", show_default=False)
    ],
    rle: Annotated[bool, typer.Option("--rle", help="coco: exact run lengths instead of polygons.")] = False,
    url_prefix: Annotated[
        str | None,
        typer.Option(help="label-studio: what comes before the place of an image. Default: local storage."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file.")] = False,
    quiet: options.Quiet = False,
) -> None:
    """Write a finished run for another tool: COCO, Label Studio, YOLO, masks, Parquet, CSV, FiftyOne."""
    if rle and format_name is not Format.COCO:
        raise UsageError("--rle goes with --format coco")
    if url_prefix is not None and format_name is not Format.LABEL_STUDIO:
        raise UsageError("--url-prefix goes with --format label-studio")
    from blemish.export.formats import Options, export_run
    from blemish.runs.reading import read_run

    finished = read_run(run)
    out = out.expanduser()
    if format_name not in FOLDERS and out.exists() and (out.is_dir() or not overwrite):
        raise UsageError(
            f"{out}: is a folder; name a file" if out.is_dir() else f"{out}: is there already; --overwrite replaces it"
        )
    count = export_run(finished, format_name.value, out, Options(rle=rle, url_prefix=url_prefix))
    if quiet:
        return
    unreadable = len(finished.record["unreadable"])
    left_out = (
        "" if not unreadable or format_name in (Format.CSV, Format.PARQUET) else f", {unreadable} unreadable left out"
    )
    typer.echo(f"{count} images{left_out}: {out}")
