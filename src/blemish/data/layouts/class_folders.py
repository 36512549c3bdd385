"""One folder for each kind of image: good and bad, no and yes, or the names of the defects; masks beside or in a folder."""

from __future__ import annotations

from pathlib import Path

from blemish.data.entries import Entry
from blemish.data.files import FileSample
from blemish.data.scan import Scan, holds_images, same_name

__all__ = ["NORMAL_NAMES", "fits", "read"]

NORMAL_NAMES = frozenset(
    ("good", "ok", "normal", "no", "nominal", "free", "nondefective", "non_defective", "negative", "healthy")
)
MASK_FOLDERS = ("ground_truth", "groundtruth", "masks", "mask", "label", "labels")
IGNORED = ("train", "test", "validation", "val")


def fits(root: Path, entry: Entry, *, sure: bool) -> bool:
    """Whether a folder of normal images and one of others lie at `root`; with `sure`, all the folders that the entry names."""
    scan = Scan(root)
    names = {folder.name.lower() for folder in _kinds(scan, entry)}
    normal = {name.lower() for name in _normal(entry)}
    if entry.types:
        wanted = {name.lower() for name in (*entry.types, *entry.normal)}
        hint = entry.options.get("hint")  # a folder that tells this set from others with the same names
        if sure and hint is not None and same_name(scan.folders(root), hint) is None:
            return False
        return wanted <= names if sure else bool(names & normal) and bool(names & wanted - normal)
    return bool(names & normal) and bool(names - normal)


def read(scan: Scan, entry: Entry) -> list[FileSample]:
    normal = {name.lower() for name in _normal(entry)}
    known = {name.lower() for name in entry.types} | normal
    has_truth = "mask_suffix" in entry.options or any(_exists(scan, name) for name in MASK_FOLDERS)
    samples = []
    for kind in _kinds(scan, entry):
        is_normal = kind.name.lower() in normal
        if entry.types and kind.name.lower() not in known:
            scan.report(kind, f"is a folder that {entry.title} does not have; left out")
            continue
        pictures, masks = _pictures(scan, entry, kind)
        if has_truth and not is_normal and not masks:
            scan.report(kind, f"has no masks: {len(pictures)} of its images have none")
        for picture in pictures:
            files = masks.get(picture, ())
            if not is_normal and not files and masks:
                scan.report(picture, "has no mask")
            samples.append(scan.sample(picture, entry, word=kind.name, anomalous=not is_normal, masks=files))
    _report_strays(scan, entry)
    return samples


def _report_strays(scan: Scan, entry: Entry) -> None:
    """Names the folders of masks to which no folder of images belongs, and masks that lie beside those folders."""
    if "mask_suffix" in entry.options or entry.types:
        return
    kinds = {kind.name.lower() for kind in _kinds(scan, entry)}
    below = next((same_name(scan.folders(scan.root), name) for name in MASK_FOLDERS if _exists(scan, name)), None)
    if below is None:
        return
    for folder in scan.folders(below):
        if folder.name.lower() not in kinds and holds_images(folder):
            scan.report(folder, "holds masks of a folder that the images do not have", fatal=True)
    for file in scan.images(below):
        scan.report(
            file, f"lies beside the folders of {below.name} and not in one: it is a mask of no image", fatal=True
        )


def _normal(entry: Entry) -> frozenset[str]:
    return frozenset(entry.normal) if entry.types else NORMAL_NAMES


def _kinds(scan: Scan, entry: Entry) -> list[Path]:
    """The folders that hold images, or hold the one folder that the entry says images lie in."""
    left_out = {name.lower() for name in (*MASK_FOLDERS, *IGNORED, *entry.ignored)}
    return [
        folder
        for folder in scan.folders(scan.root)
        if folder.name.lower() not in left_out and holds_images(_inner(scan, entry, folder))
    ]


def _inner(scan: Scan, entry: Entry, kind: Path) -> Path:
    name = entry.options.get("inner")
    return kind if name is None else same_name(scan.folders(kind), name) or kind


def _pictures(scan: Scan, entry: Entry, kind: Path) -> tuple[list[Path], dict[Path, tuple[Path, ...]]]:
    """The images of one kind, and the masks of each."""
    found = scan.images(_inner(scan, entry, kind))
    suffix = entry.options.get("mask_suffix")  # masks lie beside the images and differ by their suffix
    if suffix is not None:
        pictures = [file for file in found if file.suffix.lower() != suffix]
        return pictures, scan.pairs(pictures, [file for file in found if file.suffix.lower() == suffix])
    below = next((same_name(scan.folders(scan.root), name) for name in MASK_FOLDERS if _exists(scan, name)), None)
    folder = None if below is None else same_name(scan.folders(below), kind.name)
    return found, {} if folder is None else scan.pairs(found, scan.images(folder))


def _exists(scan: Scan, name: str) -> bool:
    return same_name(scan.folders(scan.root), name) is not None
