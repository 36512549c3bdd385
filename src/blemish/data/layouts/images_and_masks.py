"""A folder of images and a folder of masks with the same names, as data sets for segmentation come; all images are anomalous.

The polyp sets (CVC-ColonDB, CVC-ClinicDB, Kvasir-SEG in both its layouts, EndoTect), ISIC, TN3K; and a user's own images/ and
masks/, where an empty mask means a normal image.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from blemish import images
from blemish.data.entries import Entry
from blemish.data.files import FileSample
from blemish.data.scan import Scan, holds_images
from blemish.errors import ImageError

__all__ = ["fits", "read"]

IMAGES = ("images", "train/images", "validation/images", "valid/images", "val/images", "test/images")
MASKS = ("masks", "train/masks", "validation/masks", "valid/masks", "val/masks", "test/masks")


def fits(root: Path, entry: Entry, *, sure: bool) -> bool:  # noqa: ARG001
    """Whether a folder of images and one of masks lie at `root`."""
    return bool(_folders(root, entry, "images") and _folders(root, entry, "masks"))


def read(scan: Scan, entry: Entry) -> list[FileSample]:
    own = not entry.options
    pictures = [file for folder in _folders(scan.root, entry, "images") for file in scan.images(folder)]
    masks = [file for folder in _folders(scan.root, entry, "masks") for file in scan.images(folder)]
    masks_of = _paired(scan, pictures, masks)
    samples = []
    for picture in pictures:
        files = masks_of.get(picture, ())
        if not files:
            scan.report(picture, "has no mask")
        shown = _shows_something(scan, files, entry.threshold) if own and files else True
        if shown is None:
            continue
        word = entry.options.get("type", "defect") if shown else "normal"
        samples.append(scan.sample(picture, entry, word=word, anomalous=shown, masks=files))
    return samples


def _shows_something(scan: Scan, files: Sequence[Path], threshold: int | None) -> bool | None:
    """Whether one of the masks has foreground; None, and a report, where one cannot be read."""
    try:
        return any(bool(images.read_mask(file).above(threshold).any()) for file in files)
    except ImageError as error:
        scan.report(Path(error.source), f"{error.reason}; so nobody knows whether its image is normal: left out")
        return None


def _paired(scan: Scan, pictures: list[Path], masks: list[Path]) -> dict[Path, tuple[Path, ...]]:
    """The masks of each picture: names are compared inside each pair of folders, as they may repeat in another."""
    masks_of: dict[Path, tuple[Path, ...]] = {}
    mask_folders = list(dict.fromkeys(file.parent for file in masks))
    picture_folders = list(dict.fromkeys(file.parent for file in pictures))
    if len(mask_folders) != len(picture_folders):
        return scan.pairs(pictures, masks)
    for inner, outer in zip(picture_folders, mask_folders, strict=True):
        in_folder = [file for file in pictures if file.parent == inner]
        masks_of |= scan.pairs(in_folder, [file for file in masks if file.parent == outer])
    return masks_of


def _folders(root: Path, entry: Entry, kind: str) -> list[Path]:
    """The folders of that kind that hold images, each once, those of masks never among those of images."""
    patterns = entry.options.get(kind, IMAGES if kind == "images" else MASKS)
    if not root.is_dir():
        return []
    masks = set() if kind == "masks" else set(_folders(root, entry, "masks"))
    folders: dict[Path, None] = {}
    for pattern in patterns:
        for folder in sorted(root.glob(pattern)):
            if folder not in masks and holds_images(folder):
                folders.setdefault(folder)
        if folders and "/" not in pattern:
            break
    return list(folders)
