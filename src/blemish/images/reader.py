"""Files, bytes, arrays and Pillow images as upright samples, with a limit on their decoded size."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import BmpImagePlugin, Image, ImageFile, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin

from blemish.errors import ImageError, UsageError
from blemish.images import dicom, png16, tiff
from blemish.images.depth import Picture, RangeGiven, Samples, ValueRanges
from blemish.images.pages import full_pages, split_page
from blemish.io.atomic import reason

__all__ = [
    "DEFAULT_MEGAPIXELS",
    "Header",
    "ImageInput",
    "check_size",
    "damage_reported",
    "decode",
    "kind_of",
    "name_of",
    "open_known",
    "opened",
    "orientation_of",
    "read",
    "read_header",
    "upright",
]

ImageInput: TypeAlias = str | os.PathLike[str] | bytes | bytearray | memoryview | NDArray[Any] | Image.Image

DEFAULT_MEGAPIXELS = 200.0
BACKGROUND = 255  # white: what transparent parts show
ORIENTATION = 0x0112  # EXIF and TIFF tag
DEEP_MODES = ("I;16", "I;16L", "I;16B", "I;16N", "I", "F")
ALPHA_MODES = ("RGBA", "LA", "PA", "La", "RGBa")

# The plugins themselves, not Image.open: it checks the size against a limit that belongs to the whole process.
OPENERS: dict[str, type[ImageFile.ImageFile]] = {
    "PNG": PngImagePlugin.PngImageFile,
    "JPEG": JpegImagePlugin.JpegImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
}
# What decoders raise on damaged data; Warning because a process may turn warnings into errors.
DAMAGE = (
    *(OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, OverflowError, AttributeError),
    *(struct.error, zlib.error, Image.DecompressionBombError, Warning),
)


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
    """The upright samples of one image, before a value range is chosen for those with more than 8 bits."""
    source = name_of(item) if source is None else source
    try:
        return _decode(item, source, max_megapixels)
    except MemoryError as error:
        raise ImageError(source, "does not fit into memory") from error


def _decode(item: ImageInput, source: str, max_megapixels: float) -> Samples:  # noqa: PLR0911  (a kind of file each)
    if isinstance(item, np.ndarray):
        return _from_array(item, source, max_megapixels)
    if isinstance(item, Image.Image):
        check_size(item.size, source, max_megapixels)
        with damage_reported(source):
            return _from_pillow(item, source)
    file, page = split_page(item)
    with opened(file, source) as stream:
        kind = kind_of(stream, source)
        if kind == "DICOM":
            check_size(dicom.frame_size(stream, source), source, max_megapixels)
            values, inverted, window, tags = dicom.read_frame(stream, source, page or 1)
            return Samples(values, source, inverted=inverted, window=window, tags=tags)
        if kind == "PNG":
            header = stream.read(26)
            stream.seek(0)
            if len(header) == 26 and header[24] == 16:
                return _from_deep_png(stream.read(), source, max_megapixels)
        index = 0 if page is None or kind != "TIFF" else _index_of(stream, source, page)
        with damage_reported(source):
            image = open_known(kind, stream)
            if image is not None and index:
                image.seek(index)
        if image is None:
            return _from_tiff(stream, source, max_megapixels, index)
        check_size(image.size, source, max_megapixels)
        with damage_reported(source):
            if kind == "TIFF" and _cut_by_pillow(image):
                return _from_tiff(stream, source, max_megapixels, index)
            declared, inverted = _tiff_depth(image) if kind == "TIFF" else (None, False)
            return _from_pillow(image, source, declared_bits=declared, inverted=inverted)


def _index_of(stream: BinaryIO, source: str, page: int) -> int:
    """Which directory of a TIFF is this page, from 1."""
    pages = full_pages(stream)
    stream.seek(0)
    if page > len(pages):
        raise ImageError(source, f"has {len(pages)} pages")
    return pages[page - 1]


def read_header(item: ImageInput) -> Header:  # noqa: PLR0911  (a kind of file each)
    """What is known of an image before it is decoded, for files from their header alone; no pixels where it is unreadable."""
    if isinstance(item, np.ndarray):
        return Header(item.shape[1], item.shape[0], item.dtype != np.uint8) if item.ndim > 1 else NO_HEADER
    if isinstance(item, Image.Image):
        return Header(*item.size, item.mode in DEEP_MODES)
    file, page = split_page(item)
    try:
        with opened(file, "") as stream:
            kind = kind_of(stream, "")
            if kind == "DICOM":
                return Header(*dicom.frame_size(stream, ""), True)
            if kind == "PNG":
                width, height, bits = struct.unpack(">16xIIB", stream.read(25))
                return Header(width, height, bits == 16)
            index = 0 if page is None or kind != "TIFF" else _index_of(stream, "", page)
            with damage_reported(""):
                image = open_known(kind, stream)
                if image is not None and index:
                    image.seek(index)
            if image is None:
                with tiff.open_page(stream, "", index) as found:
                    return Header(found.width, found.height, True)
            return Header(*image.size, image.mode in DEEP_MODES or (kind == "TIFF" and _cut_by_pillow(image)))
    except (ImageError, UsageError, MemoryError, struct.error):
        return NO_HEADER


def name_of(item: object) -> str:
    """What to call an image in results and errors: the path, with forward slashes, or its kind."""
    if isinstance(item, str | os.PathLike):
        return Path(os.fsdecode(item)).as_posix()
    if isinstance(item, Image.Image):
        return Path(getattr(item, "filename", "") or "Pillow image").as_posix()
    return "array" if isinstance(item, np.ndarray) else "bytes"


@contextmanager
def opened(item: str | os.PathLike[str] | bytes | bytearray | memoryview, source: str) -> Iterator[BinaryIO]:
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
        try:
            yield stream
        except OSError as error:  # a network drive or a card may fail in the middle
            raise ImageError(source, f"cannot be read ({reason(error)})") from error


@contextmanager
def damage_reported(source: str) -> Iterator[None]:
    try:
        yield
    except DAMAGE as error:
        text = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(source, f"cannot be decoded ({text})") from error


def kind_of(stream: BinaryIO, source: str) -> str:
    prefix = stream.read(12)
    stream.seek(0)
    if not prefix:
        raise ImageError(source, "the file is empty")
    for signature, kind in (
        (png16.SIGNATURE, "PNG"),
        (b"\xff\xd8\xff", "JPEG"),
        (b"BM", "BMP"),
        *((tag, "TIFF") for tag in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")),
    ):
        if prefix.startswith(signature):
            return kind
    if prefix.startswith(b"RIFF") and prefix[8:12] == b"WEBP":
        return "WEBP"
    stream.seek(dicom.MARK_AT)
    is_dicom = stream.read(4) == b"DICM"
    stream.seek(0)
    if is_dicom:
        return "DICOM"
    raise ImageError(source, "is not a JPEG, PNG, TIFF, BMP or WebP image")


def open_known(kind: str, stream: BinaryIO) -> ImageFile.ImageFile | None:
    """The image with its header read; None for a TIFF whose layout Pillow does not know."""
    unknown = stream.read(4) == b"MM\0+"  # it takes a big TIFF of this byte order for a damaged one
    stream.seek(0)
    if unknown:
        return None
    try:
        return OPENERS[kind](stream)
    except (SyntaxError, OSError, KeyError):
        if kind != "TIFF":
            raise
        stream.seek(0)
        return None


def check_size(size: tuple[int, int], source: str, max_megapixels: float) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise ImageError(source, f"has no pixels ({width} x {height})")
    if width * height > max_megapixels * 1e6:
        raise ImageError(
            source,
            f"{width} x {height} pixels are {width * height / 1e6:,.0f} megapixels, above the limit of "
            f"{max_megapixels:g}: raise max_megapixels (--max-megapixels) if the file is to be trusted",
        )


def _from_pillow(
    image: Image.Image, source: str, *, declared_bits: int | None = None, inverted: bool = False
) -> Samples:
    image.load()
    turn = orientation_of(image.getexif)  # after load: TIFF is turned by Pillow, PNG may have it at its end
    if image.mode in DEEP_MODES:
        values = np.asarray(image)
        values = upright(values.astype(values.dtype.newbyteorder("=")), turn)
        transparent = image.info.get("transparency")
        coverage = None if transparent is None else (values != transparent).astype(np.float32)
        return Samples(values, source, declared_bits, inverted, coverage)
    if image.mode in ALPHA_MODES or "transparency" in image.info:
        colour = image.convert("RGBA")
        white = Image.new("RGBA", colour.size, (BACKGROUND,) * 4)
        rgb = Image.alpha_composite(white, colour).convert("RGB")
    else:
        rgb = image.convert("RGB")
    return Samples(upright(np.asarray(rgb), turn), source)


def _from_deep_png(data: bytes, source: str, max_megapixels: float) -> Samples:
    with damage_reported(source):
        image = PngImagePlugin.PngImageFile(io.BytesIO(data))
    check_size(image.size, source, max_megapixels)
    with damage_reported(source):
        declared = png16.significant_bits(data)
        if data[25] == 0:  # grey: Pillow keeps the 16 bits
            return _from_pillow(image, source, declared_bits=declared)
        values = png16.read_png16(data)
        turn = orientation_of(image.getexif)
        key = png16.transparent_colour(data)
    if values.shape[2] in (2, 4):
        coverage: NDArray[np.float32] | None = values[..., -1].astype(np.float32) / np.float32(65535)
        values = values[..., 0] if values.shape[2] == 2 else values[..., :3]
    else:
        coverage = None if key is None else (values != key).any(axis=2).astype(np.float32)
    turned_coverage = None if coverage is None else upright(coverage, turn)
    return Samples(upright(values, turn), source, declared, coverage=turned_coverage)


def orientation_of(read_exif: Callable[[], Image.Exif]) -> int:
    try:
        return int(read_exif().get(ORIENTATION, 1))
    except (*DAMAGE, MemoryError):  # damaged EXIF does not make the pixels worse
        return 1


def _cut_by_pillow(image: ImageFile.ImageFile) -> bool:
    """Whether Pillow would cut the samples of this TIFF to 8 bits: colour, or grey with alpha, of more than 8."""
    bits = getattr(image, "tag_v2", {}).get(tiff.BITS_PER_SAMPLE, (1,))
    return image.mode not in DEEP_MODES and max(bits) > 8


def _tiff_depth(image: ImageFile.ImageFile) -> tuple[int | None, bool]:
    tags = getattr(image, "tag_v2", {})
    deep = image.mode in DEEP_MODES
    inverted = deep and tags.get(tiff.PHOTOMETRIC, 1) == 0
    return (tiff.declared_bits(tags), inverted) if deep else (None, False)


def _from_tiff(stream: BinaryIO, source: str, max_megapixels: float, index: int) -> Samples:
    with tiff.open_page(stream, source, index) as page:
        check_size((page.width, page.height), source, max_megapixels)
        with damage_reported(source):
            values, alpha = page.read()
        bits = page.declared_bits
        if values.dtype.itemsize == 1:  # a rare layout of ordinary depth
            bits = 1 if values.dtype == bool else 8
            values = values.astype(np.uint16)
        coverage = None if alpha is None else upright(alpha, page.orientation)
        return Samples(upright(values, page.orientation), source, bits, page.inverted, coverage)


def _from_array(array: NDArray[Any], source: str, max_megapixels: float) -> Samples:
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)):
        raise ImageError(source, f"an array must be [H, W], [H, W, 3] or [H, W, 4], not {list(array.shape)}")
    check_size((array.shape[1], array.shape[0]), source, max_megapixels)
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    if array.dtype == np.uint8:
        return _from_pillow(Image.fromarray(np.ascontiguousarray(array)), source)
    if array.dtype != np.uint16 and not np.issubdtype(array.dtype, np.floating):
        raise ImageError(source, f"an array must be uint8, uint16 or floating-point in 0..1, not {array.dtype}")
    if array.ndim == 3 and array.shape[2] == 4:
        full = np.float32(65535 if array.dtype == np.uint16 else 1)
        coverage: NDArray[np.float32] = np.clip(array[..., 3].astype(np.float32) / full, 0, 1, dtype=np.float32)
        return Samples(array[..., :3], source, coverage=coverage)
    return Samples(array, source)


def upright(values: NDArray[Any], orientation: int) -> NDArray[Any]:
    """The array [H, W, ...] turned as the EXIF orientation 1..8 asks; any other value leaves it."""
    if orientation in (5, 6, 7, 8):
        values = values.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    if orientation in (2, 3, 6, 7):
        values = values[:, ::-1]
    return np.ascontiguousarray(values)
