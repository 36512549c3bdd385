"""What turns images into scores. Inspection, calibration, runs and evaluation know `base` alone; each engine is one module."""

from __future__ import annotations

from blemish.engines.base import Engine, LoadedEngine, RawScores
from blemish.plugins import Registry

__all__ = ["ENGINES", "Engine", "LoadedEngine", "RawScores"]

# A name stands for a subclass of `Engine`.
ENGINES = Registry(
    "blemish.engines",
    "engine",
    {
        "auto": "blemish.engines.auto:AutoEngine",
        "onnxruntime": "blemish.engines.graphs:ONNXRuntimeEngine",
        "openvino": "blemish.engines.graphs:OpenVINOEngine",
        "tensorrt": "blemish.engines.graphs:TensorRTEngine",
        "torch": "blemish.engines.torch:TorchEngine",
    },
)
