"""A model that needs no weights and data sets in memory, for evaluations that take a moment."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np

from blemish.data.samples import DataSet, Level
from blemish.evaluation import Candidate
from fakes import DarknessEngine
from probe import ArraySample


class Darkness(DarknessEngine):
    """The fake engine under the name of a real method, so that published rows are found."""

    method: ClassVar[str] = "faprompt"


def candidate(engine: DarknessEngine | None = None, *, prompts: str = "") -> Candidate:
    engine = engine or Darkness()
    engine.model = replace(engine.model, backbone="none", prompts=prompts, fingerprint=f"{prompts or 'a':>16}")
    return Candidate(engine=engine, backbone_fingerprint="0" * 16)


def sample(number: int, *, product: str = "thing", kind: str = "", seed: int = 0) -> ArraySample:
    """A bright picture; where it has a type, a dark square: "scratch" on the left, "stain" on the right."""
    rng = np.random.default_rng([seed, number])
    image = rng.integers(120, 256, (40, 48, 3)).astype(np.uint8)
    mask = np.zeros((40, 48), bool)
    if kind:
        top, left = int(rng.integers(0, 26)), int(rng.integers(0, 10)) + 26 * (kind == "stain")
        mask[top : top + 12, left : left + 10] = True
        image[mask] = rng.integers(20, 160)
    name = f"{product}/{kind or 'good'}/{number:03d}.png"
    return ArraySample(name, image, mask, bool(kind), "test", product=product, defect_type=kind)


def data_set(*, count: int = 12, products: tuple[str, ...] = ("thing",), level: Level = "image+pixel") -> DataSet:
    """Of each product a third normal, a third scratched, a third stained."""
    kinds = ("", "scratch", "stain")
    made = [
        sample(number, product=product, kind=kinds[number % 3], seed=place)
        for place, product in enumerate(products)
        for number in range(count)
    ]
    return DataSet("squares", tuple(made), level, variant="drawn")


def anomalous_only(data: DataSet) -> DataSet:
    return replace(data, samples=tuple(one for one in data.samples if one.anomalous), level="pixel")
