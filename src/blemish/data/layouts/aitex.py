"""AITEX: fabric strips of 4096 x 256, `{Defect_images,NODefect_images,Mask_images}`, names `nnnn_ddd_ff` with ddd the defect.

Read whole, or in patches as the conversion of InCTRL and AHL: of a defective strip only the patches whose part of the mask
shows a defect. Some strips have two masks (`_mask1`, `_mask2`: their union counts), one has none, one an empty one.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from blemish import images
from blemish.data.entries import Entry
from blemish.data.files import Box, FileSample
from blemish.data.scan import Scan
from blemish.errors import ImageError

__all__ = ["fits", "read"]


def fits(root: Path, entry: Entry, *, sure: bool) -> bool:  # noqa: ARG001
    """Whether the three folders of the archives lie at `root`, with or without the folder that each archive brings."""
    return all((root / name).is_dir() for name in ("Defect_images", "NODefect_images", "Mask_images"))


def read(scan: Scan, entry: Entry) -> list[FileSample]:
    side = entry.options["patch_px"]
    strips = _below(scan, scan.root / "Defect_images")
    masks = scan.pairs(strips, _below(scan, scan.root / "Mask_images"))
    samples = []
    for strip in [*_below(scan, scan.root / "NODefect_images"), *strips]:
        pieces = strip.stem.split("_")
        code = pieces[1] if len(pieces) == 3 else ""
        if code not in (*entry.normal, *entry.types):
            scan.report(strip, "is not named number_defect_fabric with a known defect: left out")
            continue
        normal = code in entry.normal
        files = masks.get(strip, ())
        if not normal and not files:
            scan.report(strip, "has no mask" + (": no patch of it is used" if side else ""))
        sample = scan.sample(strip, entry, word=code, anomalous=not normal, product="aitex", masks=files)
        try:
            samples += _patches(scan, sample, side) if side else [sample]
        except ImageError as error:
            scan.report(strip, f"{error.reason}: left out")
    return samples


def _patches(scan: Scan, strip: FileSample, side: int) -> list[FileSample]:
    width, height = images.read_size(strip.path)
    shown = np.ones((height, width), bool) if strip.truth is None else strip.truth.mask((width, height))
    if not shown.any():
        scan.report(strip.path, "has an empty mask: no patch of it is used")
    if strip.anomalous and strip.truth is None:
        return []
    boxes: list[Box] = [(left, 0, left + side, min(side, height)) for left in range(0, width - side + 1, side)]
    return [
        replace(strip, name=f"{strip.name}#{index}", box_px=box)
        for index, box in enumerate(boxes)
        if shown[box[1] : box[3], box[0] : box[2]].any()
    ]


def _below(scan: Scan, folder: Path) -> list[Path]:
    """The images in a folder and in the folders inside it."""
    return [file for inner in (folder, *_inside(scan, folder)) for file in scan.images(inner)]


def _inside(scan: Scan, folder: Path) -> list[Path]:
    return [inner for below in scan.folders(folder) for inner in (below, *_inside(scan, below))]
