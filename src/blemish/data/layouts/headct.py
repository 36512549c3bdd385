"""Head CT: `head_ct/head_ct/NNN.png` and labels.csv with the columns id and hemorrhage, whose header has blanks in copies."""

from __future__ import annotations

from pathlib import Path

from blemish.data.entries import Entry
from blemish.data.files import FileSample
from blemish.data.scan import Scan, holds_images
from blemish.data.tables import table_rows

__all__ = ["fits", "read"]

LABELS = "labels.csv"


def fits(root: Path, entry: Entry, *, sure: bool) -> bool:  # noqa: ARG001
    """Whether a table with a column hemorrhage and a folder of images lie at `root`."""
    table = root / LABELS
    return table.is_file() and "hemorrhage" in next(iter(table_rows(table)), {}) and _scans(root) is not None


def read(scan: Scan, entry: Entry) -> list[FileSample]:
    folder = _scans(scan.root)
    files = [] if folder is None else scan.images(folder)
    pictures = {int(file.stem): file for file in files if file.stem.isdecimal()}
    samples = []
    for row in table_rows(scan.root / LABELS, scan):
        number, label = row.get("id", ""), row.get("hemorrhage", "")
        picture = pictures.pop(int(number), None) if number.isdecimal() else None
        if picture is None or label not in ("0", "1"):
            scan.report(scan.root / LABELS, f"the row {number!r}, {label!r} has no image or no label")
            continue
        word = "hemorrhage" if label == "1" else "normal"
        samples.append(scan.sample(picture, entry, word=word, anomalous=label == "1", product="head"))
    for picture in pictures.values():
        scan.report(picture, f"has no row in {LABELS}: left out")
    return samples


def _scans(root: Path) -> Path | None:
    folders = (root / "head_ct" / "head_ct", root / "head_ct", root)
    return next((folder for folder in folders if holds_images(folder)), None)
