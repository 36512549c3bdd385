"""The engine that runs a method's own modules with torch, on a CPU or a GPU.

B batch, S side of the input in pixels, T defect types, h×w the size of a map.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterable, Iterator
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blemish._version import __version__
from blemish.config import ModelConfig, NumberPrecision
from blemish.engines.base import Engine, LoadedEngine, MemoryOptions, RawScores, ReferenceMemory
from blemish.engines.comparing import measured_once
from blemish.errors import UsageError
from blemish.io.processors import THREADS_VARIABLE, free_processors
from blemish.language import Vocabulary
from blemish.methods.base import Features, Method, Scores, Texts
from blemish.methods.closer import Closer
from blemish.methods.referenced import ReferencedScoring, among_peers
from blemish.methods.remembering import add_images, remember_images
from blemish.methods.series import unlikeness
from blemish.methods.text_cache import TextCache
from blemish.models.load import Loaded, load_method
from blemish.results import ModelInfo, Reasons

__all__ = ["TorchEngine", "device_of", "in_half", "keep_float32", "rows_of", "use_threads"]

UNMEASURED = 1.0  # scores lie in 0..1
LOOKED_AT_ONCE = 8  # images


class TorchEngine(Engine):
    """A method with its weights on a device.

    Args:
        method: a method on its backbone, with its trained prompts.
        backbone: the backbone's name, for results.
        prompts: the name of the trained prompts, for results; "" where the method has none.
        device: "cpu", "cuda", "cuda:1" or "mps".
        precision: of the method's blocks (`in_half`).
        deviation: 0..1, a bound of how far its scores lie from those of torch in float32.
        compiled: lets torch compile `encode` when the first images come.
        remarks: lines worth telling the user, besides the method's own.

    Raises:
        UsageError: the device cannot be used here.
    """

    name: ClassVar[str] = "torch"

    def __init__(
        self,
        method: Method,
        *,
        backbone: str,
        prompts: str = "",
        device: str = "cpu",
        precision: NumberPrecision = "float32",
        deviation: float = 0.0,
        compiled: bool = False,
        remarks: tuple[str, ...] = (),
    ) -> None:
        self.device = device_of(device)
        self.precision = precision
        keep_float32(self.device, precision)
        self.deviation = deviation
        self.method = method.to(self.device).eval()
        self.compiled = compiled
        self._encode = torch.compile(self.method.encode) if compiled else self.method.encode
        self._texts = TextCache()
        self.input = method.backbone.config.preprocess
        self.scores_depend_on_vocabulary = method.scores_depend_on_vocabulary
        self.aligned_corners = bool(getattr(method.config, "align_corners", False))
        self.own_thresholds = method.own_thresholds
        self.references = method.references
        self.good_references = method.good_references
        self.remarks = (*method.remarks(), *remarks)
        self._own_remarks = remarks
        self.model = ModelInfo(
            backbone=backbone,
            method=method.name,
            prompts=prompts,
            fingerprint=method.fingerprint(),
            version=__version__,
        )

    @classmethod
    def load(cls, config: ModelConfig, *, input_px: int | None = None) -> LoadedEngine:
        cls.check(config)  # before weights are read
        use_threads(config.threads)
        loaded = load_method(
            config.backbone,
            method=config.method,
            prompts=config.prompts,
            options=config.options,
            force=config.force,
            input_px=input_px,
        )
        return cls.of(loaded, config)

    @classmethod
    def of(cls, loaded: Loaded, config: ModelConfig) -> LoadedEngine:
        """The engine of a loaded method."""
        method, deviation = cls.prepared(loaded.method, config)
        engine = cls(
            method,
            backbone=method.backbone.config.name,
            prompts=loaded.prompts,
            device=config.device,
            precision=config.precision,
            deviation=deviation,
            compiled=config.compiled,
            remarks=loaded.remarks,
        )
        return LoadedEngine(
            engine=engine,
            thresholds=loaded.thresholds,
            min_lead=loaded.min_lead,
        )

    @classmethod
    def check(cls, config: ModelConfig) -> None:
        """Raises what `load` does where the engine cannot run so here."""
        if config.precision == "int8":
            raise UsageError("int8 is for exported models: write one with blemish export-model --int8")
        device_of(config.device)

    @classmethod
    def prepared(cls, method: Method, config: ModelConfig) -> tuple[Method, float]:
        """The method as the engine runs it, and its `deviation`."""
        if config.precision == "float32":
            return method, 0.0
        if config.device != "cpu":
            return in_half(method, torch.float16), UNMEASURED
        half = in_half(method, torch.bfloat16)
        return half, measured_once(method, half, f"torch-{torch.__version__}-half").deviation

    def encode_texts(self, vocabulary: Vocabulary) -> Texts:
        return self.method.encode_texts(vocabulary, cache=self._texts)

    @torch.inference_mode()
    def encode(self, images: NDArray[np.float32]) -> Features:
        return self._encode(self._on_device(images))

    @torch.inference_mode()
    def score(self, features: Features, texts: Texts) -> list[RawScores]:
        return rows_of(self.method.score(features, texts), features.grid)

    def for_product(self, name: str) -> Engine:
        return self._with(self.method.for_product(name))

    def with_references(self, images: Iterable[NDArray[np.float32]], *, good: bool = False) -> Engine:
        if good and self.method.has_own_memory:
            return self._with(self.method.with_references(self._tensors(images)))
        if good:
            return self.with_memory(self.remember(images))
        return self._with(among_peers(self.method, self._tensors(images)))

    def remember(
        self, images: Iterable[NDArray[np.float32]], *, options: MemoryOptions | None = None
    ) -> ReferenceMemory:
        return remember_images(self._without_own_memory(), self._tensors(images), options)

    def add(self, memory: ReferenceMemory, images: Iterable[NDArray[np.float32]]) -> ReferenceMemory:
        return add_images(self._method_for(memory), memory, self._tensors(images))

    def with_memory(self, memory: ReferenceMemory) -> Engine:
        return self._with(ReferencedScoring(self._method_for(memory), memory))

    def comparing_at(self, input_px: int) -> Engine:
        return self if input_px == self.input.size else self._with(Closer(self._without_own_memory(), input_px))

    @torch.inference_mode()
    def unlikeness(self, images: NDArray[np.float32]) -> float | None:
        batches = torch.split(self._on_device(images), LOOKED_AT_ONCE)
        found = [self.method.encode(batch, compare=True).reference_maps for batch in batches]
        return unlikeness([torch.cat(level) for level in zip(*found, strict=True)]) if found[0] else None

    @torch.inference_mode()
    def leave_one_out(self, memory: ReferenceMemory, texts: Texts | None = None) -> list[RawScores]:
        method = ReferencedScoring(self._method_for(memory), memory)
        image_scores, maps = method.leave_one_out(memory, texts or method.encode_texts(cache=self._texts))
        grid = method.word_grid
        none = np.zeros(0, np.float32)
        return [
            RawScores(float(score), _numpy(one), types=(), type_scores=none, type_maps=None, grid=grid)
            for score, one in zip(image_scores, maps, strict=True)
        ]

    def _without_own_memory(self) -> Method:
        """The method whose words are read beside a memory; UsageError where it has a memory of its own."""
        method = self.method.inner if isinstance(self.method, ReferencedScoring) else self.method
        if method.has_own_memory:
            raise UsageError(
                f"the method {method.name!r} has a memory of good images of its own, which no file holds: use --references"
            )
        return method

    def _method_for(self, memory: ReferenceMemory) -> Method:
        """The method that compares images of the memory's size."""
        method, size = self._without_own_memory(), int(memory.facts["input_px"])
        own = method.inner if isinstance(method, Closer) else method
        if size == own.backbone.config.preprocess.size:
            return own
        return Closer(own, size) if size > own.backbone.config.preprocess.size else method

    def _tensors(self, images: Iterable[NDArray[np.float32]]) -> Iterator[Tensor]:
        return map(self._on_device, images)

    def _with(self, method: Method) -> Engine:
        if method is self.method:
            return self
        return type(self)(
            method,
            backbone=self.model.backbone,
            prompts=self.model.prompts,
            device=str(self.device),
            precision=self.precision,
            deviation=self.deviation,
            compiled=self.compiled,
            remarks=self._own_remarks,
        )

    def _on_device(self, images: NDArray[np.float32]) -> Tensor:
        batch = torch.from_numpy(images)
        if (
            self.device.type == "cuda"
        ):  # from memory that cannot be moved, the copy needs no second one; convolutions like NHWC
            batch = batch.contiguous(memory_format=torch.channels_last).pin_memory()
        return batch.to(self.device, non_blocking=True)


