"""A CSV or Parquet file with the columns image, label, mask, type, product, split; only image is needed.

Paths are relative to the file. label is 0 or 1 (or normal, anomaly, good, bad...); without it, an image with a mask or a
type is anomalous. In a folder the file is called samples.csv or samples.parquet.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from blemish.data.entries import Entry
from blemish.data.files import FileSample, MaskTruth
from blemish.data.samples import Split
from blemish.data.scan import Scan, folder_name
from blemish.data.tables import parquet_rows, table_rows
from blemish.errors import UnknownNameError, UsageError

__all__ = ["SPLITS", "fits", "read", "samples_of"]

COLUMNS = ("image", "label", "mask", "type", "product", "split")
NORMAL_WORDS = frozenset(("0", "0.0", "false", "no", "normal", "good", "ok"))
ANOMALOUS_WORDS = frozenset(
    ("1", "1.0", "true", "yes", "anomaly", "anomalous", "abnormal", "bad", "ng", "defect", "defective")
)
SPLITS: dict[str, Split] = {"train": "train", "test": "test", "": "test", "val": "train", "validation": "train"}
TABLE = "samples"


def fits(root: Path, entry: Entry, *, sure: bool) -> bool:  # noqa: ARG001
    """Whether `root` is such a file, or a folder with one."""
    return _table(root) is not None


def read(scan: Scan, entry: Entry) -> list[FileSample]:
    file = _table(scan.root)
    if file is None:
        raise UsageError(f"{scan.root}: holds no {TABLE}.csv and no {TABLE}.parquet")
    rows = list(parquet_rows(file) if file.suffix.lower() == ".parquet" else table_rows(file, scan))
    for column in rows[0] if rows else ():
        if column not in COLUMNS:
            raise UnknownNameError(f"column in {file.name}", column, COLUMNS)
    if rows and "image" not in rows[0]:
        raise UsageError(f"{file}: needs a column image; it has {', '.join(rows[0])}")
    return list(samples_of(scan, entry, file, rows))


def samples_of(scan: Scan, entry: Entry, file: Path, rows: Iterable[dict[str, str]]) -> Iterator[FileSample]:
    """The samples of the rows of a list, with the columns `COLUMNS`; `scan` takes note of rows that cannot be used."""
    base = file.parent
    unused = 0
    for row in rows:
        name, word = row.get("image", ""), row.get("type", "")
        anomalous = _label(scan, file, row)
        split = SPLITS.get(row.get("split", "").lower())
        if anomalous is None:
            continue
        if split is None:
            scan.report(file, f"the row of {name} has the split {row['split']!r}, not train or test")
            continue
        picture = scan.locate(base, name) if name else None
        if picture is None:
            folder = bool(name) and (base / name).is_dir()
            scan.report(base / name, f"is {'a folder where an image file should be' if folder else _absent(file)}")
            continue
        mask = scan.locate(base, row["mask"]) if row.get("mask") else None
        if mask == picture:  # what lies elsewhere is told by its name, and image and mask may have the same
            mask = None
        if row.get("mask") and mask is None:
            scan.report(base / row["mask"], f"is {_absent(file)}")
        unused += mask is not None and not anomalous
        yield FileSample(
            name=_name(scan, picture, base, name),
            product=row.get("product") or folder_name(base),
            split=split,
            anomalous=anomalous,
            path=picture,
            defect_type=entry.type_of(word) if anomalous else "",
            folder=word,
            truth=MaskTruth((mask,), entry.threshold) if mask is not None and anomalous else None,
        )
    if unused:
        scan.remark(f"{unused} masks of images that {file.name} calls normal are not looked at")


def _absent(file: Path) -> str:
    return f"named in {file.name} and is not there"


def _name(scan: Scan, picture: Path, base: Path, name: str) -> str:
    """The name of a sample: as its list has it or, where it lies elsewhere, its path below the list's folder."""
    if name in scan.moved and picture.is_relative_to(base):
        return picture.relative_to(base).as_posix()
    return name.replace("\\", "/")


def _label(scan: Scan, file: Path, row: dict[str, str]) -> bool | None:
    label = row.get("label", "").lower()
    if label in NORMAL_WORDS:
        return False
    if label in ANOMALOUS_WORDS:
        return True
    if not label:
        return bool(row.get("mask") or row.get("type"))
    scan.report(file, f"the row of {row['image']} has the label {row['label']!r}, which is neither 0 nor 1")
    return None


def _table(root: Path) -> Path | None:
    if root.suffix.lower() in (".csv", ".tsv", ".parquet") and root.is_file():
        return root
    found = (root / f"{TABLE}{suffix}" for suffix in (".csv", ".parquet"))
    return next((file for file in found if file.is_file()), None)
