"""ONNX models run by OpenVINO or ONNX Runtime on a processor: NumPy arrays in and out, no torch."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from blemish.errors import MissingExtraError, ModelError, UsageError
from blemish.io.processors import THREADS_VARIABLE, free_processors

__all__ = ["LIBRARIES", "GraphRun", "Library", "installed_libraries", "open_graph", "require"]

GraphRun: TypeAlias = Callable[[Sequence[NDArray[np.float32]]], list[NDArray[np.float32]]]


@dataclass(frozen=True)
class Library:
    """A library that runs ONNX models."""

    package: str  # as Python imports it
    extra: str  # of blemish, that installs it
    half: bool  # whether it computes in 16 bits, too
    distribution: str = ""  # as pip installs it, where only one of several that bring the package will do
    provider: str = ""  # what ONNX Runtime computes with, "" for the processor

    @property
    def version(self) -> str:
        """The installed version, "" where it is not installed."""
        if importlib.util.find_spec(self.package) is None:
            return ""
        try:
            return version(self.distribution or self.package)
        except PackageNotFoundError:
            return "" if self.distribution else "unknown"  # put there without its metadata


# The fastest first, where they are installed and no measurement says otherwise.
LIBRARIES = {
    "openvino": Library("openvino", "openvino", half=True),
    "onnxruntime": Library("onnxruntime", "onnx", half=False),
    "tensorrt": Library(
        "onnxruntime",
        "onnx",
        half=False,
        distribution="onnxruntime-gpu",
        provider="TensorrtExecutionProvider",
    ),
}


def installed_libraries() -> list[str]:
    """The names of the libraries that are installed, the fastest first."""
    return [name for name, library in LIBRARIES.items() if library.version]


def require(name: str) -> Library:
    """The library of this name; MissingExtraError, with the line that installs it, where it is not installed; UsageError
    likewise for TensorRT, which no extra installs."""
    library = LIBRARIES[name]
    if name == "tensorrt" and not library.version:
        raise UsageError(
            "the engine 'tensorrt' needs an NVIDIA GPU and an ONNX Runtime built with TensorRT: pip uninstall onnxruntime, then "
            "pip install onnx onnxruntime-gpu tensorrt"
        )
    if not library.version:
        raise MissingExtraError(library.package, library.extra, f"the engine {name!r}")
    return library


def open_graph(
    name: str,
    model: Path,
    *,
    threads: int | None = None,
    cache: Path | None = None,
) -> GraphRun:
    """What runs an ONNX model with the library of this name.

    Args:
        name: A key of `LIBRARIES`.
        model: The file.
        threads: That it computes with; None for one a free processor, unless OMP_NUM_THREADS says another number.
        cache: A folder for what the library compiles, so that it is compiled once.

    Raises:
        MissingExtraError: The library is not installed.
        UsageError: TensorRT is not installed.
        ModelError: It cannot run this model on this processor.
    """
    library = require(name)
    count = threads or _wanted_threads()
    try:
        if name == "openvino":
            return _openvino(model, count, cache)
        return _onnxruntime(model, count, _providers(library, cache))
    except (RuntimeError, ValueError, OSError) as error:  # ONNX Runtime's errors are RuntimeErrors, too
        reason = str(error).strip().splitlines()[-1][:300]
        raise ModelError(f"{model}: {name} {library.version} cannot run it on this processor ({reason})") from error


def _wanted_threads() -> int:
    said = os.environ.get(THREADS_VARIABLE, "").partition(",")[0]
    return int(said) if said.isdecimal() and int(said) > 0 else free_processors()


def _openvino(model: Path, threads: int, cache: Path | None) -> GraphRun:
    import openvino

    settings: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": "f32",  # what the graph has in 16 bits stays so; nothing else is made so
        "EXECUTION_MODE_HINT": "ACCURACY",
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "ENABLE_CPU_PINNING": False,  # other programs may be on the same processors
    }
    core = openvino.Core()
    if cache is not None:
        settings["CACHE_DIR"] = str(cache)
    request = core.compile_model(str(model), "CPU", settings).create_infer_request()

    def run(inputs: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        found = request.infer(dict(enumerate(inputs)))  # copied: some kernels crash on memory that is not aligned
        return [np.array(found[index]) for index in range(len(found))]  # the request's own memory is used again

    return run


def _providers(library: Library, cache: Path | None) -> list[tuple[str, dict[str, Any]]]:
    """What ONNX Runtime computes with, the first choice first."""
    processor: tuple[str, dict[str, Any]] = ("CPUExecutionProvider", {})
    if not library.provider:
        return [processor]
    kept = {} if cache is None else {"trt_engine_cache_enable": True, "trt_engine_cache_path": str(cache)}
    return [(library.provider, kept), processor]


def _onnxruntime(model: Path, threads: int, providers: list[tuple[str, dict[str, Any]]]) -> GraphRun:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(str(model), options, providers=providers)
    except Exception as error:  # its error classes are built in C++ and share no base but this one
        raise RuntimeError(str(error)) from error
    if session.get_providers()[0] != providers[0][0]:  # it says nothing where it cannot have its first choice
        raise RuntimeError(f"{providers[0][0]} could not be loaded: is there an NVIDIA GPU, and TensorRT?")
    names = [each.name for each in session.get_inputs()]

    def run(inputs: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        return list(session.run(None, dict(zip(names, inputs, strict=True))))

    return run
