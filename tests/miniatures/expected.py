"""A tiny data set, and what a reader must find in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from blemish.data import DataSet, Level
from miniatures.files import BLOB_PX

Found = dict[tuple[str, str, str, str], tuple[int, int]]  # product, split, folder, type -> images, of them with a mask


def found_in(dataset: DataSet) -> Found:
    """What a data set holds, in the form of the expectations below."""
    images: Counter[tuple[str, str, str, str]] = Counter()
    masks: Counter[tuple[str, str, str, str]] = Counter()
    for sample in dataset.samples:
        key = (sample.product, sample.split, sample.folder, sample.defect_type)
        images[key] += 1
        masks[key] += sample.anomalous and sample.has_mask
    return {key: (count, masks[key]) for key, count in images.items()}


@dataclass(frozen=True)
class Miniature:
    """How to build a data set below a folder, and what must be found; `folder` is its usual name."""

    build: Callable[[Path], object]
    level: Level
    found: Found
    folder: str = ""
    mask_px: int | None = BLOB_PX
    notes: tuple[str, ...] = field(default=())
