"""The fastest engine that is installed and gives torch's scores."""

from __future__ import annotations

from blemish.config import ModelConfig
from blemish.engines.base import LoadedEngine
from blemish.engines.comparing import EXACT
from blemish.engines.graphs import GraphEngine, ImageSide, ONNXRuntimeEngine, OpenVINOEngine, TensorRTEngine
from blemish.engines.sessions import installed_libraries
from blemish.engines.torch import TorchEngine
from blemish.errors import ModelError, UsageError
from blemish.models.load import Loaded

__all__ = ["AutoEngine"]

GRAPH_ENGINES: dict[str, type[GraphEngine]] = {
    "openvino": OpenVINOEngine,
    "onnxruntime": ONNXRuntimeEngine,
    "tensorrt": TensorRTEngine,
}


class AutoEngine(TorchEngine):
    """What `--engine auto` loads: of the installed engines that are exact on rendered images, the one that was fastest there."""

    @classmethod
    def of(cls, loaded: Loaded, config: ModelConfig) -> LoadedEngine:
        if config.device == "cpu" and config.precision == "float32" and not config.compiled:
            for kind in _fastest_first(loaded, config):
                return kind.of(loaded, config)
        return TorchEngine.of(loaded, config)


def _fastest_first(loaded: Loaded, config: ModelConfig) -> list[type[GraphEngine]]:
    """The engines that are exact and faster than torch, by what was measured on this machine."""
    found = []
    for name in installed_libraries():
        try:
            measured = ImageSide(loaded.method, name, threads=config.threads).measured()
        except (UsageError, ModelError):  # ONNX does not know the method, or the library not this processor
            continue
        if measured.deviation <= EXACT and measured.seconds < measured.torch_seconds:
            found.append((measured.seconds, name))
    return [GRAPH_ENGINES[name] for _, name in sorted(found)]
