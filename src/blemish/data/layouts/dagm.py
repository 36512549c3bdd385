"""DAGM 2007: `ClassN/{Train,Test}/NNNN.PNG`, and of defective ones `Label/NNNN_label.PNG` below; no other file says a label."""

from __future__ import annotations

from pathlib import Path

from blemish.data.entries import Entry
from blemish.data.files import FileSample
from blemish.data.samples import Split
from blemish.data.scan import Scan, same_name

__all__ = ["fits", "read"]

SPLITS: tuple[Split, ...] = ("train", "test")


def fits(root: Path, entry: Entry, *, sure: bool) -> bool:  # noqa: ARG001
    """Whether one of the ten class folders has a folder of labels."""
    return any(
        (split / "Label").is_dir() for product in _products(root, entry) for split in Scan(root).folders(product)
    )


def read(scan: Scan, entry: Entry) -> list[FileSample]:
    samples = []
    for product in _products(scan.root, entry):
        for split in SPLITS:
            folder = same_name(scan.folders(product), split)
            if folder is None:
                scan.report(product, f"has no folder {split.capitalize()}")
                continue
            pictures = scan.images(folder)
            labels = same_name(scan.folders(folder), "Label")
            if labels is None:
                scan.report(folder, "has no folder Label, so all its images would read as normal", fatal=True)
                continue
            masks = scan.pairs(pictures, scan.images(labels))
            samples += [
                scan.sample(
                    picture,
                    entry,
                    word="defect" if picture in masks else "normal",
                    anomalous=picture in masks,
                    product=product.name,
                    split=split,
                    masks=masks.get(picture, ()),
                )
                for picture in pictures
            ]
    return samples


def _products(root: Path, entry: Entry) -> list[Path]:
    return [folder for folder in Scan(root).folders(root) if folder.name in entry.products] if root.is_dir() else []
