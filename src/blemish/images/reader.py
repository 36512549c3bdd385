"""Files, bytes, arrays and Pillow images as upright samples, with limits on what a file may claim."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from blemish.errors import ImageError, UsageError
from blemish.images import isolation
from blemish.images.boundary import decoding
from blemish.images.depth import Picture, RangeGiven, Samples, ValueRanges
from blemish.images.kinds import kind_of
from blemish.images.limits import DEFAULT_MEGAPIXELS, check_size
from blemish.images.masks import MaskValues
from blemish.images.opened import OpenedImage
from blemish.images.pages import split_page
from blemish.images.pillow import DEEP_MODES, from_pillow, open_pillow, open_png
from blemish.io.atomic import reason

__all__ = [
    "DEFAULT_MEGAPIXELS",
    "Header",
    "ImageInput",
    "decode",
    "decode_here",
    "name_of",
    "read",
    "read_header",
    "read_mask",
    "read_size",
]

ImageInput: TypeAlias = str | os.PathLike[str] | bytes | bytearray | memoryview | NDArray[Any] | Image.Image
FileInput: TypeAlias = str | os.PathLike[str] | bytes | bytearray | memoryview

MODERN = ("HEIC", "AVIF", "JPEG 2000", "JPEG XL")


@dataclass(frozen=True)
class Header:
    """The size of an image, not yet turned upright, and whether it holds more than 8 bits a sample."""

    width_px: int
    height_px: int
    is_deep: bool

    @property
    def picture_bytes(self) -> int:
        """What its picture will take in memory."""
        return self.width_px * self.height_px * 3 * (4 if self.is_deep else 1)


NO_HEADER = Header(0, 0, False)


def read(
    item: ImageInput,
    *,
    source: str | None = None,
    value_range: RangeGiven | None = None,
    max_megapixels: float = DEFAULT_MEGAPIXELS,
) -> Picture:
    """The picture in a file, its bytes, an array or a Pillow image; an ImageError says why there is none.

    Arrays are [H, W], [H, W, 3] or [H, W, 4]; uint8, uint16, or floating-point in 0..1. Of a file with several images
    the first is read, or the one that the path names (`stack.tif#2`). EXIF orientation is applied, transparent parts become
    white, colour profiles are not applied.
    See ValueRanges for images with more than 8 bits; `source` is the name that results and errors carry.
    """
    return ValueRanges(value_range).picture(decode(item, source=source, max_megapixels=max_megapixels))


def decode(item: ImageInput, *, source: str | None = None, max_megapixels: float = DEFAULT_MEGAPIXELS) -> Samples:
    """The upright samples of one image, before a value range is chosen for those with more than 8 bits.

    ImageError where there are none, whatever a library raises. What a file claims is checked before it is decoded, and what
    could stall or crash is decoded in a process of its own, which has a limited time.
    """
    source = name_of(item) if source is None else source
    with decoding(source):
        if isinstance(item, np.ndarray | Image.Image):
            return _from_memory(item, source, max_megapixels)
        with _opened(item, source, max_megapixels) as found:
            if found.needs_own_process and isolation.can_isolate():
                return isolation.decode_isolated(item, found, max_megapixels=max_megapixels) or found.samples()
            return found.samples()


def decode_here(item: FileInput, *, source: str, max_megapixels: float) -> Samples:
    """As `decode`, in this process in any case: what the process of its own runs."""
    with decoding(source), _opened(item, source, max_megapixels) as found:
        return found.samples()


def read_header(item: ImageInput) -> Header:
    """What is known of an image before it is decoded, for files from their header alone; no pixels where it is unreadable."""
    if isinstance(item, np.ndarray):
        return Header(item.shape[1], item.shape[0], item.dtype != np.uint8) if item.ndim > 1 else NO_HEADER
    if isinstance(item, Image.Image):
        return Header(*item.size, item.mode in DEEP_MODES)
    try:
        with decoding(""), _opened(item, "", None) as found:
            return Header(*found.size, found.is_deep)
    except (ImageError, UsageError):
        return NO_HEADER


def read_size(item: ImageInput, *, source: str | None = None) -> tuple[int, int]:
    """Width and height in pixels of the upright image, of files without decoding them; ImageError where it is unreadable."""
    source = name_of(item) if source is None else source
    if isinstance(item, np.ndarray | Image.Image):
        height, width = decode(item, source=source).values.shape[:2]
        return width, height
    with decoding(source), _opened(item, source, None) as found:
        return found.upright_size


def read_mask(item: ImageInput, *, source: str | None = None) -> MaskValues:
    """The values of one mask; an ImageError says why there are none."""
    source = name_of(item) if source is None else source
    if not isinstance(item, np.ndarray | Image.Image):
        with decoding(source), _opened(item, source, DEFAULT_MEGAPIXELS) as found:
            if found.mask is not None and not found.needs_own_process:
                return found.mask()
            lossy = found.is_lossy
    else:
        lossy = False
    values = decode(item, source=source).values
    return MaskValues(values if values.ndim == 2 else values.max(axis=2), source, "lossy" if lossy else "plain")


@contextmanager
def _opened(item: FileInput, source: str, max_megapixels: float | None) -> Iterator[OpenedImage]:
    """The image in a file, with its header read and, for a limit of megapixels, what it claims checked."""
    file, page = split_page(item)
    with _stream(file, source) as stream:
        kind = kind_of(stream, source)
        found = _open_kind(stream, kind, source, page, max_megapixels or DEFAULT_MEGAPIXELS)
        if max_megapixels is not None:
            found.check(max_megapixels)
        yield found


def _open_kind(stream: BinaryIO, kind: str, source: str, page: int | None, max_megapixels: float) -> OpenedImage:
    """The image by the format that its content says; modules of rare formats are imported when one comes."""
    if kind == "PNG":
        return open_png(stream, source)
    if kind == "TIFF":
        from blemish.images.tiff import open_tiff

        return open_tiff(stream, source, page=page)
    if kind == "DICOM":
        from blemish.images.dicom import open_dicom

        return open_dicom(stream, source, page=page)
    if kind == "PGM/PPM":
        from blemish.images.netpbm import open_netpbm

        return open_netpbm(stream, source)
    if kind in MODERN:
        from blemish.images.modern import open_modern

        return open_modern(stream, kind, source)
    return open_pillow(stream, kind, source, max_megapixels=max_megapixels)


def name_of(item: object) -> str:
    """What to call an image in results and errors: the path, with forward slashes, or its kind."""
    if isinstance(item, str | os.PathLike):
        return Path(os.fsdecode(item)).as_posix()
    if isinstance(item, Image.Image):
        return Path(getattr(item, "filename", "") or "Pillow image").as_posix()
    return "array" if isinstance(item, np.ndarray) else "bytes"


@contextmanager
def _stream(item: FileInput, source: str) -> Iterator[BinaryIO]:
    if isinstance(item, bytes | bytearray | memoryview):
        yield io.BytesIO(item)
        return
    if not isinstance(item, str | os.PathLike):
        raise UsageError(f"an image is a path, bytes, a NumPy array or a Pillow image, not {type(item).__name__}")
    path = Path(os.fsdecode(item))
    try:
        if path.exists() and not path.is_file():  # reading a pipe would wait for ever
            raise ImageError(source, "is a folder" if path.is_dir() else "is not a regular file")
        stream = path.open("rb")
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise ImageError(source, reason(error) if isinstance(error, OSError) else str(error)) from error
    with stream:
        yield stream


def _from_memory(item: NDArray[Any] | Image.Image, source: str, max_megapixels: float) -> Samples:
    if isinstance(item, np.ndarray):
        return _from_array(item, source, max_megapixels)
    check_size(item.size, source, max_megapixels)
    return from_pillow(item, source)


def _from_array(array: NDArray[Any], source: str, max_megapixels: float) -> Samples:
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)):
        raise ImageError(source, f"an array must be [H, W], [H, W, 3] or [H, W, 4], not {list(array.shape)}")
    check_size((array.shape[1], array.shape[0]), source, max_megapixels)
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    if array.dtype == np.uint8:
        return from_pillow(Image.fromarray(np.ascontiguousarray(array)), source)
    if array.dtype != np.uint16 and not np.issubdtype(array.dtype, np.floating):
        raise ImageError(source, f"an array must be uint8, uint16 or floating-point in 0..1, not {array.dtype}")
    if array.ndim == 3 and array.shape[2] == 4:
        full = np.float32(65535 if array.dtype == np.uint16 else 1)
        coverage: NDArray[np.float32] = np.clip(array[..., 3].astype(np.float32) / full, 0, 1, dtype=np.float32)
        return Samples(array[..., :3], source, coverage=coverage)
    return Samples(array, source)
