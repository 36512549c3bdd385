"""Real-IAD: `realiad_{256,512,1024,raw}/<product>/...` and the lists `realiad_jsons*/<product>.json`, which alone say the label.

The folder NG holds views without a visible defect as well: their `anomaly_class` is OK, and they count as normal.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from blemish.data.entries import Entry
from blemish.data.files import FileSample
from blemish.data.samples import Split
from blemish.data.scan import Scan
from blemish.errors import UsageError

__all__ = ["fits", "read"]

SPLITS: tuple[Split, ...] = ("train", "test")


def fits(root: Path, entry: Entry, *, sure: bool) -> bool:  # noqa: ARG001
    """Whether the lists of this reading and a folder of images lie at `root`."""
    return bool(_lists(root, entry)) and bool(_resolutions(root))


def read(scan: Scan, entry: Entry) -> list[FileSample]:
    found = _resolutions(scan.root)
    if len(found) > 1:
        names = ", ".join(folder.name for folder in found)
        raise UsageError(
            f"{scan.root}: several resolutions lie there ({names}): keep one, as numbers differ between them"
        )
    scan.variant = f"resolution {found[0].name.removeprefix('realiad_')}"
    samples: list[FileSample] = []
    for file in _lists(scan.root, entry):
        samples += _read_product(scan, entry, file, found[0])
    return samples


def _read_product(scan: Scan, entry: Entry, file: Path, folder: Path) -> list[FileSample]:
    try:
        table: dict[str, Any] = json.loads(scan.text(file))
        base = folder / table["meta"]["prefix"]
        rows = [(split, row) for split in SPLITS for row in table[split]]
        normal_word = table["meta"].get("normal_class", entry.normal[0])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        scan.report(file, f"is not a list of Real-IAD ({error})", fatal=True)
        return []
    if not base.is_dir():
        scan.report(base, f"is missing: {file.stem} is not unpacked")
        return []
    present = {path.as_posix() for path in base.rglob("*")}
    samples = []
    for split, row in rows:
        code, name, mask = row.get("anomaly_class", ""), row.get("image_path", ""), row.get("mask_path") or ""
        picture, anomalous = base / name, code != normal_word
        if picture.as_posix() not in present:
            scan.report(picture, f"is named in {file.name} and is not there")
            continue
        if anomalous and code not in entry.types:
            scan.report(picture, f"has the defect code {code!r}, which Real-IAD does not have")
        has_truth = anomalous and bool(mask) and (base / mask).as_posix() in present
        if anomalous and not has_truth:
            scan.report(picture, "has no mask")
        product, masks = row.get("category", file.stem), [base / mask] if has_truth else []
        sample = scan.sample(picture, entry, word=code, anomalous=anomalous, product=product, split=split, masks=masks)
        samples.append(sample if code in entry.types else replace(sample, defect_type=""))
    return samples


def _lists(root: Path, entry: Entry) -> list[Path]:
    name = entry.options["jsons"]
    return sorted((root / "realiad_jsons" / name).glob("*.json")) or sorted((root / name).glob("*.json"))


def _resolutions(root: Path) -> list[Path]:
    found = (root / f"realiad_{size}" for size in ("256", "512", "1024", "raw"))
    return [folder for folder in found if folder.is_dir()]
