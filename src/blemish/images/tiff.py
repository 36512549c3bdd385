"""TIFF: through Pillow where it keeps every value, else through tifffile (an extra), and the depth that tags declare."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import islice
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import ImageFile, TiffImagePlugin

from blemish.errors import ImageError
from blemish.images.depth import Samples
from blemish.images.limits import JPEG_PX_PER_BYTE, PER_BYTE
from blemish.images.masks import MaskValues
from blemish.images.modern import from_array, missing
from blemish.images.opened import OpenedImage, upright
from blemish.images.pages import directories_of, full_pages
from blemish.images.pillow import DEEP_MODES, MASK_MODES, from_pillow, orientation_of, stored

__all__ = ["declared_bits", "open_tiff"]

WIDTH, LENGTH, BITS_PER_SAMPLE, COMPRESSION, PHOTOMETRIC, ORIENTATION, SAMPLES_PER_PIXEL = (
    256,
    257,
    258,
    259,
    262,
    274,
    277,
)
SAMPLE_FORMAT, DNG_VERSION = 339, 50706
MAX_SAMPLE_VALUE, S_MAX_SAMPLE_VALUE = 281, 341
MIN_IS_WHITE, MIN_IS_BLACK, RGB = 0, 1, 2
UNSIGNED, SIGNED, FLOAT, UNTYPED = 1, 2, 3, 4  # values of SampleFormat
CODINGS = {1: "raw", 5: "lzw", 8: "deflate", 32946: "deflate", 32773: "packbits"}
JPEG = (6, 7)
LOSSLESS = (50000, 34925)  # Zstandard, LZMA
SAFE = (1, 2, 3, 4, 5, 8, 32773, 32946, 32771)  # plain, fax, LZW, deflate, packbits: decoders that are small and old
WITHOUT_IMAGECODECS = (1, 8, 32773, 32946, 34925)  # what tifffile decodes by itself
MOST_CHANNELS = 5
MOST_TAG_BYTES = 2**26


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


def open_tiff(stream: BinaryIO, source: str, *, page: int | None) -> OpenedImage:
    """A page of a TIFF (from 1; None: the first); ImageError where it is not there, or the extra is missing that reads it."""
    directories, index = list(islice(directories_of(stream), 1 if page is None else None)), 0
    if page is not None:
        pages = full_pages(directories)
        if page > len(pages):
            raise ImageError(source, f"has {len(pages)} pages")
        index = pages[page - 1]
    stream.seek(0)
    head = stream.read(10)
    file_bytes = stream.seek(0, 2)
    stream.seek(0)
    if sum(one.tag_bytes(file_bytes) for one in directories[: index + 1]) > max(MOST_TAG_BYTES, 4 * file_bytes):
        raise ImageError(source, "its tags claim far more than the file holds: it is damaged or made to stall")
    if head[8:10] == b"CR":
        raise ImageError(source, "is a camera's raw file (CR2), which is not read: develop it to TIFF or JPEG")
    damaged = head[:4] == b"MM\0+"  # what Pillow takes a big TIFF of this order for
    image = None if damaged else _with_pillow(stream, index)
    if image is not None:
        tags = image.tag_v2
        if DNG_VERSION in tags:
            raise ImageError(source, "is a camera's raw file (DNG), which is not read: develop it to TIFF or JPEG")
        if _keeps_values(tags, big_endian=head[:2] == b"MM") and not _rather_tifffile(tags):
            return _describe(image, source, file_bytes)
    stream.seek(0)
    return _with_tifffile(stream, source, index, file_bytes)


# Pillow


def _with_pillow(stream: BinaryIO, index: int) -> TiffImagePlugin.TiffImageFile | None:
    """The page as Pillow opens it; None where it does not know the layout."""
    try:
        image = TiffImagePlugin.TiffImageFile(stream)
        if index:
            image.seek(index)
    except Exception:
        return None
    return image


def _keeps_values(tags: Any, *, big_endian: bool) -> bool:
    """Whether Pillow gives the values of these samples as they are stored.

    It does for unsigned ones of up to 8 bits, and for grey ones of 16; for signed and floating-point grey ones too, unless
    they are stored compressed with the high byte first. Colour of more bits it cuts to 8, and of signed bytes it loses the sign.
    """
    bits = set(_numbers(tags.get(BITS_PER_SAMPLE, (1,))))
    formats = set(_numbers(tags.get(SAMPLE_FORMAT, (UNSIGNED,))))
    if formats <= {UNSIGNED, UNTYPED} and max(bits, default=1) <= 8:
        return True
    grey = int(tags.get(SAMPLES_PER_PIXEL, 1)) == 1 and tags.get(PHOTOMETRIC, 1) in (MIN_IS_WHITE, MIN_IS_BLACK)
    if not grey or len(bits) != 1 or len(formats) != 1:
        return False
    layout = (next(iter(formats)), next(iter(bits)))
    if layout in ((UNSIGNED, 12), (UNSIGNED, 16), (UNTYPED, 16)):
        return True
    plain = tags.get(COMPRESSION, 1) == 1 or not big_endian
    return layout in ((SIGNED, 16), (SIGNED, 32), (FLOAT, 32)) and plain


def _rather_tifffile(tags: Any) -> bool:
    """Whether a coding that not every Pillow has is read by the extra, which is there."""
    rare = int(tags.get(COMPRESSION, 1)) not in (*SAFE, *JPEG)
    plain = tags.get(PHOTOMETRIC, 1) in (MIN_IS_WHITE, MIN_IS_BLACK, RGB)
    return rare and plain and all(find_spec(name) is not None for name in ("tifffile", "imagecodecs"))


def _describe(image: TiffImagePlugin.TiffImageFile, source: str, file_bytes: int) -> OpenedImage:
    tags: Any = image.tag_v2
    width, height = int(tags[WIDTH]), int(tags[LENGTH])  # image.size may be turned already
    deep = image.mode in DEEP_MODES
    compression = int(tags.get(COMPRESSION, 1))
    bits = sum(_numbers(tags.get(BITS_PER_SAMPLE, (1,))))
    return OpenedImage(
        source=source,
        width_px=width,
        height_px=height,
        is_deep=deep,
        file_bytes=file_bytes,
        least_bytes=_least_bytes(compression, width * height, width * height * bits / 8),
        bytes_per_px=1.0 if compression in JPEG else bits / 8,
        risky=compression not in SAFE,
        is_turned=lambda: orientation_of(image) >= 5,
        samples=lambda: from_pillow(
            image,
            source,
            declared_bits=declared_bits(tags) if deep else None,
            inverted=deep and tags.get(PHOTOMETRIC, 1) == MIN_IS_WHITE,
        ),
        mask=(lambda: _mask(image, source)) if image.mode in MASK_MODES else None,
    )


def _mask(image: ImageFile.ImageFile, source: str) -> MaskValues:
    image.load()
    kind = "ids" if image.mode in ("P", "PA") else "plain"
    return MaskValues(upright(stored(image), orientation_of(image)), source, kind)  # type: ignore[arg-type]


# tifffile


@dataclass(frozen=True)
class Page:
    """One page as tifffile opens it."""

    page: Any
    source: str
    tags: Mapping[int, Any]

    @property
    def orientation(self) -> int:
        return int(self.tags.get(ORIENTATION, 1))

    def samples(self) -> Samples:
        values, alpha = self._read()
        inverted = self.page.photometric == MIN_IS_WHITE
        if values.dtype in (np.uint8, bool):  # a rare layout of ordinary depth
            shown = values.astype(np.uint8) * np.uint8(255) if values.dtype == bool else values
            channels = [255 - shown if inverted else shown]
            if alpha is not None:
                channels.append((alpha * np.float32(255) + np.float32(0.5)).astype(np.uint8))
            together = np.dstack(channels) if len(channels) > 1 else channels[0]
            return from_array(together, self.source, bits=8, turn=self.orientation)
        bits = 8 if values.dtype == np.int8 else declared_bits(self.tags)
        coverage = None if alpha is None else upright(alpha, self.orientation)
        return Samples(upright(values, self.orientation), self.source, bits, inverted, coverage)

    def _read(self) -> tuple[NDArray[Any], NDArray[np.float32] | None]:
        """Samples [H, W] or [H, W, 3] and the alpha channel [H, W] in 0..1 where there is one."""
        page = self.page
        values = page.asarray()
        if "S" in page.axes[:1]:  # planes stored one after the other
            values = np.moveaxis(values, 0, -1)  # [C, H, W] -> [H, W, C]
        if values.ndim == 2:
            return values, None
        colours = 3 if page.photometric == RGB else 1
        known = page.photometric in (MIN_IS_WHITE, MIN_IS_BLACK, RGB)
        if not known or values.ndim != 3 or values.shape[2] not in (colours, colours + 1):
            raise ImageError(
                self.source, f"its colour layout {page.photometric!s} {list(values.shape)} is not supported"
            )
        alpha = None
        if values.shape[2] > colours and page.extrasamples and page.extrasamples[0] in (1, 2):
            whole = np.issubdtype(values.dtype, np.integer)
            full = float(np.iinfo(values.dtype).max) if whole else 1.0
            alpha = np.clip(values[..., colours].astype(np.float32) / np.float32(full), 0, 1)
            if page.extrasamples[0] == 1:
                raise ImageError(self.source, "colours multiplied by alpha are not supported at more than 8 bits")
        return (values[..., 0] if colours == 1 else values[..., :3]), alpha


def _with_tifffile(stream: BinaryIO, source: str, index: int, file_bytes: int) -> OpenedImage:
    try:
        import tifffile
    except ImportError as error:
        what = "this TIFF (colour of more than 8 bits, or a rare layout)"
        raise missing("tifffile", source, what, extra="tiff") from error
    page: Any = tifffile.TiffFile(stream).pages[index]
    opened = Page(page, source, {tag.code: tag.value for tag in page.tags})
    numbers = (page.imagewidth, page.imagelength, page.imagedepth, page.samplesperpixel, page.bitspersample)
    if not all(isinstance(number, int) for number in numbers):  # a damaged tag may hold several
        raise ImageError(source, "its header does not state one width, height and depth: it is damaged")
    compression = int(page.compression)
    plain = compression in WITHOUT_IMAGECODECS and page.bitspersample in (1, 8, 16, 32, 64)
    if not plain and find_spec("imagecodecs") is None:
        name = getattr(page.compression, "name", str(compression))
        raise missing("imagecodecs", source, f"this TIFF (compression {name}, {page.bitspersample} bits)")
    supported = (
        page.dtype is not None and page.dtype.kind in "buif" and (page.dtype != bool or page.samplesperpixel == 1)
    )
    if not supported or page.imagedepth != 1 or page.samplesperpixel > MOST_CHANNELS:
        layout = (
            f"{page.samplesperpixel} samples of {page.bitspersample} bits a pixel, sample format {page.sampleformat}"
        )
        raise ImageError(source, f"its layout is not supported ({layout})")
    pixels = page.imagewidth * page.imagelength
    per_px = page.samplesperpixel * page.dtype.itemsize
    return OpenedImage(
        source=source,
        width_px=page.imagewidth,
        height_px=page.imagelength,
        is_deep=page.dtype not in (np.uint8, bool),
        file_bytes=file_bytes,
        least_bytes=_least_bytes(compression, pixels, pixels * page.samplesperpixel * page.bitspersample / 8),
        bytes_per_px=1.0 if compression not in (*SAFE, *LOSSLESS) else per_px,
        decoded_bytes_per_px=per_px,
        risky=compression not in SAFE,
        is_turned=lambda: opened.orientation >= 5,
        samples=opened.samples,
    )


def _least_bytes(compression: int, pixels: int, decoded_bytes: float) -> float:
    """How many bytes of strips or tiles a page needs at least."""
    coding = CODINGS.get(compression)
    if coding is not None:
        return decoded_bytes / PER_BYTE[coding]
    if compression in JPEG:
        return pixels / JPEG_PX_PER_BYTE
    return 0.0


def _numbers(value: Any) -> tuple[float, ...]:
    if value is None:
        return ()
    values = value if isinstance(value, tuple | list) else (value,)
    return tuple(number for number in values if isinstance(number, int | float))
