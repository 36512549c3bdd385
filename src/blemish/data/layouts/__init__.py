"""How data sets lie on disk: a module for each layout, with the functions `fits` and `read`."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from blemish.data.entries import LAYOUTS, Entry
from blemish.data.files import FileSample
from blemish.data.scan import Scan

__all__ = ["OWN", "Layout", "layout_of"]


class Layout(Protocol):
    """What the module of a layout offers."""

    def fits(self, root: Path, entry: Entry, *, sure: bool) -> bool:
        """Whether the data set lies at `root`; with `sure`, nothing there may speak against it."""
        ...

    def read(self, scan: Scan, entry: Entry) -> list[FileSample]:
        """The samples below the root of `scan`, which takes note of what is wrong."""
        ...


def layout_of(entry: Entry) -> Layout:
    """The reader of a data set."""
    layout: Layout = LAYOUTS[entry.layout]
    return layout


# How a user's own data may lie, from the most to the least telling: title, layout, folders of normal images.
OWN = tuple(
    Entry(f"own-{layout}", title, layout, "image+pixel", normal=normal)
    for title, layout, normal in (
        ("a list (samples.csv or .parquet: image, label, mask, type, product, split)", "table", ("good",)),
        ("COCO (annotations.json, or _annotations.coco.json in train, valid, test)", "coco", ("good",)),
        (
            "the layout of MVTec AD (test/<folder>, ground_truth/<folder>)",
            "mvtec",
            ("good", "ok", "normal"),
        ),
        ("a folder of normal images beside folders of defects (good, bad)", "class_folders", ("good",)),
        ("images and masks in two folders (images, masks)", "images_and_masks", ("good",)),
        ("the meta.json of the AnomalyCLIP family", "meta_json", ("good",)),
        ("a flat folder of images, with or without masks beside them (a.png, a_mask.png)", "flat_folder", ("good",)),
    )
)
