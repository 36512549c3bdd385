"""The interface of every engine: NumPy images in, scores out. Importing it imports no torch.

B batch, S side of the input in pixels, T defect types, h×w the size of a map.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from blemish.backbones.config import PreprocessConfig
from blemish.config import ModelConfig, NumberPrecision
from blemish.errors import UsageError
from blemish.language import Vocabulary
from blemish.methods.reference_memory import MemoryOptions, ReferenceMemory, merge_memories, reduce_memory, remove_image
from blemish.results import ModelInfo, Reasons

__all__ = [
    "SERIES_UP_TO",
    "Engine",
    "LoadedEngine",
    "MemoryOptions",
    "RawScores",
    "ReferenceMemory",
    "merge_memories",
    "reduce_memory",
    "remove_image",
]


# 11 series (rendered, VisA, circuit boards) lie at 0.98 or below, mixtures of them at 1.19 or above; docs/references-measured.md
SERIES_UP_TO = 1.08


@dataclass(frozen=True, eq=False)
class RawScores:
    """The scores of one image, or of one tile of it; higher is more anomalous."""

    image_score: float  # 0..1
    anomaly_map: NDArray[np.float32]  # [h, w], 0..1
    types: tuple[str, ...]  # T names, in the order of the vocabulary
    type_scores: NDArray[np.float32]  # [T], 0..1
    type_maps: NDArray[np.float32] | None  # [T, h', w'], 0..1; None where the method has none
    grid: tuple[int, int]  # rows and columns of patches
    reasons: Reasons | None = None  # what raised the image score beyond that of good images, where there are some


class Engine(ABC):
    """Something that scores images: a method on a backbone, run by a library.

    An engine holds no vocabulary: texts are encoded once by `encode_texts` and given to `score`, so that one engine serves
    several vocabularies at the same time. One engine is used by one thread at a time.
    """

    name: ClassVar[str]  # as `--engine` takes it
    input: PreprocessConfig  # how a picture becomes the engine's input
    model: ModelInfo  # what decides the scores besides input, references and (some methods) the vocabulary
    scores_depend_on_vocabulary: bool = False  # false: names move no score, and thresholds hold for all vocabularies
    aligned_corners: bool = False  # the centres of the outer cells of type maps lie on the border of the image
    remarks: tuple[str, ...] = ()  # lines worth telling the user about this model
    precision: NumberPrecision = "float32"  # of the numbers that the image tower's blocks are computed in
    deviation: float = (
        0.0  # 0..1; no score or map lies further from those of torch in float32 (measured when it was loaded)
    )
    own_thresholds: Mapping[str, float] = MappingProxyType(
        {}
    )  # "image", "review", "pixel": beside images of the product
    references: str = ""  # number and digest of the unlabelled reference images that scores depend on, "" for none
    good_references: str = ""  # likewise of the good ones in the method's memory

    @classmethod
    @abstractmethod
    def load(cls, config: ModelConfig, *, input_px: int | None = None) -> LoadedEngine:
        """The engine of a configuration.

        Args:
            config: The model, and where it runs.
            input_px: Side of the square that images are resized to; None for the backbone's own.

        Raises:
            UnknownNameError: There is no such backbone or method.
            UsageError: The device cannot be used here, or the backbone does not take this input size.
            ModelError: Weights or prompts are not what was expected.
        """

    @abstractmethod
    def encode_texts(self, vocabulary: Vocabulary) -> Any:
        """The texts of a vocabulary as `score` takes them; encoded once, then cached."""

    @abstractmethod
    def encode(self, images: NDArray[np.float32]) -> Any:
        """The features of prepared images [B, 3, S, S], as `score` takes them."""

    @abstractmethod
    def score(self, features: Any, texts: Any) -> list[RawScores]:
        """The scores of B encoded images with these texts."""

    def for_product(self, name: str) -> Engine:
        """The engine for images of a product, as the data set calls it; itself where its prompts do not speak of the product."""
        del name
        return self

    def with_references(self, images: Iterable[NDArray[np.float32]], *, good: bool = False) -> Engine:
        """An engine that also compares each image with others of the same product.

        Args:
            images: The reference images in prepared batches [B, 3, S, S].
            good: They are known to be good. Else they are unlabelled, most of them good.

        Raises:
            UsageError: This engine or method cannot, or the images are too few.
        """
        del images, good
        raise self._no_references()

    def remember(
        self, images: Iterable[NDArray[np.float32]], *, options: MemoryOptions | None = None
    ) -> ReferenceMemory:
        """A memory of good images of one product, for `with_memory`.

        Args:
            images: Prepared batches [B, 3, S, S]; copies of one image count once.
            options: How they are remembered.

        Raises:
            UsageError: This engine or method cannot, or there are no images.
        """
        del images, options
        raise self._no_references()

    def add(self, memory: ReferenceMemory, images: Iterable[NDArray[np.float32]]) -> ReferenceMemory:
        """The memory with more good images, in prepared batches; those that it holds already count once.

        Raises:
            UsageError: This engine or method cannot, or the memory is of another model.
        """
        del memory, images
        raise self._no_references()

    def with_memory(self, memory: ReferenceMemory) -> Engine:
        """An engine that reads its scores beside a memory of good images; an image of the memory is compared with its others.

        Raises:
            UsageError: This engine or method cannot, or the memory is of another model or input size.
        """
        del memory
        raise self._no_references()

    def leave_one_out(self, memory: ReferenceMemory, texts: Any = None) -> list[RawScores]:
        """The scores of the memory's own images in their order, each compared with the others alone; without types.

        Nothing is looked at again: the memory holds what it takes.

        Args:
            memory: What `remember` made.
            texts: Of `encode_texts`; None for the built-in vocabulary.

        Raises:
            UsageError: As `with_memory`.
        """
        del memory, texts
        raise self._no_references()

    def comparing_at(self, input_px: int) -> Engine:
        """An engine whose words look at images as this one's do, but which takes larger ones to compare their patches by.

        Raises:
            UsageError: This engine or its backbone cannot.
        """
        if input_px == self.input.size:
            return self
        raise self._no_references()

    def unlikeness(self, images: NDArray[np.float32]) -> float | None:
        """How unlike each other prepared images [R, 3, S, S] are, low for a series of one product (`SERIES_UP_TO`); None where
        the engine cannot say."""
        del images
        return None

    def _no_references(self) -> UsageError:
        return UsageError(f"the engine {self.name!r} takes no reference images; use --engine torch")


@dataclass(frozen=True, kw_only=True, eq=False)
class LoadedEngine:
    """An engine, and what its model card says of the decisions from its scores."""

    engine: Engine
    thresholds: Mapping[str, float] = field(default_factory=dict)  # "image", "review", "pixel": 0..1
    min_lead: float = 0.0  # 0..1; a type that leads the next by less is unknown
