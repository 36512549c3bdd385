"""DICOM through pydicom (an extra): one frame as samples, with the window that its tags ask for, or one from percentiles."""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from blemish.errors import ImageError, MissingExtraError

__all__ = ["MARK_AT", "TAGS", "count_frames", "frame_size", "read_frame"]

MARK_AT = 128  # where b"DICM" stands
PERCENTILES = (0.5, 99.5)
# What goes into the results: how the values came about, never who was looked at.
TAGS = (
    *("Modality", "PhotometricInterpretation", "BitsStored", "PixelRepresentation", "NumberOfFrames"),
    *("RescaleSlope", "RescaleIntercept", "RescaleType", "WindowCenter", "WindowWidth", "VOILUTFunction"),
    *("PixelSpacing", "ImagerPixelSpacing", "SliceThickness", "BodyPartExamined", "ViewPosition", "Manufacturer"),
)


def count_frames(path: Path) -> int:
    """How many frames a file holds; 1 where it cannot be read, or pydicom is not installed."""
    try:
        with path.open("rb") as stream:
            return int(_header(stream, str(path)).get("NumberOfFrames") or 1)
    except (OSError, ImageError, ValueError):
        return 1


def frame_size(stream: BinaryIO, source: str) -> tuple[int, int]:
    """Width and height of a frame in pixels, without decoding it."""
    header = _header(stream, source)
    return int(header.get("Columns") or 0), int(header.get("Rows") or 0)


def read_frame(
    stream: BinaryIO, source: str, number: int
) -> tuple[NDArray[Any], bool, tuple[float, float] | None, dict[str, str]]:
    """Frame `number` (from 1): values, whether 0 is white, the window (low, high) of grey values, and TAGS as text.

    Grey values [H, W] are float32 after the modality's rescaling (Hounsfield units of a CT); colour is uint8 [H, W, 3]. The
    window is that of the tags, or the percentiles 0.5 and 99.5 of this frame. ImageError where the extra is missing, the frame
    is not there, or its coding needs a decoder that is not installed.
    """
    pydicom = _pydicom(source)
    try:
        stream.seek(0)
        data = pydicom.dcmread(stream)
        frames = int(data.get("NumberOfFrames") or 1)
        if number > frames:
            raise ImageError(source, f"has {frames} frames")
        values = pydicom.pixels.pixel_array(data, index=number - 1)
        kind = str(data.get("PhotometricInterpretation", ""))
        if kind == "PALETTE COLOR":
            values = pydicom.pixels.apply_color_lut(values, data)
        tags = {name: str(data[name].value) for name in TAGS if name in data and data[name].value not in (None, "")}
        if values.ndim == 3:
            if values.dtype != np.uint8:
                values = (values >> (8 * (values.dtype.itemsize - 1))).astype(np.uint8)
            return values, False, None, tags
        grey = np.asarray(pydicom.pixels.apply_modality_lut(values, data), np.float32)
        return grey, kind == "MONOCHROME1", _window(data) or _spread(grey), tags
    except ImageError:
        raise
    except Exception as error:  # pydicom and its decoders raise whatever they like on damage
        raise ImageError(source, f"cannot be decoded ({' '.join(str(error).split())})") from error


def _window(data: Any) -> tuple[float, float] | None:
    """The first window of the tags (DICOM PS3.3, C.11.2.1.2); None where there is none."""
    centre, width = _first(data.get("WindowCenter")), _first(data.get("WindowWidth"))
    if centre is None or width is None or width <= 1:
        return None
    if str(data.get("VOILUTFunction") or "LINEAR") == "LINEAR_EXACT":
        return centre - width / 2, centre + width / 2
    return centre - 0.5 - (width - 1) / 2, centre - 0.5 + (width - 1) / 2


def _spread(grey: NDArray[np.float32]) -> tuple[float, float]:
    low, high = (float(value) for value in np.percentile(grey, PERCENTILES))
    return low, max(high, low + 1e-6 * max(1.0, abs(low)))


def _first(value: Any) -> float | None:
    if value is None or value == "":
        return None
    return float(value) if isinstance(value, str | int | float) else float(next(iter(value)))


def _header(stream: BinaryIO, source: str) -> Any:
    pydicom = _pydicom(source)
    stream.seek(0)
    try:
        return pydicom.dcmread(stream, stop_before_pixels=True)
    except Exception as error:  # as above
        raise ImageError(source, f"cannot be decoded ({' '.join(str(error).split())})") from error


def _pydicom(source: str) -> Any:
    try:
        import pydicom
        import pydicom.pixels
    except ImportError as error:
        raise ImageError(source, str(MissingExtraError("pydicom", "medical", "DICOM"))) from error
    return pydicom
