"""Images in one folder and their labels in a table: ELPV and Head CT."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from blemish.data.entries import Entry
from blemish.data.files import FileSample
from blemish.data.scan import Scan, holds_images
from blemish.data.text import read_text
from blemish.errors import UsageError

__all__ = ["HeadScans", "SolarCells", "rows_of"]

LABELS = "labels.csv"
CERTAIN = 1e-3  # the table prints probabilities with many digits


class SolarCells:
    """ELPV: `images/cellNNNN.png` and labels.csv, separated by blanks: path, probability of a defect, mono or poly.

    Of the four probabilities, 0 is normal and 1 anomalous; cells that the experts were unsure of (1/3, 2/3) are left out.
    """

    def fits(self, root: Path, entry: Entry, *, sure: bool) -> bool:  # noqa: ARG002
        return (root / LABELS).is_file() and (root / "images").is_dir()

    def read(self, scan: Scan, entry: Entry) -> list[FileSample]:
        samples = []
        present = {scan.name(file) for file in scan.images(scan.root / "images")}
        named = set()
        unsure = 0
        for number, line in enumerate(_lines(scan.root / LABELS, scan), start=1):
            words = line.split()
            if len(words) != 3 or not _is_number(words[1]):
                scan.report(scan.root / LABELS, f"line {number} is not a path, a probability and a kind: {line!r}")
                continue
            name, probability, kind = words[0], float(words[1]), words[2]
            named.add(name)
            if name not in present:
                scan.report(scan.root / name, f"is named in {LABELS} and is not there")
            elif min(probability, 1 - probability) > CERTAIN:
                unsure += 1
            else:
                samples.append(
                    FileSample(name, entry.name, "test", probability > CERTAIN, scan.root / name, folder=kind)
                )
        if unsure:
            scan.remark(f"{unsure} cells that the experts were unsure of (probability 1/3 and 2/3) are left out")
        for name in sorted(present - named):
            scan.report(scan.root / name, f"has no line in {LABELS}: left out")
        return samples


class HeadScans:
    """Head CT: `head_ct/head_ct/NNN.png` and labels.csv with the columns id and hemorrhage, whose header has blanks in copies."""

    def fits(self, root: Path, entry: Entry, *, sure: bool) -> bool:  # noqa: ARG002
        table = root / LABELS
        return table.is_file() and "hemorrhage" in next(iter(rows_of(table)), {}) and _scans(root) is not None

    def read(self, scan: Scan, entry: Entry) -> list[FileSample]:  # noqa: ARG002
        folder = _scans(scan.root)
        pictures = (
            {} if folder is None else {int(file.stem): file for file in scan.images(folder) if file.stem.isdecimal()}
        )
        samples = []
        for row in rows_of(scan.root / LABELS, scan):
            number, label = row.get("id", ""), row.get("hemorrhage", "")
            picture = pictures.pop(int(number), None) if number.isdecimal() else None
            if picture is None or label not in ("0", "1"):
                scan.report(scan.root / LABELS, f"the row {number!r}, {label!r} has no image or no label")
                continue
            word = "hemorrhage" if label == "1" else "normal"
            samples.append(
                FileSample(
                    name=scan.name(picture),
                    product="head",
                    split="test",
                    anomalous=label == "1",
                    path=picture,
                    defect_type="hemorrhage" if label == "1" else "",
                    folder=word,
                )
            )
        for picture in pictures.values():
            scan.report(picture, f"has no row in {LABELS}: left out")
        return samples


def rows_of(table: Path, scan: Scan | None = None) -> Iterator[dict[str, str]]:
    """The rows of a table with commas, semicolons or tabs; keys and values without blanks around them, keys in lower case.

    `scan` takes note where the text is not UTF-8.
    """
    lines = _lines(table, scan)
    if not lines:
        return
    separator = max(",;\t", key=lines[0].count)
    try:
        header, *rows = csv.reader(lines, delimiter=separator, skipinitialspace=True)
    except csv.Error as error:
        raise UsageError(f"{table}: is not a table ({error})") from error
    keys = [key.strip().lower() for key in header]
    for row in rows:
        yield dict(zip(keys, (value.strip() for value in row), strict=False))


def _lines(table: Path, scan: Scan | None = None) -> list[str]:
    text = read_text(table)[0] if scan is None else scan.text(table)
    return [line for line in text.splitlines() if line.strip()]


def _scans(root: Path) -> Path | None:
    folders = (root / "head_ct" / "head_ct", root / "head_ct", root)
    return next((folder for folder in folders if holds_images(folder)), None)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
