"""An image file whose header has been read: what it claims, and how to go on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.images.depth import Samples
from blemish.images.limits import check_held, check_memory, check_size
from blemish.images.masks import MaskValues

__all__ = ["OpenedImage", "upright"]

PICTURE_BYTES, DEEP_PICTURE_BYTES = 3, 12  # a pixel of a picture takes: uint8, or float32 of deep images
COPIES = 3  # of the decoded samples, while a picture is made of them
LARGE_BYTES, LARGE_RATIO = 64 * 2**20, 200  # decoded bytes, and how many times the file they are


@dataclass(frozen=True, kw_only=True)
class OpenedImage:
    """What the header of a file says, before anything is decoded, and the ways to decode it."""

    source: str
    width_px: int  # as stored, before the image is turned upright
    height_px: int
    is_deep: bool  # more than 8 bits a sample
    file_bytes: int
    samples: Callable[[], Samples]  # decodes the pixels
    least_bytes: float = 0.0  # so many bytes a file needs at least to hold these pixels
    bytes_per_px: float = 1.0  # of the samples as they are stored; 1 for lossy codings, which leave most away
    decoded_bytes_per_px: float = 4.0  # of the samples in memory
    risky: bool = False  # its decoder is better run in a process of its own
    is_turned: Callable[[], bool] = field(default=lambda: False)  # width and height change places
    is_lossy: bool = False  # values scatter about what was meant
    mask: Callable[[], MaskValues] | None = None  # the values as stored, where they are not those of `samples`

    @property
    def size(self) -> tuple[int, int]:
        return self.width_px, self.height_px

    @property
    def upright_size(self) -> tuple[int, int]:
        return (self.height_px, self.width_px) if self.is_turned() else self.size

    @property
    def needs_own_process(self) -> bool:
        """Whether its decoder may crash or run away, or the file grows beyond what pictures do when it is decoded."""
        decoded = self.width_px * self.height_px * self.decoded_bytes_per_px
        return self.risky or (decoded > LARGE_BYTES and decoded > LARGE_RATIO * self.file_bytes)

    def check(self, max_megapixels: float) -> None:
        """ImageError where the claims are above the limit, more than the file can hold, or more than memory allows."""
        check_size(self.size, self.source, max_megapixels)
        check_held(
            self.size,
            self.source,
            least_bytes=self.least_bytes,
            bytes_per_px=self.bytes_per_px,
            file_bytes=self.file_bytes,
        )
        per_px = COPIES * self.decoded_bytes_per_px + (DEEP_PICTURE_BYTES if self.is_deep else PICTURE_BYTES)
        check_memory(self.size, self.source, needed_bytes=per_px * self.width_px * self.height_px)


def upright(values: NDArray[Any], orientation: int) -> NDArray[Any]:
    """The array [H, W, ...] turned as the EXIF orientation 1..8 asks; any other value leaves it."""
    if orientation in (5, 6, 7, 8):
        values = values.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    if orientation in (2, 3, 6, 7):
        values = values[:, ::-1]
    return np.ascontiguousarray(values)
