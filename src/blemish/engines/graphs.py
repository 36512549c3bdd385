"""Engines that run a method's image side with OpenVINO or ONNX Runtime; texts and scores stay torch's, a few small products.

The image side is exported once from the method's own `encode` and kept below the home of models, under everything that decides
it. So every method that ONNX can express works, alone or with references. B batch, S side of the input in pixels.
"""

from __future__ import annotations

import copy
from dataclasses import asdict
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from blemish.config import ModelConfig, NumberPrecision
from blemish.engines.comparing import Measured, graph_folder, measured_once
from blemish.engines.onnx_export import OPSET, FeatureLayout, write_encode
from blemish.engines.sessions import LIBRARIES, GraphRun, open_graph, require
from blemish.engines.torch import TorchEngine, in_half
from blemish.errors import UsageError
from blemish.io.atomic import write_text
from blemish.io.json_files import json_text, read_json_if_there
from blemish.methods.base import Features, Method

__all__ = ["GraphEngine", "ImageSide", "ONNXRuntimeEngine", "OpenVINOEngine", "TensorRTEngine"]


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


class TensorRTEngine(GraphEngine):
    """With ONNX Runtime's TensorRT, on an NVIDIA GPU."""

    name: ClassVar[str] = "tensorrt"
    library: ClassVar[str] = "tensorrt"


class ImageSide:
    """The exported `encode` of a method, kept on the disk, compiled for this machine when it is first run.

    Args:
        method: The method, on a processor and in float32.
        library: A key of `LIBRARIES`.
        threads: That it computes with; None for one a free processor.
        precision: "half" lets the blocks of the image tower compute in 16 bits, as `in_half`; all else stays in float32.

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
        self.exported = method if precision == "float32" else in_half(method, torch.bfloat16)
        self.folder = graph_folder(method)
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
        name = f"{self.library}-{LIBRARIES[self.library].version}-{self.precision}"
        return measured_once(self.original, self.method, name)

    def _graph(self, compare: bool) -> tuple[GraphRun, FeatureLayout]:
        if compare not in self._opened:
            stem = f"{'encode-and-compare' if compare else 'encode'}-{self.precision}-opset-{OPSET}"
            model, layout_file = self.folder / f"{stem}.onnx", self.folder / f"{stem}.json"
            stored = read_json_if_there(layout_file)
            if stored and model.is_file():
                layout = FeatureLayout(
                    stored["kind"], tuple((name, count) for name, count in stored["counts"]), tuple(stored["grid"])
                )
            else:
                layout = write_encode(self.exported, model, compare=compare)
                write_text(layout_file, json_text(asdict(layout)))
            session = open_graph(
                self.library,
                model,
                threads=self.threads,
                cache=self.folder / f"compiled-{self.precision}",
            )
            self._opened[compare] = session, layout
        return self._opened[compare]


def _without_reference_maps(features: Features) -> Features:
    if not features.reference_maps:
        return features
    other = copy.copy(features)
    object.__setattr__(other, "reference_maps", ())
    return other
