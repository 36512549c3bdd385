"""TIFF: the depth that its tags declare, and deep colour, which Pillow cuts to 8 bits, through tifffile (an extra)."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from blemish.errors import ImageError, MissingExtraError

__all__ = ["BITS_PER_SAMPLE", "PHOTOMETRIC", "TiffPage", "declared_bits", "open_page"]

BITS_PER_SAMPLE, PHOTOMETRIC, ORIENTATION, MAX_SAMPLE_VALUE, S_MAX_SAMPLE_VALUE = 258, 262, 274, 281, 341
MIN_IS_WHITE, MIN_IS_BLACK, RGB = 0, 1, 2


def declared_bits(tags: Mapping[int, Any]) -> int | None:
    """The depth that a TIFF's tags declare, from 9 bits up; None where they name only the 16- or 32-bit container.

    MaxSampleValue and SMaxSampleValue count when they are 2**n - 1: other values are statistics of this one image, and
    a range taken from them would make images incomparable.
    """
    container = max(_numbers(tags.get(BITS_PER_SAMPLE, 8)), default=8)
    for tag in (MAX_SAMPLE_VALUE, S_MAX_SAMPLE_VALUE):
        highest = max(_numbers(tags.get(tag)), default=0)
        bits = int(highest).bit_length()
        if highest == 2**bits - 1 and 8 < bits < container:
            return bits
    return int(container) if 8 < container < 16 else None


@dataclass(frozen=True)
class TiffPage:
    """One page of a TIFF, its header read."""

    page: Any
    width: int
    height: int
    orientation: int
    declared_bits: int | None
    inverted: bool

    def read(self) -> tuple[NDArray[Any], NDArray[np.float32] | None]:
        """Samples [H, W] or [H, W, 3] and the alpha channel [H, W] in 0..1 where there is one."""
        values = self.page.asarray()
        if "S" in self.page.axes[:1]:  # planes stored one after the other
            values = np.moveaxis(values, 0, -1)  # [C, H, W] -> [H, W, C]
        if values.ndim == 2:
            return values, None
        colours = 3 if self.page.photometric == RGB else 1
        known = self.page.photometric in (MIN_IS_WHITE, MIN_IS_BLACK, RGB)
        if not known or values.ndim != 3 or values.shape[2] not in (colours, colours + 1):
            raise ValueError(f"colour layout {self.page.photometric!s} {list(values.shape)} is not supported")
        alpha = None
        if values.shape[2] > colours and self.page.extrasamples and self.page.extrasamples[0] in (1, 2):
            full = 1.0 if np.issubdtype(values.dtype, np.floating) else float(np.iinfo(values.dtype).max)
            alpha = np.clip(values[..., colours].astype(np.float32) / np.float32(full), 0, 1)
            if self.page.extrasamples[0] == 1:
                raise ValueError("colours multiplied by alpha are not supported at more than 8 bits")
        return (values[..., 0] if colours == 1 else values[..., :3]), alpha


@contextmanager
def open_page(stream: BinaryIO, source: str, index: int = 0) -> Iterator[TiffPage]:
    """A page, by its index, of a TIFF that Pillow cannot read as it is; an ImageError without the extra, or on damage."""
    try:
        import tifffile
    except ImportError as error:
        missing = MissingExtraError("tifffile", "tiff", "this TIFF (colour of more than 8 bits, or a rare layout)")
        raise ImageError(source, str(missing)) from error
    stream.seek(0)
    try:
        file = tifffile.TiffFile(stream)
        page: Any = file.pages[index]
        tags = {tag.code: tag.value for tag in page.tags}
        header = TiffPage(
            page,
            width=page.imagewidth,
            height=page.imagelength,
            orientation=int(tags.get(ORIENTATION, 1)),
            declared_bits=declared_bits(tags),
            inverted=page.photometric == MIN_IS_WHITE,
        )
    except (tifffile.TiffFileError, struct.error, ValueError, KeyError, IndexError, TypeError, OSError) as error:
        raise ImageError(source, f"cannot be decoded ({' '.join(str(error).split())})") from error
    with file:
        yield header


def _numbers(value: Any) -> tuple[float, ...]:
    if value is None:
        return ()
    return tuple(value) if isinstance(value, tuple | list) else (value,)
