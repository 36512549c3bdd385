"""The real images that the embedded model is measured on, and never trained on or chosen by.

The protocol is called `measure`: elpv-dataset, all cells of probability 0 against all of 1, by cell type; each defect type of the
magnetic tiles against all normal tiles; hazelnut, colour defects against every good test and training photo; crackforest and
kvasir, which have no normal images, by their pixels alone; the simulated textiles of conformal-clip-data apart from the rest. Of
`benchmarks.public_sets`: MVTec AD's bottle (official test images), BrainMRI (all images), CVC-ClinicDB (pixels alone).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from blemish.data import DataSet, FileSample, Sample, open_data
from blemish.data.files import Truth
from blemish.errors import UsageError

SIMULATED = "conformal-clip"


# What a mean over the sets is made of: each counts the same, however many rows it has.
IMAGE_SETS = ("elpv", "magnetic tile", "hazelnut")
PIXEL_SETS = ("magnetic tile", "hazelnut", "crackforest", "kvasir")
# A second mean, over the sets of `benchmarks.public_sets`, so that the first can be compared with earlier ones.
PUBLIC_IMAGE_SETS = ("bottle", "brainmri")
PUBLIC_PIXEL_SETS = ("bottle", "clinicdb")


@dataclass(frozen=True)
class Item:
    """One image: where it is, whether it is anomalous, and its truth where somebody drew one."""

    path: Path
    anomalous: bool
    truth: Truth | None = None

    @property
    def mask(self) -> Path | None:
        """The file of the truth."""
        return self.truth.files[0] if self.truth else None

    @property
    def name(self) -> str:
        """It decides the bootstrap, so no part of the machine is in it."""
        return f"{self.path.parent.name}/{self.path.name}"

    def mask_pixels(self, shape: tuple[int, int]) -> NDArray[np.bool_]:
        """The mask, bool, of the image's size (rows, columns); all False for a normal image."""
        return np.zeros(shape, bool) if self.truth is None else self.truth.mask(shape[::-1])


@dataclass(frozen=True)
class Comparison:
    """One row of the table: normal images against anomalous ones. `set_name` is what a mean over the sets counts it to; `peers`
    are all images of the product, those of other rows, too."""

    name: str
    items: tuple[Item, ...]
    has_masks: bool
    set_name: str = ""
    peers: tuple[Path, ...] = ()

    @property
    def good(self) -> tuple[Item, ...]:
        return tuple(item for item in self.items if not item.anomalous)


@dataclass(frozen=True)
class Finding:
    """What a method says of one image: higher is more anomalous; the map [h, w] covers all of it, size_px is width, height."""

    image_score: float
    anomaly_map: NDArray[np.float32]
    size_px: tuple[int, int]
    top_type: str = ""
    verdict: str = ""


def _comparison(name: str, set_name: str, dataset: DataSet, keep: Callable[[Sample], bool]) -> Comparison:
    """The samples to keep, whatever their split."""
    samples = [sample for sample in dataset.samples if isinstance(sample, FileSample) and keep(sample)]
    items = [Item(sample.path, sample.anomalous, sample.truth) for sample in samples]
    paths = tuple(item.path for item in items)
    return Comparison(name, tuple(items), has_masks="pixel" in dataset.level, set_name=set_name, peers=paths)


def _each_folder(name: str, dataset: DataSet) -> list[Comparison]:
    """All normal images against those of one folder, for each folder of anomalous ones."""
    dataset = replace(dataset, samples=tuple(sorted(dataset.samples, key=lambda sample: sample.anomalous)))
    folders = dict.fromkeys(sample.folder for sample in dataset.samples if sample.anomalous)
    whole = _comparison(name, name, dataset, lambda _: True)
    rows = [
        _comparison(
            f"{name} {folder.removeprefix('MT_')}",
            name,
            dataset,
            lambda sample, folder=folder: not sample.anomalous or sample.folder == folder,  # type: ignore[misc]
        )
        for folder in folders
    ]
    return [replace(row, peers=whole.peers) for row in rows]


def elpv(root: Path) -> list[Comparison]:
    cells = open_data("elpv", root=root)
    return [
        _comparison(f"elpv {kind}", "elpv", cells, lambda sample, kind=kind: sample.folder == kind)  # type: ignore[misc]
        for kind in ("mono", "poly")
    ]


def _only_anomalous(name: str, root: Path) -> list[Comparison]:
    return [_comparison(name, name, open_data(name, root=root), lambda _: True)]


def _bottle(root: Path) -> list[Comparison]:
    bottle = open_data(root / "bottle")
    return [_comparison("bottle", "bottle", bottle, lambda sample: sample.split == "test")]


def available(
    root: Path, *, public: Path | None = None, without_normal: bool = False
) -> tuple[list[Comparison], list[str]]:
    """The comparisons whose images are here, and a line for each set that is not.

    public: folder that `benchmarks.public_sets` filled; None leaves its sets out.
    without_normal: with the sets that have no normal images, of which only the pixels can be measured.
    """
    sources: dict[str, Callable[[], list[Comparison]]] = {
        "elpv-dataset (package)": lambda: elpv(root),
        "hazelnut": lambda: _each_folder("hazelnut", open_data(root / "hazelnut")),
        "magnetic tile": lambda: _each_folder("magnetic tile", open_data("magnetic-tile", root=root)),
        "crackforest": lambda: _only_anomalous("crackforest", root),
        "kvasir": lambda: _only_anomalous("kvasir", root),
        "conformal-clip-data (package)": lambda: _each_folder(SIMULATED, open_data("conformal-clip", root=root)),
    }
    if public is not None:
        sources |= {
            "bottle": lambda: _bottle(public),
            "brainmri": lambda: [
                _comparison("brainmri", "brainmri", open_data("brainmri", root=public), lambda _: True)
            ],
            "clinicdb": lambda: _only_anomalous("clinicdb", public),
        }
    comparisons, missing = [], []
    for name, source in sources.items():
        if name in ("crackforest", "kvasir", "clinicdb") and not without_normal:
            continue
        try:
            comparisons += source()
        except UsageError as error:
            missing.append(f"{name}: not found ({error})")
    return comparisons, missing


__all__ = [
    "IMAGE_SETS",
    "PIXEL_SETS",
    "PUBLIC_IMAGE_SETS",
    "PUBLIC_PIXEL_SETS",
    "SIMULATED",
    "Comparison",
    "Finding",
    "Item",
    "available",
]
