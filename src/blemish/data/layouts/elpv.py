"""ELPV: `images/cellNNNN.png` and labels.csv, separated by blanks: path, probability of a defect, mono or poly.

Of the four probabilities, 0 is normal and 1 anomalous; cells that the experts were unsure of (1/3, 2/3) are left out.
"""

from __future__ import annotations

from pathlib import Path

from blemish.data.entries import Entry
from blemish.data.files import FileSample
from blemish.data.scan import Scan
from blemish.data.tables import text_lines

__all__ = ["fits", "read"]

LABELS = "labels.csv"
CERTAIN = 1e-3  # the table prints probabilities with many digits


def fits(root: Path, entry: Entry, *, sure: bool) -> bool:  # noqa: ARG001
    """Whether the table and the folder of images lie at `root`."""
    return (root / LABELS).is_file() and (root / "images").is_dir()


def read(scan: Scan, entry: Entry) -> list[FileSample]:
    samples = []
    present = {scan.name(file) for file in scan.images(scan.root / "images")}
    named = set()
    unsure = 0
    for number, line in enumerate(text_lines(scan.root / LABELS, scan), start=1):
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
            samples.append(FileSample(name, entry.name, "test", probability > CERTAIN, scan.root / name, folder=kind))
    if unsure:
        scan.remark(f"{unsure} cells that the experts were unsure of (probability 1/3 and 2/3) are left out")
    for name in sorted(present - named):
        scan.report(scan.root / name, f"has no line in {LABELS}: left out")
    return samples


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
