"""An engine that does next to nothing: it shows what everything but a model costs."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from blemish._version import __version__
from blemish.backbones.config import PreprocessConfig
from blemish.config import ModelConfig
from blemish.engines.base import Engine, LoadedEngine, RawScores
from blemish.language import Vocabulary
from blemish.results import ModelInfo

GRID = 4


class StubEngine(Engine):
    """The mean of each part of an image, as its score."""

    name: ClassVar[str] = "stub"
    input = PreprocessConfig(size=32, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    model = ModelInfo(backbone="stub", method="stub", version=__version__, fingerprint="0" * 16)

    @classmethod
    def load(cls, config: ModelConfig, *, input_px: int | None = None) -> LoadedEngine:
        del config, input_px
        return LoadedEngine(engine=cls(), thresholds={"image": 0.7, "pixel": 0.7})

    def encode_texts(self, vocabulary: Vocabulary) -> Any:
        return vocabulary.names[:2]

    def encode(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        side = self.input.size // GRID
        return images.mean(1).reshape(len(images), GRID, side, GRID, side).mean((2, 4), dtype=np.float32)

    def score(self, features: NDArray[np.float32], texts: Any) -> list[RawScores]:
        share = np.full(len(texts), 1 / len(texts), np.float32)
        return [
            RawScores(float(grey.max()), grey.clip(0, 1), tuple(texts), share, None, (GRID, GRID)) for grey in features
        ]
