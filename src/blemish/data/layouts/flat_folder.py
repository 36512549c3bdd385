"""Images that simply lie in a folder. One with a mask beside it (`a.png`, `a_mask.png`) is anomalous, others count as normal."""

from __future__ import annotations

from pathlib import Path

from blemish.data.entries import Entry
from blemish.data.files import FileSample
from blemish.data.scan import MASK_ENDINGS, Scan, holds_images

__all__ = ["fits", "read"]


def fits(root: Path, entry: Entry, *, sure: bool) -> bool:  # noqa: ARG001
    """Whether images lie directly in the folder."""
    return holds_images(root)


def read(scan: Scan, entry: Entry) -> list[FileSample]:
    files = scan.images(scan.root)
    masks = [file for file in files if file.stem.lower().rstrip("0123456789").endswith(MASK_ENDINGS)]
    pictures = [file for file in files if file not in masks]
    masks_of = scan.pairs(pictures, masks)
    if not masks_of:
        scan.remark("nobody said which of these images are anomalous: all count as normal, and nothing can be measured")
    return [
        scan.sample(
            picture,
            entry,
            word="defect" if picture in masks_of else "",
            anomalous=picture in masks_of,
            masks=masks_of.get(picture, ()),
        )
        for picture in pictures
    ]
