"""How far an engine's scores lie from those of torch in float32, and how fast it is, on rendered images; kept on the disk."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blemish._version import __version__
from blemish.backbones.preprocess import to_array
from blemish.engines.base import RawScores
from blemish.images import Picture
from blemish.io.atomic import write_text
from blemish.io.json_files import json_text, read_json_if_there
from blemish.language import parse_defects
from blemish.methods.base import Method
from blemish.models.paths import GRAPHS, home
from blemish.synthesis import render

__all__ = [
    "EXACT",
    "Measured",
    "bound_of",
    "compared",
    "deviation_between",
    "graph_folder",
    "measured_once",
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


def measured_once(original: Method, other: Method, name: str) -> Measured:
    """As `compared` says on rendered images; measured once for each method, `name` and processor, then read."""
    file = graph_folder(original) / f"{name}-{_processor()}.json"
    found = read_json_if_there(file)
    if set(found) == {"deviation", "seconds", "torch_seconds"}:
        return Measured(**found)
    measured = compared(original, other, torch.from_numpy(probe_images(original)))
    write_text(file, json_text(asdict(measured)))
    return measured


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


def graph_folder(method: Method) -> Path:
    """Where graphs and measurements of a method are kept."""
    return home() / GRAPHS / _key(method)


def _key(method: Method) -> str:
    """What decides a graph: weights, method, options, input, and the code that is exported and writes it."""
    facts: list[Any] = [method.name, method.fingerprint(), method.backbone.config.preprocess.size]
    facts += [__version__, torch.__version__, _code(), type(method).__module__]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


@cache
def _code() -> str:
    """A digest of the code of towers and methods, and of what writes them as graphs."""
    package = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for files in ("backbones/*.py", "methods/*.py", "engines/onnx_export.py"):
        for file in sorted(package.glob(files)):
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
