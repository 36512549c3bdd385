"""Images to files, whole or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from blemish.errors import UsageError
from blemish.io.atomic import replace_file

__all__ = ["save"]

JPEG_QUALITY = 90
HALF_COLOUR_PX = 768  # shorter side from which lines on overlays are 3 pixels wide and more


def save(image: Image.Image | NDArray[np.uint8] | NDArray[np.bool_], path: str | Path) -> Path:
    """Write `image` (Pillow, or uint8 [H, W] or [H, W, 3]) as PNG or JPEG, by the suffix of `path`; its path.

    A mask (bool [H, W]) is written with one bit a pixel: white where it is set.
    PNG is compressed lightly, because result pictures are many. JPEG keeps its colour at full resolution, for thin lines;
    from 768 pixels on the shorter side at half of it (4:2:0, as cameras do), which takes two thirds of the time.
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
            subsampling = 2 if min(picture.size) >= HALF_COLOUR_PX else 0  # Pillow's names for 4:2:0 and 4:4:4
            picture.save(stream, "JPEG", quality=JPEG_QUALITY, subsampling=subsampling)
    return path
