"""What all exports of regions share: the inspected images, the names of types, and the pixels of a region."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from blemish.errors import UsageError
from blemish.images import read_mask
from blemish.io.atomic import make_folder
from blemish.io.run_files import MASKS
from blemish.maps import Blob, find_blobs
from blemish.results import UNKNOWN
from blemish.runs.reading import Run, read_records

__all__ = ["UNTYPED", "blobs_of", "common_folder", "empty_folder", "inspected", "picture_path", "type_names", "type_of"]

UNTYPED = "defect"  # of a region where the method tells no types


def inspected(run: Run) -> Iterator[dict[str, Any]]:
    """The records of the images that could be inspected; their sources are found from any folder (`Run.locate`)."""
    records = (record for record in read_records(run.path) if record["verdict"] is not None)
    return ({**record, "source": run.locate(record["source"])} for record in records)


def type_names(run: Run) -> list[str]:
    """All names that regions of this run can have, in the order of its vocabulary; the unknown defect last, if there is one."""
    found = {type_of(region) for record in inspected(run) for region in record["regions"]}
    named = [str(name) for name in run.record["types"]]
    return [*named, *(name for name in (UNTYPED, UNKNOWN) if name in found and name not in named)]


def type_of(region: Mapping[str, Any]) -> str:
    """The name of a region's type."""
    return str(region["type"] or UNTYPED)


def picture_path(record: Mapping[str, Any], number: int) -> PurePosixPath:
    """What the pictures of an image are called in the run, or its number where it has none."""
    mask = record["mask"]
    return PurePosixPath(f"image-{number}") if mask is None else PurePosixPath(mask.removeprefix(f"{MASKS}/")[:-4])


def common_folder(run: Run) -> Path:
    """The deepest folder that all inspected images lie in, absolute."""
    parents = {os.path.dirname(os.path.abspath(record["source"])) for record in inspected(run)}  # noqa: PTH100, PTH120
    try:
        return Path(os.path.commonpath(parents))
    except ValueError:  # no image, or several drives
        return Path(next(iter(parents), "."))


def blobs_of(run: Run, record: Mapping[str, Any]) -> list[Blob]:
    """The pixels of a record's regions, in their order: from the mask of the run, or else from their outlines."""
    regions = record["regions"]
    path = None if record["mask"] is None else run.path / record["mask"]
    if regions and path is not None and path.is_file():
        mask = read_mask(path).above(None)
        found = {blob.box_px: blob for blob in find_blobs(mask)}
        if all(tuple(region["box_px"]) in found for region in regions):
            return [found[tuple(region["box_px"])] for region in regions]
    return [_filled(region) for region in regions]


def _filled(region: Mapping[str, Any]) -> Blob:
    """The pixels inside a region's outline, whose points are corners of pixels."""
    x0, y0, x1, y1 = region["box_px"]
    canvas = Image.new("1", (2 * (x1 - x0) + 1, 2 * (y1 - y0) + 1))  # twice as fine: odd places are the pixels' middles
    ImageDraw.Draw(canvas).polygon([(2 * (x - x0), 2 * (y - y0)) for x, y in region["polygon_px"]], fill=1)
    return Blob((x0, y0, x1, y1), np.asarray(canvas)[1::2, 1::2].copy())


def empty_folder(out: Path) -> Path:
    """`out`, made, and empty; UsageError where it holds anything."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out}: is there already; give a new or empty folder with --out")
    make_folder(out)
    return out
