"""An exported model in int8 beside the one in float32, kept only where rendered pictures show that it costs next to nothing.

The linear layers of the image tower and the convolutions are quantised by ONNX Runtime, with ranges found on rendered pictures
that nothing else looks at; attention, norms and sums stay in float32. B batch, S side of the input in pixels.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.backbones.config import PreprocessConfig
from blemish.backbones.preprocess import to_array
from blemish.engines.held_out import PHOTO_PX, RenderedResult, moved_threshold
from blemish.errors import UsageError
from blemish.images import Picture
from blemish.synthesis import render

__all__ = ["LARGEST_LOSS", "Int8Result", "compare_int8", "quantise"]

LARGEST_LOSS = 0.002  # of image and pixel AUROC
CALIBRATION_SEED, CALIBRATION_PHOTOS = 8_000_000, 24
KINDS = ("Conv", "MatMul", "Gemm")  # what is quantised, where the weights are constants


@dataclass(frozen=True, kw_only=True)
class Int8Result:
    """Quantised and exact scores of the same held-out photos."""

    photos: int
    image_auroc: tuple[float, float]  # float32, int8; 0..1
    pixel_auroc: tuple[float, float]
    largest_error: float  # of an image score, 0..1
    thresholds: Mapping[str, float]  # found again on the quantised model

    @property
    def loss(self) -> float:
        """The larger loss of the two."""
        return max(self.image_auroc[0] - self.image_auroc[1], self.pixel_auroc[0] - self.pixel_auroc[1])

    @property
    def accepted(self) -> bool:
        """Whether it may be used."""
        return self.loss < LARGEST_LOSS

    def __str__(self) -> str:
        said = f"image AUROC {self.image_auroc[0]:.4f} -> {self.image_auroc[1]:.4f}, "
        said += f"pixel AUROC {self.pixel_auroc[0]:.4f} -> {self.pixel_auroc[1]:.4f} on {self.photos} held-out rendered pictures"
        return f"{said}, image scores moved by up to {self.largest_error:.2f}"


def quantise(model: Path, out: Path, *, preprocess: PreprocessConfig, texts: Sequence[NDArray[np.float32]]) -> None:
    """Writes an exported model (`onnx_export.write_scores`) with int8 weights and ranges of activations.

    Args:
        model: The ONNX model.
        out: The file to write.
        preprocess: How a picture becomes its input.
        texts: Its other inputs.

    Raises:
        UsageError: ONNX Runtime cannot quantise it.
    """
    import onnx
    from onnxruntime.quantization import (
        CalibrationDataReader,
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )
    from onnxruntime.quantization.shape_inference import quant_pre_process

    names = [value.name for value in onnx.load(str(model), load_external_data=False).graph.input]

    class Photos(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.seeds = iter(range(CALIBRATION_SEED, CALIBRATION_SEED + CALIBRATION_PHOTOS))

        def get_next(self) -> dict[str, Any] | None:
            seed = next(self.seeds, None)
            if seed is None:
                return None
            picture = Picture(render(seed, size_px=PHOTO_PX).image, source="rendered")
            return dict(zip(names, [to_array(picture, preprocess)[None], *texts], strict=True))

    prepared = out.with_suffix(".prepared.onnx")
    before = logging.root.level
    logging.root.setLevel(logging.ERROR)  # the library writes its advice to the root logger
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            quant_pre_process(str(model), str(prepared), skip_symbolic_shape=True)
            quantize_static(
                str(prepared),
                str(out),
                Photos(),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=list(KINDS),
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=CalibrationMethod.MinMax,
                extra_options={"MatMulConstBOnly": True},
            )
    except (RuntimeError, ValueError, TypeError, AttributeError) as error:
        raise UsageError(f"this model cannot be quantised ({str(error).strip().splitlines()[-1][:200]})") from error
    finally:
        logging.root.setLevel(before)
        prepared.unlink(missing_ok=True)


def compare_int8(exact: RenderedResult, quantised: RenderedResult, thresholds: Mapping[str, float]) -> Int8Result:
    """The two side by side, with the thresholds moved so that they call as many of the photos anomalous as before."""
    by_peak = {name: name == "pixel" for name in thresholds}
    return Int8Result(
        photos=len(exact.image_scores),
        image_auroc=(exact.image_auroc, quantised.image_auroc),
        pixel_auroc=(exact.pixel_auroc, quantised.pixel_auroc),
        largest_error=float(np.abs(exact.image_scores - quantised.image_scores).max()),
        thresholds={
            name: moved_threshold(
                value,
                exact.peaks if by_peak[name] else exact.image_scores,
                quantised.peaks if by_peak[name] else quantised.image_scores,
            )
            for name, value in thresholds.items()
        },
    )
