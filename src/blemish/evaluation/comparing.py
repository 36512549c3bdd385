"""The engine for each product of an evaluation: with its name, and with the images that its own are compared with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from blemish.backbones.config import PreprocessConfig
from blemish.backbones.preprocess import to_array
from blemish.data import Sample
from blemish.engines.base import Engine
from blemish.errors import ImageError
from blemish.evaluation.candidates import Candidate
from blemish.evaluation.settings import OF_PRODUCT, SERIES, EvaluationSettings
from blemish.evaluation.states import RunFolder
from blemish.inspection.load import with_profile
from blemish.inspection.references import draw_references, with_references
from blemish.language import Vocabulary
from blemish.profiles import ProductProfile
from blemish.runs.peers import LEAST_SERIES, LOOKED_AT, Series, look_for_series

__all__ = ["ProductEngines"]

PRODUCT = "{product}"  # in the path of good references: each image's product
ALL = ""  # stands for every product where the engine is the same for all
NOTES = "references"  # the file of what was said of references; of one product with its number behind


class ProductEngines:
    """The engines of one evaluation, the last one kept.

    Args:
        candidate: What is evaluated.
        products: The samples of each product.
        settings: Which images are compared with which.
        profile: Whose memory all images are compared with.
        vocabulary: The types that anomalies are measured with.
        folder: Keeps what is said of references, for an evaluation that goes on later.

    Raises:
        UsageError: The engine does not compare images so.
    """

    def __init__(
        self,
        candidate: Candidate,
        products: Mapping[str, Sequence[Sample]],
        *,
        settings: EvaluationSettings,
        profile: ProductProfile | None,
        vocabulary: Vocabulary,
        folder: RunFolder,
    ) -> None:
        self._settings, self._products, self._folder, self._vocabulary = settings, products, folder, vocabulary
        self._candidate = candidate
        self._engine = candidate.engine if profile is None else with_profile(candidate.engine, profile)
        if settings.compare_px is not None:
            self._engine = self._engine.comparing_at(settings.compare_px)
        self._compared: tuple[str, Engine] | None = None  # the engine with the references of one product, or of all

    @property
    def input(self) -> PreprocessConfig:
        """How all of them take images."""
        return self._engine.input

    def of(self, product: str) -> Engine:
        """The engine for the images of a product."""
        settings = self._settings
        if settings.profile is not None:
            return self._engine
        engine = self._engine.for_product(product)
        if settings.references is None and settings.good_references is None:
            return engine
        each = settings.references in (OF_PRODUCT, SERIES) or PRODUCT in (settings.good_references or "")
        key = product if each or engine is not self._engine else ALL
        if self._compared is None or self._compared[0] != key:
            engine, notes = self._comparing(engine, product)
            self._folder.write_extra(self._file(key), {"notes": notes})
            self._compared = key, engine
        return self._compared[1]

    def notes(self) -> list[str]:
        """What was said of the references of all products, once each."""
        files = (self._folder.read_extra(self._file(key)) for key in (ALL, *self._products))
        return list(dict.fromkeys(note for file in files for note in file.get("notes", ())))

    def _file(self, key: str) -> str:
        return NOTES if key == ALL else f"{NOTES}-{list(self._products).index(key):03d}"

    def _comparing(self, engine: Engine, product: str) -> tuple[Engine, list[str]]:
        """The engine with the references of a product, and what is to be said of them."""
        settings = self._settings
        if settings.references in (OF_PRODUCT, SERIES):
            notes: list[str] = []
            if settings.references == SERIES:
                series = self._series(engine, product)
                notes = [
                    f"{product}: {series}" if series.judges_itself else f"{product}: {series}: each is looked at alone"
                ]
                if not series.judges_itself:
                    return engine, notes
            drawn = draw_references(self._products[product])
            return engine.with_references(pixels[None] for pixels in _prepared(drawn, engine.input)), notes
        named = settings.references or (settings.good_references or "").replace(PRODUCT, product)
        good = settings.good_references is not None
        found = with_references(engine, named, good=good, batch_size=settings.batch_size)
        return found.engine, list(found.notes)

    def _series(self, engine: Engine, product: str) -> Series:
        """Whether the images of a product judge each other."""
        samples = self._products[product]
        drawn = draw_references(samples, most=LOOKED_AT) if len(samples) >= LEAST_SERIES else []
        pixels = list(_prepared(drawn, engine.input))
        return look_for_series(
            engine,
            np.stack(pixels) if pixels else np.zeros((0,), np.float32),
            threshold=self._candidate.image_threshold,
            vocabulary=self._vocabulary,
            batch_size=self._settings.batch_size,
        )


def _prepared(samples: Sequence[Sample], preprocess: PreprocessConfig) -> Iterator[NDArray[np.float32]]:
    """The pixels [3, S, S] of each sample; one that cannot be read is named where it is measured."""
    for sample in samples:
        try:
            picture = sample.picture()
        except ImageError:
            continue
        yield to_array(picture, preprocess)
