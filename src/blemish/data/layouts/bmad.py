"""BMAD: `{train/good,valid/{good,Ungood},test/{good,Ungood}}/{img,label}`; masks lie in label, or in anomaly_mask."""

from __future__ import annotations

from pathlib import Path

from blemish.data.entries import Entry
from blemish.data.files import FileSample
from blemish.data.samples import Split
from blemish.data.scan import Scan, same_name

__all__ = ["fits", "read"]

SPLITS: dict[str, Split] = {"train": "train", "valid": "train", "test": "test"}
MASKS = ("label", "anomaly_mask")


def fits(root: Path, entry: Entry, *, sure: bool) -> bool:  # noqa: ARG001
    """Whether the test split has images in img folders."""
    return (root / "test" / "Ungood" / "img").is_dir() or (root / "test" / "good" / "img").is_dir()


def read(scan: Scan, entry: Entry) -> list[FileSample]:
    samples = []
    for name, split in SPLITS.items():
        for kind in scan.folders(scan.root / name) if (scan.root / name).is_dir() else []:
            inside = scan.folders(kind)
            pictures_at = same_name(inside, "img")
            masks_at = next((found for mask in MASKS if (found := same_name(inside, mask))), None)
            if pictures_at is None:
                scan.report(kind, "has no folder img")
                continue
            normal = kind.name.lower() in entry.normal
            pictures = scan.images(pictures_at)
            masks = {} if masks_at is None or normal else scan.pairs(pictures, scan.images(masks_at))
            for picture in pictures:
                if not normal and picture not in masks:
                    scan.report(picture, "has no mask")
                files = masks.get(picture, ())
                samples.append(
                    scan.sample(picture, entry, word=kind.name, anomalous=not normal, split=split, masks=files)
                )
    return samples
