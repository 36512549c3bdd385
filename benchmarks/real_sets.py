"""The real images that the embedded model is measured on, and never trained on or chosen by.

The protocol is called `measure`: elpv-dataset, all cells of probability 0 against all of 1, by cell type; each defect type of the
magnetic tiles against all normal tiles; hazelnut, colour defects against every good test and training photo; the simulated
textiles of conformal-clip-data apart from the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from blemish import images
from blemish.data import DataSet, FileSample, Sample, open_data
from blemish.errors import UsageError

SIMULATED = "conformal-clip"


@dataclass(frozen=True)
class Item:
    """One image: where it is, whether it is anomalous, and its mask's file where there is one."""

    path: Path
    anomalous: bool
    mask: Path | None = None

    def mask_pixels(self, shape: tuple[int, int]) -> NDArray[np.bool_]:
        """The mask, bool, of the image's size (rows, columns); all False for a normal image."""
        if self.mask is None:
            return np.zeros(shape, bool)
        # some masks hold stray values from 1 to 4
        return images.read_mask(self.mask).above(127)


@dataclass(frozen=True)
class Comparison:
    """One row of the table: normal images against anomalous ones."""

    name: str
    items: tuple[Item, ...]
    has_masks: bool


def _comparison(name: str, dataset: DataSet, keep: Callable[[Sample], bool]) -> Comparison:
    """The samples to keep, whatever their split."""
    samples = [sample for sample in dataset.samples if isinstance(sample, FileSample) and keep(sample)]
    items = [Item(sample.path, sample.anomalous, sample.truth.files[0] if sample.truth else None) for sample in samples]
    return Comparison(name, tuple(items), has_masks="pixel" in dataset.level)


def _each_folder(name: str, dataset: DataSet) -> list[Comparison]:
    """All normal images against those of one folder, for each folder of anomalous ones."""
    dataset = replace(dataset, samples=tuple(sorted(dataset.samples, key=lambda sample: sample.anomalous)))
    folders = dict.fromkeys(sample.folder for sample in dataset.samples if sample.anomalous)
    return [
        _comparison(
            f"{name} {folder.removeprefix('MT_')}",
            dataset,
            lambda sample, folder=folder: not sample.anomalous or sample.folder == folder,  # type: ignore[misc]
        )
        for folder in folders
    ]


def elpv(root: Path) -> list[Comparison]:
    cells = open_data("elpv", root=root)
    return [
        _comparison(f"elpv {kind}", cells, lambda sample, kind=kind: sample.folder == kind)  # type: ignore[misc]
        for kind in ("mono", "poly")
    ]


def available(root: Path) -> tuple[list[Comparison], list[str]]:
    """The comparisons whose images are here, and a line for each set that is not."""
    sources: dict[str, Callable[[], list[Comparison]]] = {
        "elpv-dataset (package)": lambda: elpv(root),
        "hazelnut": lambda: _each_folder("hazelnut", open_data(root / "hazelnut")),
        "magnetic tile": lambda: _each_folder("magnetic tile", open_data("magnetic-tile", root=root)),
        "conformal-clip-data (package)": lambda: _each_folder(SIMULATED, open_data("conformal-clip", root=root)),
    }
    comparisons, missing = [], []
    for name, source in sources.items():
        try:
            comparisons += source()
        except UsageError as error:
            missing.append(f"{name}: not found ({error})")
    return comparisons, missing


__all__ = ["SIMULATED", "Comparison", "Item", "available"]
