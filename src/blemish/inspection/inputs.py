"""What a caller may give as an image, as what the reader of images takes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from blemish.errors import UsageError
from blemish.images import ImageInput

__all__ = ["is_image", "to_image_input"]

CHANNELS = (1, 3)  # of a tensor [C, H, W]
TAKEN = "a path, bytes, an open file, a NumPy array, a tensor or a Pillow image"


def is_image(value: object) -> bool:
    """Whether this is meant as one image, and not as several."""
    return (
        isinstance(value, str | os.PathLike | bytes | bytearray | memoryview | np.ndarray | Image.Image)
        or hasattr(value, "read")
        or _is_tensor(value)
    )


def to_image_input(value: Any) -> ImageInput:
    """One image as the reader takes it: an open file is read to its end, a tensor becomes an array [H, W, C].

    Raises:
        UsageError: it is a folder, a batch, a file that was opened as text, or no image at all.
    """
    if isinstance(value, str | os.PathLike):
        if Path(value).is_dir():
            raise UsageError(
                f"{os.fspath(value)}: is a folder; blemish.inspect_folder inspects it, or give its images as a list"
            )
        return value
    if isinstance(value, bytes | bytearray | memoryview | np.ndarray | Image.Image):
        return value
    if hasattr(value, "read"):
        data = value.read()
        if not isinstance(data, bytes):
            raise UsageError("an open file must be opened in binary mode, as by open(path, 'rb')")
        return data
    if _is_tensor(value):
        return _array_of(value)
    raise UsageError(f"an image is {TAKEN}, not {type(value).__name__}")


def _is_tensor(value: object) -> bool:
    return hasattr(value, "detach") and hasattr(value, "cpu")  # without importing torch


def _array_of(tensor: Any) -> np.ndarray[Any, Any]:
    """A tensor [H, W], [C, H, W] or [H, W, C], on any device, as an array [H, W] or [H, W, C]."""
    array: np.ndarray[Any, Any] = tensor.detach().cpu().numpy()
    if array.ndim == 4:
        raise UsageError(f"a tensor of shape {list(array.shape)} is a batch: give list(tensor), one image each")
    if array.ndim == 3 and array.shape[0] in CHANNELS and array.shape[2] not in (*CHANNELS, 4):
        array = np.ascontiguousarray(array.transpose(1, 2, 0))
    return array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array
