"""The real images that the embedded model is measured on, and never trained on or chosen by.

The protocol is called `measure`: elpv-dataset, all cells of probability 0 against all of 1, by cell type; each defect type of the
magnetic tiles against all normal tiles; hazelnut, colour defects against every good test and training photo; the simulated
textiles of conformal-clip-data apart from the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from blemish import images
from blemish.data.elpv import solar_cells
from blemish.errors import MissingExtraError

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
        return np.asarray(images.read(self.mask).pixels[..., 0] > 127)


@dataclass(frozen=True)
class Comparison:
    """One row of the table: normal images against anomalous ones."""

    name: str
    items: tuple[Item, ...]
    has_masks: bool


def elpv() -> list[Comparison]:
    cells = [cell for cell in solar_cells() if cell.defect_probability in (0.0, 1.0)]
    return [
        Comparison(
            f"elpv {kind}",
            tuple(Item(cell.path, cell.defect_probability == 1) for cell in cells if cell.kind == kind),
            has_masks=False,
        )
        for kind in ("mono", "poly")
    ]


def magnetic_tile(root: Path) -> list[Comparison]:
    def items(kind: str, *, anomalous: bool) -> list[Item]:
        files = sorted((root / "magnetic_tile" / f"MT_{kind}" / "Imgs").glob("*.jpg"))
        return [Item(file, anomalous, file.with_suffix(".png") if anomalous else None) for file in files]

    normal = items("Free", anomalous=False)
    return [
        Comparison(f"magnetic tile {kind}", (*normal, *items(kind, anomalous=True)), has_masks=True)
        for kind in ("Blowhole", "Break", "Crack", "Fray", "Uneven")
    ]


def hazelnut(root: Path) -> list[Comparison]:
    folder = root / "hazelnut"
    good = [*sorted((folder / "train" / "good").iterdir()), *sorted((folder / "test" / "good").iterdir())]
    masks = {file.stem.removesuffix("_mask"): file for file in (folder / "ground_truth" / "colour").iterdir()}
    items = [Item(file, anomalous=False) for file in good]
    items += [Item(file, True, masks[file.stem]) for file in sorted((folder / "test" / "colour").iterdir())]
    return [Comparison("hazelnut colour", tuple(items), has_masks=True)]


def conformal_clip() -> list[Comparison]:
    folder = Path(str(resources.files("conformal_clip_data"))) / "data" / "textile_images" / "simulated"
    found = {
        kind: sorted(file for file in (folder / kind).iterdir() if file.is_file())
        for kind in ("nominal", "local", "global")
    }
    normal = [Item(file, anomalous=False) for file in found["nominal"]]
    return [
        Comparison(f"{SIMULATED} {kind}", (*normal, *(Item(file, True) for file in found[kind])), has_masks=False)
        for kind in ("local", "global")
    ]


def available(root: Path) -> tuple[list[Comparison], list[str]]:
    """The comparisons whose images are here, and a line for each set that is not."""
    sources: dict[str, Callable[[], list[Comparison]]] = {
        "elpv-dataset (package)": elpv,
        "hazelnut": lambda: hazelnut(root),
        "magnetic tile": lambda: magnetic_tile(root),
        "conformal-clip-data (package)": conformal_clip,
    }
    comparisons, missing = [], []
    for name, source in sources.items():
        try:
            found = source()
        except (ModuleNotFoundError, FileNotFoundError, MissingExtraError) as error:
            missing.append(f"{name}: not found ({error})")
            continue
        comparisons += [comparison for comparison in found if comparison.items]
        missing += [f"{comparison.name}: no images" for comparison in found if not comparison.items]
    return comparisons, missing


__all__ = ["SIMULATED", "Comparison", "Item", "available"]
