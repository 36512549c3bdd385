"""The data sets of an evaluation: by name or path, in the split that is asked for, with what identifies them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from blemish.data import DataSet, Sample, entry, is_known, known_sets, open_data
from blemish.errors import UnknownNameError, UsageError

__all__ = ["by_product", "describe", "find_data", "list_digest", "products_of", "types_of", "why_no_pixels"]

PARTS = ("test", "train", "all")


def find_data(where: str, *, root: Path | None = None, part: str | None = None) -> DataSet:
    """The data set of that name, at that path, or at that path below the root. part: test, train or all; None for its test split
    where it has one.

    UsageError where it is not there, or has no images in that part.
    """
    if part not in (None, *PARTS):
        raise UnknownNameError("split", part, PARTS)
    inside = None if root is None else root / where
    if not is_known(where) and not Path(where).exists() and inside is not None and inside.exists():
        data = open_data(inside)
    else:
        data = open_data(where, root=root)
    if part == "all":
        return data
    chosen = data.of(split="train" if part == "train" else "test")
    if part is None and not chosen.samples:
        chosen = data
    if not chosen.samples:
        raise UsageError(f"{data.name} has no images in its {part} split; see --split")
    return chosen


def products_of(name: str) -> int:
    """How many products the official set of this name has; 1 where it is not divided, or not known."""
    known = is_known(name) and not name.startswith("synthetic")
    return max(1, len(entry(name).products)) if known else 1


def why_no_pixels(data: DataSet) -> str:
    """Why pixel metrics of this data set are refused; "" where they are not."""
    if data.level != "image":
        return ""
    said = [note for known in known_sets() if known.name == data.name for note in known.notes if "pixel" in note]
    return f"{data.name} is measured at image level only: {said[0] if said else 'nobody drew its defects'}"


def by_product(samples: Sequence[Sample]) -> dict[str, list[Sample]]:
    """The samples of each product, in their order."""
    found: dict[str, list[Sample]] = {}
    for sample in samples:
        found.setdefault(sample.product, []).append(sample)
    return found


def types_of(data: DataSet) -> dict[str, tuple[str, ...]]:
    """The defect types of each product that has any: those that its authors list, else those that occur."""
    known = next((known.knowledge for known in known_sets() if known.name == data.name), {})
    found = {}
    for product, samples in by_product(data.samples).items():
        occurring = dict.fromkeys(sample.defect_type for sample in samples if sample.defect_type)
        listed = dict.fromkeys(name for name in known.get(product, {}).values() if name)
        types = listed if occurring.keys() <= listed.keys() else occurring
        if occurring:
            found[product] = tuple(types)
    return found


def list_digest(data: DataSet) -> str:
    """16 hex digits that change with any name, label, type or split of the list of files; no file is opened."""
    digest = hashlib.sha256()
    for sample in data.samples:
        row = (sample.name, sample.product, sample.split, sample.anomalous, sample.defect_type, sample.has_mask)
        digest.update(repr(row).encode())
    return digest.hexdigest()[:16]


def describe(data: DataSet) -> dict[str, Any]:
    """A data set as results name it."""
    return {
        "name": data.name,
        "variant": data.variant,
        "level": data.level,
        "licence": data.licence,
        "split": "+".join(sorted({sample.split for sample in data.samples})),
        "images": len(data.samples),
        "normal": sum(not sample.anomalous for sample in data.samples),
        "anomalous": sum(sample.anomalous for sample in data.samples),
        "products": list(data.products),
        "list_digest": list_digest(data),
        "notes": list(data.notes),
    }
