"""meta.json of the AnomalyCLIP family: `{"train": {product: [...]}, "test": ...}`, or product -> list where there are no splits.

The variants that circulate are read: `product_cls`/`defect_cls`, the keys `Train`/`Test`, absolute paths.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from blemish.data.entries import Entry
from blemish.data.files import FileSample
from blemish.data.layouts.table import SPLITS, samples_of
from blemish.data.scan import Scan
from blemish.errors import UsageError

__all__ = ["fits", "read"]

META = "meta.json"


def fits(root: Path, entry: Entry, *, sure: bool) -> bool:  # noqa: ARG001
    """Whether `root` is such a file, or a folder with one."""
    return root.name == META or (root / META).is_file()


def read(scan: Scan, entry: Entry) -> list[FileSample]:
    file = scan.root / META if scan.root.is_dir() else scan.root
    try:
        table: dict[str, Any] = json.loads(scan.text(file))
        lowered = {key.lower(): value for key, value in table.items()}
        is_split = set(lowered) <= set(SPLITS) and all(isinstance(value, dict) for value in lowered.values())
        splits = lowered if is_split else {"test": table}
        rows = [
            {
                "image": str(item["img_path"]),
                "label": str(item["anomaly"]),
                "mask": str(item.get("mask_path") or ""),
                "type": str(item.get("specie_name", item.get("defect_cls", ""))),
                "product": str(item.get("cls_name", item.get("product_cls", product))),
                "split": split,
            }
            for split, products in splits.items()
            for product, items in products.items()
            for item in items
        ]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UsageError(f"{file}: is not the meta.json of the AnomalyCLIP family ({error!r})") from error
    return list(samples_of(scan, entry, file, rows))
