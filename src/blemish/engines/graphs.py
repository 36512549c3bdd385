"""Engines that run a method's image side with OpenVINO or ONNX Runtime; texts and scores stay torch's, a few small products.

The image side is exported once from the method's own `encode` and kept below the home of models, under everything that decides
it. So every method that ONNX can express works, alone or with references. B batch, S side of the input in pixels.
"""

from __future__ import annotations

import copy
import hashlib
import json
import time
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blemish._version import __version__
from blemish.backbones.preprocess import to_array
from blemish.config import ModelConfig, NumberPrecision
from blemish.engines.base import RawScores
from blemish.engines.onnx_export import OPSET, FeatureLayout, write_encode
from blemish.engines.sessions import LIBRARIES, GraphRun, open_graph, require
from blemish.engines.torch import TorchEngine
from blemish.errors import UsageError
from blemish.images import Picture
from blemish.io.atomic import write_text
from blemish.io.json_files import json_text, read_json_if_there
from blemish.language import parse_defects
from blemish.methods.base import Features, Method
from blemish.models.paths import GRAPHS, home
from blemish.synthesis import render

__all__ = [
    "EXACT",
    "GraphEngine",
    "Measured",
    "ONNXRuntimeEngine",
    "OpenVINOEngine",
    "deviation_between",
    "probe_images",
]

EXACT = 1e-4  # largest error of a score or a map, for an engine to count as the same as torch
PROBE_SEEDS = (7_000_001, 7_000_002)  # of the rendered images that engines are compared on
PROBE_DEFECTS = "scratch, hole, stain"


@dataclass(frozen=True)
class Measured:
    """An engine beside torch on this machine, on rendered images."""

    deviation: float  # 0..1, bound of the error of scores and maps
    seconds: float  # an image
    torch_seconds: float  # an image, in the same minute


class GraphEngine(TorchEngine):
    """A method whose `encode` runs as an exported graph. Processors only."""

    library: ClassVar[str]

    @classmethod
    def check(cls, config: ModelConfig) -> None:
        library = require(cls.library)
        if config.device != "cpu":
            raise UsageError(
                f"the engine {cls.library!r} runs on the processor: leave --device out, or use --engine torch"
            )
        if config.precision == "half" and not library.half:
            raise UsageError(f"the engine {cls.library!r} computes in float32 only: use --engine openvino for half")
        if config.compiled:
            raise UsageError("--compiled is for the engine torch: the graphs of others are compiled always")
        super().check(config)

    @classmethod
    def prepared(cls, method: Method, config: ModelConfig) -> tuple[Method, float]:
        image_side = ImageSide(method, cls.library, threads=config.threads, precision=config.precision)
        return image_side.method, image_side.measured().deviation


class OpenVINOEngine(GraphEngine):
    """With OpenVINO."""

    name: ClassVar[str] = "openvino"
    library: ClassVar[str] = "openvino"


class ONNXRuntimeEngine(GraphEngine):
    """With ONNX Runtime."""

    name: ClassVar[str] = "onnxruntime"
    library: ClassVar[str] = "onnxruntime"


