"""An engine without a model that remembers good images: a patch is as anomalous as its grey is far from all remembered ones."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from blemish.config import ModelConfig
from blemish.engines.base import Engine, LoadedEngine, MemoryOptions, RawScores, ReferenceMemory, merge_memories
from blemish.errors import UsageError
from blemish.language import Vocabulary
from fakes import CARD, GRID, DarknessEngine


class MemoryEngine(DarknessEngine):
    """Scores in 0..1: three times the distance to the nearest grey; without a memory, how dark a patch is."""

    name: ClassVar[str] = "greys"
    method: ClassVar[str] = "greys"
    fingerprint: ClassVar[str] = "0123456789abcdef"

    def __init__(self, *, backbone: str = "custom", memory: ReferenceMemory | None = None) -> None:
        super().__init__(backbone=backbone, fingerprint=self.fingerprint)
        self.memory = memory
        self.good_references = "" if memory is None else memory.identity

    @classmethod
    def load(cls, config: ModelConfig, *, input_px: int | None = None) -> LoadedEngine:
        del input_px
        return LoadedEngine(engine=cls(backbone=config.backbone), thresholds=CARD)

    def remember(
        self, images: Iterable[NDArray[np.float32]], *, options: MemoryOptions | None = None
    ) -> ReferenceMemory:
        del options
        batches = list(images)
        pixels = np.concatenate(batches) if batches else np.zeros((0, 3, 64, 64), np.float32)
        count = len(pixels)
        facts = {
            "schema": 1,
            "method": self.method,
            "model": self.fingerprint,
            "input_px": self.input.size,
            "options": {"entries": 10**6},
            "digests": [hashlib.sha256(image.tobytes()).hexdigest()[:16] for image in pixels],
        }
        numbers = np.indices((count, GRID * GRID), np.int32).reshape(2, -1).T  # image and patch of each entry
        return ReferenceMemory({"map0": self.encode(pixels)[:, None], "entries": numbers}, facts)

    def with_memory(self, memory: ReferenceMemory) -> Engine:
        if memory.facts["model"] != self.fingerprint:
            raise UsageError(f"the memory is of the model {memory.facts['model']}, not of {self.fingerprint}")
        return type(self)(backbone=self.model.backbone, memory=memory)

    def add(self, memory: ReferenceMemory, images: Iterable[NDArray[np.float32]]) -> ReferenceMemory:
        return merge_memories(memory, self.remember(images))

    def encode_texts(self, vocabulary: Vocabulary) -> Any:
        return vocabulary.names

    def score(self, features: NDArray[np.float32], texts: Any) -> list[RawScores]:
        if self.memory is None:
            return super().score(features, texts)
        greys = self.memory.arrays["map0"][:, 0]
        others = [greys[(greys != own).any((1, 2))] for own in features]  # an image is not compared with itself
        return self._rows(features, [some if len(some) else greys for some in others], texts)

    def leave_one_out(self, memory: ReferenceMemory, texts: Any = None) -> list[RawScores]:
        greys = memory.arrays["map0"][:, 0]
        return self._rows(greys, [np.delete(greys, number, axis=0) for number in range(len(greys))], texts)

    def _rows(
        self, features: NDArray[np.float32], remembered: list[NDArray[np.float32]], texts: Any
    ) -> list[RawScores]:
        distance = [np.abs(greys - own).min(0) for greys, own in zip(remembered, features, strict=True)]
        return super().score(1 - (3 * np.stack(distance)).clip(0, 1), texts)
