"""A finished run in the formats that other tools read: one function a format, chosen by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from blemish.errors import UnknownNameError
from blemish.export.coco import write_coco
from blemish.export.fiftyone import write_fiftyone
from blemish.export.label_studio import write_tasks
from blemish.export.masks import write_masks
from blemish.export.yolo import write_yolo
from blemish.runs.reading import Run, read_records
from blemish.runs.tables import write_csv, write_parquet

__all__ = ["FORMATS", "Options", "export_run"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """What some formats leave open; see docs/exports.md."""

    rle: bool = False
    url_prefix: str | None = None


def export_run(run: Run, format_name: str, out: Path, options: Options) -> int:
    """Writes the run in this format to `out`, a file or a folder as the format needs; how many images are in it."""
    if format_name not in FORMATS:
        raise UnknownNameError("format", format_name, FORMATS)
    return FORMATS[format_name](run, out, options)


FORMATS: dict[str, Callable[[Run, Path, Options], int]] = {
    "coco": lambda run, out, options: write_coco(run, out, rle=options.rle),
    "csv": lambda run, out, _: write_csv(read_records(run.path), out),
    "fiftyone": lambda run, out, _: write_fiftyone(run, out),
    "label-studio": lambda run, out, options: write_tasks(run, out, url_prefix=options.url_prefix),
    "masks": lambda run, out, _: write_masks(run, out),
    "parquet": lambda run, out, _: write_parquet(read_records(run.path), out),
    "yolo-seg": lambda run, out, _: write_yolo(run, out),
}
