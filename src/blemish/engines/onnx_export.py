"""From torch to ONNX: the features of a method's `encode`, and its whole way from images and texts to scores.

Any number of images and of defect types goes through a written model; the side of the images is fixed. B batch, S side of the
input in pixels, T defect types.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from blemish.errors import MissingExtraError, UsageError
from blemish.io.atomic import replace_file
from blemish.methods.base import Features, Method, Texts

__all__ = ["OPSET", "FeatureLayout", "text_parts", "write_encode", "write_scores"]

OPSET = 20
EXAMPLES = 2  # images in the batch that is traced; one would be taken for "no batch" here and there


@dataclass(frozen=True)
class FeatureLayout:
    """How the tensors of features stand in a row."""

    kind: str  # the class, a name in the method's module or in `methods.base`
    counts: tuple[tuple[str, int], ...]  # fields with the number of their tensors; 0: the tensor itself
    grid: tuple[int, int]

    @classmethod
    def of(cls, features: Features) -> FeatureLayout:
        """The layout of these features; UsageError where they hold something else than tensors and the grid."""
        counts = []
        for field in fields(features):
            value = getattr(features, field.name)
            if isinstance(value, Tensor):
                counts.append((field.name, 0))
            elif isinstance(value, tuple) and all(isinstance(part, Tensor) for part in value):
                counts.append((field.name, len(value)))
            elif field.name != "grid":
                raise UsageError(f"features with {field.name} = {value!r} cannot be exported")
        counts = [(name, count) for name, count in counts if count or isinstance(getattr(features, name), Tensor)]
        return cls(type(features).__name__, tuple(counts), (int(features.grid[0]), int(features.grid[1])))

    def flat(self, features: Features) -> tuple[Tensor, ...]:
        """The tensors in a row."""
        found: list[Tensor] = []
        for name, count in self.counts:
            value = getattr(features, name)
            found += value if count else [value]
        return tuple(found)

    def features(self, tensors: Sequence[Tensor], method: Method) -> Features:
        """The features of these tensors."""
        kind: Any = getattr(sys.modules[type(method).__module__], self.kind, Features)
        values, rest = {}, list(tensors)
        for name, count in self.counts:
            values[name] = tuple(rest[:count]) if count else rest[0]
            rest = rest[count or 1 :]
        return kind(**values, grid=self.grid)


def write_encode(method: Method, path: Path, *, compare: bool) -> FeatureLayout:
    """Writes what `encode` makes of images [B, 3, S, S] as an ONNX model; how its outputs stand in a row.

    Raises:
        MissingExtraError: The package onnx is not installed.
        UsageError: The method computes something that ONNX does not know.
    """
    images = _example(method)
    with torch.no_grad():
        layout = FeatureLayout.of(_encode(method, images, compare))
    names = [f"{name}_{index}" if count else name for name, count in layout.counts for index in range(count or 1)]
    write(
        method,
        lambda x: layout.flat(_encode(method, x, compare)),
        (images,),
        path,
        inputs={"images": {0: "B"}},
        outputs=names,
    )
    return layout


def write_scores(method: Method, texts: Texts, path: Path, *, types_at: Mapping[str, int | None]) -> None:
    """Writes the way from images [B, 3, S, S] and the tensors of `texts` to image_score, anomaly_map, type_scores and
    type_maps as one ONNX model.

    Args:
        method: The method.
        texts: Those of any vocabulary, the example.
        path: The file.
        types_at: The tensors of the texts (`text_parts`) in their order, and the dimension that the types lie along, None where
            there is none.

    Raises:
        MissingExtraError: The package onnx is not installed.
        UsageError: The method computes something that ONNX does not know.
    """

    def scores(images: Tensor, *parts: Tensor) -> tuple[Tensor, ...]:
        own = type(texts)(vocabulary=texts.vocabulary, **dict(zip(types_at, parts, strict=True)))
        found = method.score(method.encode(images), own)
        return found.image_score, found.anomaly_map, found.type_scores, found.type_maps

    images, parts = _example(method), text_parts(texts)
    with torch.no_grad():
        method.encode(images)  # positions are interpolated once, outside the trace
    inputs = {"images": {0: "B"}} | {name: {} if at is None else {at: "T"} for name, at in types_at.items()}
    outputs = ["image_score", "anomaly_map", "type_scores", "type_maps"]
    write(method, scores, (images, *(parts[name] for name in types_at)), path, inputs=inputs, outputs=outputs)


def text_parts(texts: Texts) -> dict[str, Tensor]:
    """The tensors of encoded texts by name; UsageError where they hold anything else."""
    found = {field.name: getattr(texts, field.name) for field in fields(texts) if field.name != "vocabulary"}
    other = [name for name, value in found.items() if not isinstance(value, Tensor)]
    if other:
        raise UsageError(f"texts with {', '.join(other)} beside tensors cannot be exported")
    return found


def write(
    method: Method,
    function: Callable[..., tuple[Tensor, ...]],
    arguments: tuple[Tensor, ...],
    path: Path,
    *,
    inputs: Mapping[str, Mapping[int, str]],
    outputs: Sequence[str],
) -> None:
    """Writes what a method computes of tensors as an ONNX model; `inputs` names them and their dimensions of any size."""
    try:
        import onnx  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("onnx", "onnx", "writing an ONNX model") from error

    class Traced(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.method = method  # whose parameters the trace must know

        def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
            return function(*given)

    with torch.no_grad(), warnings.catch_warnings(), replace_file(path) as temporary:
        warnings.simplefilter("ignore")  # of the tracer: sizes that become numbers, as they are meant to
        try:
            # the exporter that follows a run: two seconds where the newer one takes twenty, for the same graph
            torch.onnx.export(
                Traced().eval(),
                arguments,
                str(temporary),
                dynamo=False,
                opset_version=OPSET,
                input_names=list(inputs),
                output_names=list(outputs),
                dynamic_axes={name: dict(axes) for name, axes in inputs.items() if axes},
            )
        except (torch.onnx.errors.OnnxExporterError, RuntimeError, TypeError) as error:
            reason = str(error).strip().splitlines()[0][:200]
            raise UsageError(f"this method cannot be written as an ONNX model ({reason})") from error


def _encode(method: Method, images: Tensor, compare: bool) -> Features:
    return method.encode(images, compare=True) if compare else method.encode(images)


def _example(method: Method) -> Tensor:
    side = method.backbone.config.preprocess.size
    return torch.randn(EXAMPLES, 3, side, side, generator=torch.Generator().manual_seed(0))
