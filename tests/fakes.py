"""An engine without a model: dark patches are anomalous, the left half is scratched and the right half stained."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from blemish._version import __version__
from blemish.backbones.config import PreprocessConfig
from blemish.config import ModelConfig
from blemish.engines.base import Engine, LoadedEngine, RawScores
from blemish.errors import UnknownNameError
from blemish.inspection import load as loading
from blemish.inspection.inspector import Inspector
from blemish.language import Vocabulary, parse_defects
from blemish.results import ModelInfo, Thresholds

GRID = 8
PREPROCESS = PreprocessConfig(size=64, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
THRESHOLDS = Thresholds(image=0.6, review=0.4, pixel=0.5)
CARD = {"image": 0.6, "review": 0.4, "pixel": 0.5}
VOCABULARY = parse_defects("scratch, stain")


class DarknessEngine(Engine):
    """Scores every patch by how dark it is; the image by its darkest patch. `batches` are the sizes of what it encoded."""

    name: ClassVar[str] = "darkness"
    method: ClassVar[str] = "darkness"
    input = PREPROCESS

    def __init__(self, *, backbone: str = "custom", fingerprint: str = "0123456789abcdef") -> None:
        self.batches: list[int] = []
        self.model = ModelInfo(
            backbone=backbone, method=self.method, prompts="", fingerprint=fingerprint, version=__version__
        )

    @classmethod
    def load(cls, config: ModelConfig, *, input_px: int | None = None) -> LoadedEngine:
        """In the place of a real engine (`use_darkness`): any method and prompts will do."""
        del input_px
        if config.backbone != "embedded":
            raise UnknownNameError("backbone", config.backbone, ["embedded"])
        engine = cls(backbone=config.backbone)
        return LoadedEngine(engine=engine, thresholds=CARD)

    def encode_texts(self, vocabulary: Vocabulary) -> Any:
        return vocabulary.names

    def encode(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        self.batches.append(len(images))
        side = PREPROCESS.size // GRID
        grey = images.mean(1).reshape(len(images), GRID, side, GRID, side)
        return grey.mean((2, 4), dtype=np.float32)  # [B, h, w]

    def score(self, features: NDArray[np.float32], texts: Any) -> list[RawScores]:
        left = np.where(np.arange(GRID) < GRID // 2, np.float32(0.9), np.float32(0.1))
        rows = []
        for brightness in features:
            darkness = (1 - brightness).clip(0, 1)
            type_maps = np.stack([darkness * left, darkness * (1 - left)]).astype(np.float32)
            rows.append(
                RawScores(
                    image_score=float(darkness.max()),
                    anomaly_map=darkness,
                    types=tuple(texts[:2]),
                    type_scores=type_maps.max((1, 2)),
                    type_maps=type_maps,
                    grid=(GRID, GRID),
                )
            )
        return rows


def use_darkness(monkeypatch: pytest.MonkeyPatch, engine: type[DarknessEngine] = DarknessEngine) -> None:
    """Puts the fake engine where `blemish.load` takes engines from."""
    monkeypatch.setattr(loading, "ENGINES", {"torch": engine})


def darkness_inspector(**options: object) -> Inspector:
    """An inspector around the fake engine."""
    settings: dict[str, object] = {"thresholds": THRESHOLDS, "vocabulary": VOCABULARY, "workers": 2, **options}
    return Inspector(DarknessEngine(), **settings)  # type: ignore[arg-type]