class ImageSide:
    """The exported `encode` of a method, kept on the disk, compiled for this machine when it is first run.

    Args:
        method: The method, on a processor and in float32.
        library: A key of `LIBRARIES`.
        threads: That it computes with; None for one a free processor.
        precision: Of its numbers.

    Raises:
        UsageError: ONNX does not know something that `encode` computes.
        ModelError: The library cannot run the graph here.
    """

    def __init__(
        self, method: Method, library: str, *, threads: int | None = None, precision: NumberPrecision = "float32"
    ) -> None:
        self.original = method
        self.library = library
        self.threads = threads
        self.precision: NumberPrecision = precision
        self.folder = home() / GRAPHS / _key(method)
        self._opened: dict[bool, tuple[GraphRun, FeatureLayout]] = {}
        self.method = copy.copy(method)  # the same weights
        self.method._modules = dict(method._modules)
        self.method.encode = self.encode  # type: ignore[method-assign]

    def encode(self, images: Tensor, *, compare: bool = False) -> Features:
        """As the method's own `encode`."""
        run, layout = self._graph(
            compare or self.original.backbone.image.trunk is not None
        )  # a trunk's maps are there anyway
        found = run([np.ascontiguousarray(images.numpy(), dtype=np.float32)])
        features = layout.features([torch.from_numpy(array) for array in found], self.original)
        return features if compare else _without_reference_maps(features)

    def measured(self) -> Measured:
        """How it compares with torch; measured once for each library, precision and processor, then read."""
        name = f"{self.library}-{LIBRARIES[self.library].version}-{self.precision}-{_processor()}.json"
        found = read_json_if_there(self.folder / name)
        if set(found) == {"deviation", "seconds", "torch_seconds"}:
            return Measured(**found)
        images = torch.from_numpy(probe_images(self.original))
        measured = compared(self.original, self.method, images)
        write_text(self.folder / name, json_text(asdict(measured)))
        return measured

    def _graph(self, compare: bool) -> tuple[GraphRun, FeatureLayout]:
        if compare not in self._opened:
            stem = "encode-and-compare" if compare else "encode"
            model, layout_file = self.folder / f"{stem}.onnx", self.folder / f"{stem}.json"
            stored = read_json_if_there(layout_file)
            if stored and model.is_file():
                layout = FeatureLayout(
                    stored["kind"], tuple((name, count) for name, count in stored["counts"]), tuple(stored["grid"])
                )
            else:
                layout = write_encode(self.original, model, compare=compare)
                write_text(layout_file, json_text(asdict(layout)))
            session = open_graph(
                self.library,
                model,
                threads=self.threads,
                precision=self.precision,
                cache=self.folder
                / f"compiled-{self.precision}",  # OpenVINO crashes on what it compiled for another one
            )
            self._opened[compare] = session, layout
        return self._opened[compare]


def compared(original: Method, other: Method, images: Tensor) -> Measured:
    """How far the second method's scores of these images lie from the first one's, and how long each took."""
    with torch.inference_mode():
        texts = original.encode_texts(parse_defects(PROBE_DEFECTS))
        other.encode(images[:1])  # exported, compiled and warm before the clock starts
        seconds, rows = [], []
        for method in (original, other):
            started = time.perf_counter()
            features = method.encode(images)
            seconds.append((time.perf_counter() - started) / len(images))
            scores = method.score(features, texts)
            rows.append([scores.image_score, scores.anomaly_map, scores.type_scores, scores.type_maps])
    error = max(float((one - two).abs().max()) for one, two in zip(*rows, strict=True))
    return Measured(bound_of(error), seconds[1], seconds[0])


def deviation_between(one: list[RawScores], other: list[RawScores]) -> float:
    """The largest difference of any score or map, 0..1."""
    largest = 0.0
    for a, b in zip(one, other, strict=True):
        pairs = [(np.array(a.image_score), np.array(b.image_score)), (a.anomaly_map, b.anomaly_map)]
        pairs += [(a.type_scores, b.type_scores)]
        if a.type_maps is not None and b.type_maps is not None:
            pairs.append((a.type_maps, b.type_maps))
        largest = max([largest, *(float(np.abs(left - right).max()) for left, right in pairs)])
    return largest


def bound_of(error: float) -> float:
    """The next power of ten that an error does not exceed, at least 1e-6: what is stored must not change from run to run."""
    bound = 1e-6
    while bound < min(error, 1.0):
        bound *= 10
    return float(f"{bound:.0e}")


def probe_images(method: Method) -> NDArray[np.float32]:
    """Rendered images [2, 3, S, S] as the method takes them."""
    preprocess = method.backbone.config.preprocess
    pictures = [render(seed, size_px=max(64, preprocess.size)).image for seed in PROBE_SEEDS]
    return np.stack([to_array(Picture(pixels, source="probe"), preprocess) for pixels in pictures])


def _without_reference_maps(features: Features) -> Features:
    if not features.reference_maps:
        return features
    other = copy.copy(features)
    object.__setattr__(other, "reference_maps", ())
    return other


def _key(method: Method) -> str:
    """What decides the graph: weights, method, options, input, the code that is exported, and how it is written."""
    facts: list[Any] = [method.name, method.fingerprint(), method.backbone.config.preprocess.size]
    facts += [__version__, torch.__version__, OPSET, _code(), type(method).__module__]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


@cache
def _code() -> str:
    """A digest of the code of towers and methods."""
    package = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for room in ("backbones", "methods"):
        for file in sorted((package / room).glob("*.py")):
            digest.update(file.read_bytes())
    return digest.hexdigest()


@cache
def _processor() -> str:
    """Eight hex digits that tell this processor from others, as far as the system says."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        facts = sorted({line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part"))})
    except OSError:
        import platform

        facts = [platform.processor(), platform.machine()]
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:8]
