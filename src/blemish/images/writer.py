"""Images to files, whole or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from blemish.atomic import replace_file
from blemish.errors import UsageError

__all__ = ["save"]

JPEG_QUALITY = 90


def save(image: Image.Image | NDArray[np.uint8] | NDArray[np.bool_], path: str | Path) -> Path:
    """Write `image` (Pillow, or uint8 [H, W] or [H, W, 3]) as PNG or JPEG, by the suffix of `path`; its path.

    A mask (bool [H, W]) is written with one bit a pixel: white where it is set.
    PNG is compressed lightly and JPEG keeps its colour at full resolution: result pictures are many, with thin lines.
    """
    path = Path(path)
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    suffix = path.suffix.lower()
    if suffix not in (".png", ".jpg", ".jpeg"):
        raise UsageError(f"{path}: images are written as .png, .jpg or .jpeg")
    with replace_file(path) as temporary, temporary.open("wb") as stream:
        if suffix == ".png":
            picture.save(stream, "PNG", compress_level=1)
        else:
            picture.save(stream, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return path
