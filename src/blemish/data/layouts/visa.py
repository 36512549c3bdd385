"""VisA: `<product>/Data/{Images,Masks}`, split_csv/1cls.csv for the split, image_anno.csv for the types, masks that hold ids."""

from __future__ import annotations

from pathlib import Path

from blemish.data.entries import Entry
from blemish.data.files import FileSample, MaskTruth
from blemish.data.scan import Scan
from blemish.data.tables import table_rows
from blemish.errors import UsageError

__all__ = ["fits", "read"]

SPLIT = "split_csv/1cls.csv"
ANNOTATIONS = "image_anno.csv"
NORMAL = "normal"


def fits(root: Path, entry: Entry, *, sure: bool) -> bool:  # noqa: ARG001
    """Whether a product with the folders of VisA lies at `root`."""
    return any((root / product / "Data" / "Images").is_dir() for product in entry.products)


def read(scan: Scan, entry: Entry) -> list[FileSample]:
    table = scan.root / SPLIT
    if not table.is_file():
        raise UsageError(f"{table}: is missing; it holds the official split, and comes with the download")
    single = entry.options.get("single_type", False)
    products = {row.get("object", "") for row in table_rows(table, scan)}
    words = {product: _words(scan, scan.root / product / ANNOTATIONS) for product in sorted(products)}
    present = {name for product in sorted(products) for name in _present(scan, product)}
    samples = []
    for row in table_rows(table):
        name, mask, product = row.get("image", ""), row.get("mask", ""), row.get("object", "")
        split = row.get("split")
        if split not in ("train", "test") or row.get("label") not in (NORMAL, "anomaly"):
            scan.report(table, f"the row of {name or 'no image'} has no split or no label")
            continue
        anomalous = row["label"] != NORMAL
        if name not in present:
            scan.report(scan.root / name, f"is named in {SPLIT} and is not there")
            continue
        of_image = words[product].get(name, ()) if anomalous else ()
        types = tuple(dict.fromkeys(_type_of(scan, entry, scan.root / name, word) for word in of_image))
        if single and (split == "train" or (anomalous and (len(of_image) != 1 or not types[0]))):
            continue
        if anomalous and mask not in present:
            scan.report(scan.root / name, "has no mask")
        truth = MaskTruth((scan.root / mask,), entry.threshold, _ids(entry, product)) if mask in present else None
        samples.append(
            FileSample(
                name=name,
                product=product,
                split="test" if split == "test" else "train",
                anomalous=anomalous,
                path=scan.root / name,
                defect_type=types[0] if len(types) == 1 else "",
                folder=", ".join(of_image) if anomalous else NORMAL,
                truth=truth if anomalous else None,
            )
        )
    used = {row.get("mask", "") for row in table_rows(table)}
    for name in sorted(present - used):
        if "/Masks/" in name:
            scan.report(scan.root / name, f"is a mask that {SPLIT} does not name")
    return samples


def _present(scan: Scan, product: str) -> list[str]:
    data = scan.root / product / "Data"
    folders = (data / "Images" / "Normal", data / "Images" / "Anomaly", data / "Masks" / "Anomaly")
    for folder in folders:
        if not folder.is_dir():
            scan.report(folder, "is missing: the product is not unpacked in full")
    return [scan.name(file) for folder in folders if folder.is_dir() for file in scan.images(folder)]


def _words(scan: Scan, table: Path) -> dict[str, tuple[str, ...]]:
    """What people wrote about each anomalous image, by its name below the root."""
    if not table.is_file():
        if table.parent.is_dir():
            scan.report(table, "is missing: the defects of this product have no types")
        return {}
    return {
        row.get("image", ""): tuple(
            " ".join(word.lower().replace("colour", "color").split()) for word in row.get("label", "").split(",")
        )
        for row in table_rows(table, scan)
        if row.get("label", NORMAL) != NORMAL
    }


def _type_of(scan: Scan, entry: Entry, image: Path, word: str) -> str:
    if word not in entry.types:
        scan.report(image, f"has the defect {word!r} in {ANNOTATIONS}, which VisA's tables do not know")
    return entry.types.get(word, "")


def _ids(entry: Entry, product: str) -> tuple[tuple[int, str], ...]:
    """The grouped type of each value of a product's masks."""
    return tuple((value, entry.types[word]) for value, word in enumerate(entry.words.get(product, ()), start=1))