def in_half(method: Method, dtype: torch.dtype) -> Method:
    """A copy of the method whose image tower computes its blocks in `dtype`; its fingerprint is that of the full weights."""
    other = copy.copy(method)
    other._modules = dict(method._modules)
    other.backbone = method.backbone.with_block_precision(dtype)
    return other


def keep_float32(device: torch.device, precision: NumberPrecision) -> None:
    """Lets no convolution on an NVIDIA GPU round to TF32, as torch does by default, where float32 was asked for.

    TF32 has the 10 bits of float16: maps moved by 0.003 (docs/engines.md), more than a threshold of the processor bears.
    """
    if device.type == "cuda" and precision == "float32":
        torch.backends.cudnn.allow_tf32 = False


def use_threads(threads: int | None) -> None:
    """Lets torch compute with so many threads; None for one a free processor, unless the user has said how many."""
    if threads is not None:
        torch.set_num_threads(threads)
    elif THREADS_VARIABLE not in os.environ and torch.get_num_threads() > free_processors():
        torch.set_num_threads(free_processors())


def rows_of(scores: Scores, grid: tuple[int, int]) -> list[RawScores]:
    """The scores of each image of a batch, as NumPy."""
    image_scores, anomaly_maps, type_scores = map(_numpy, (scores.image_score, scores.anomaly_map, scores.type_scores))
    type_maps = None if scores.type_maps is None else _numpy(scores.type_maps)
    reasons = None if scores.reasons is None else _numpy(scores.reasons)
    return [
        RawScores(
            image_score=float(image_scores[row]),
            anomaly_map=anomaly_maps[row],
            types=tuple(scores.types),
            type_scores=type_scores[row],
            type_maps=None if type_maps is None else type_maps[row],
            grid=grid,
            reasons=None if reasons is None else Reasons(words=float(reasons[row, 0]), distance=float(reasons[row, 1])),
        )
        for row in range(len(image_scores))
    ]


def _numpy(tensor: Tensor) -> NDArray[np.float32]:
    return tensor.detach().to("cpu", torch.float32).numpy()


def device_of(name: str) -> torch.device:
    """The device of this name; UsageError where it cannot be used."""
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"the device {name!r} cannot be used here; try --device cpu") from error
    return device
