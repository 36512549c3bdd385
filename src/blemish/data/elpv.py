"""ELPV: solar cells in electroluminescence, straight from the package elpv-dataset (2,624 images, no masks).

Buerhop-Lutz et al. 2018, Deitsch et al. 2019; CC BY-NC-SA 4.0. Each cell has the probability that it is defective, as two
experts saw it (0, 1/3, 2/3, 1), and is mono- or polycrystalline.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from importlib.util import find_spec
from pathlib import Path

from blemish.errors import MissingExtraError

__all__ = ["SolarCell", "solar_cells"]


@dataclass(frozen=True)
class SolarCell:
    """One image: its file, the probability (0..1) that it is defective, and its kind, "mono" or "poly"."""

    path: Path
    defect_probability: float
    kind: str


def solar_cells() -> list[SolarCell]:
    """All cells in the data set's order; MissingExtraError where the package is not installed."""
    if find_spec("elpv_dataset") is None:
        raise MissingExtraError("elpv-dataset", "demo", "the solar cells of ELPV")
    folder = Path(str(resources.files("elpv_dataset"))) / "data"
    rows = [line.split() for line in (folder / "labels.csv").read_text(encoding="utf-8").splitlines() if line.strip()]
    return [SolarCell(folder / path, float(probability), kind) for path, probability, kind in rows]
