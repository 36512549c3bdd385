"""How data sets lie on disk: one module or class for each layout, with `fits` and `read`."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from blemish.data.entries import Entry
from blemish.data.files import FileSample
from blemish.data.layouts import (
    aitex,
    beside,
    bmad,
    coco,
    crackforest,
    dagm,
    flat,
    folders,
    labelled,
    lists,
    mvtec,
    pairs,
    real_iad,
    visa,
)
from blemish.data.scan import Scan

__all__ = ["LAYOUTS", "OWN", "Layout"]


class Layout(Protocol):
    """What a module of this package offers."""

    def fits(self, root: Path, entry: Entry, *, sure: bool) -> bool:
        """Whether the data set lies at `root`; with `sure`, nothing there may speak against it."""
        ...

    def read(self, scan: Scan, entry: Entry) -> list[FileSample]:
        """The samples below the root of `scan`, which takes note of what is wrong."""
        ...


LAYOUTS: dict[str, Layout] = {
    "aitex": aitex,
    "beside": beside,
    "bmad": bmad,
    "coco": coco,
    "crackforest": crackforest,
    "dagm": dagm,
    "elpv": labelled.SolarCells(),
    "flat": flat,
    "folders": folders,
    "headct": labelled.HeadScans(),
    "meta": lists.MetaJson(),
    "mvtec": mvtec,
    "pairs": pairs,
    "real_iad": real_iad,
    "table": lists.Table(),
    "visa": visa,
}

# How a user's own data may lie, from the most to the least telling.
OWN = (
    Entry(
        "own-table",
        "a list (samples.csv or .parquet: image, label, mask, type, product, split)",
        "table",
        "image+pixel",
    ),
    Entry(
        "own-coco", "COCO (annotations.json, or _annotations.coco.json in train, valid, test)", "coco", "image+pixel"
    ),
    Entry(
        "own-mvtec",
        "the layout of MVTec AD (test/<folder>, ground_truth/<folder>)",
        "mvtec",
        "image+pixel",
        normal=("good", "ok", "normal"),
    ),
    Entry("own-folders", "a folder of normal images beside folders of defects (good, bad)", "folders", "image+pixel"),
    Entry("own-pairs", "images and masks in two folders (images, masks)", "pairs", "image+pixel"),
    Entry("own-meta", "the meta.json of the AnomalyCLIP family", "meta", "image+pixel"),
    Entry(
        "own-flat",
        "a flat folder of images, with or without masks beside them (a.png, a_mask.png)",
        "flat",
        "image+pixel",
    ),
)
