"""The formats that Pillow reads: JPEG, PNG, BMP, WebP, GIF, TGA, and AVIF and JPEG 2000 of 8 bits."""

from __future__ import annotations

import io
import struct
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    TgaImagePlugin,
    WebPImagePlugin,
)

from blemish.errors import ImageError
from blemish.images import png16
from blemish.images.depth import Samples
from blemish.images.limits import DEFLATE, JPEG_PX_PER_BYTE, PER_BYTE, check_size
from blemish.images.masks import MaskValues
from blemish.images.opened import OpenedImage, upright

__all__ = ["DEEP_MODES", "from_pillow", "open_pillow", "open_png", "orientation_of", "stored"]

BACKGROUND = 255  # white: what transparent parts show
ORIENTATION = 0x0112  # EXIF and TIFF tag
DEEP_MODES = ("I;16", "I;16L", "I;16B", "I;16N", "I", "F")
ALPHA_MODES = ("RGBA", "LA", "PA", "La", "RGBa")
MASK_MODES = ("1", "L", "P", "LA", "PA", "RGBA")
MOST_EXIF = 2**20  # bytes
MOST_SCANS = 100  # of a JPEG: encoders write ten or so, and each costs time for the whole image

# The plugins themselves, not Image.open: it checks the size against a limit that belongs to the whole process.
OPENERS: dict[str, type[ImageFile.ImageFile]] = {
    "PNG": PngImagePlugin.PngImageFile,
    "JPEG": JpegImagePlugin.JpegImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "WebP": WebPImagePlugin.WebPImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "TGA": TgaImagePlugin.TgaImageFile,
    "JPEG 2000": Jpeg2KImagePlugin.Jpeg2KImageFile,
}


def open_pillow(stream: BinaryIO, kind: str, source: str, *, max_megapixels: float) -> OpenedImage:
    """A file of one of these formats; PNG of 16 bits is for `open_png`."""
    file_bytes = _length(stream)
    if kind == "WebP":
        check_size(_webp_size(stream), source, max_megapixels)
    image = OPENERS[kind](stream)
    return describe(image, kind, source, file_bytes)


def open_png(stream: BinaryIO, source: str) -> OpenedImage:
    """A PNG of any depth: 16-bit colour goes through our own decoder."""
    header = stream.read(29)
    stream.seek(0)
    file_bytes = _length(stream)
    if len(header) < 29 or header[24] != 16:
        return describe(OPENERS["PNG"](stream), "PNG", source, file_bytes)
    width, height = struct.unpack(">16xII", header[:24])
    channels = png16.CHANNELS.get(header[25], 1)
    row_bytes = 1 + 2 * channels * width
    return OpenedImage(
        source=source,
        width_px=width,
        height_px=height,
        is_deep=True,
        file_bytes=file_bytes,
        least_bytes=height * row_bytes / DEFLATE,
        bytes_per_px=2 * channels,
        decoded_bytes_per_px=2 * channels,
        is_turned=lambda: _png_is_turned(stream),
        samples=lambda: _deep_png(stream, source),
    )


def describe(image: ImageFile.ImageFile, kind: str, source: str, file_bytes: int) -> OpenedImage:
    """An image that Pillow has opened."""
    width, height = image.size
    return OpenedImage(
        source=source,
        width_px=width,
        height_px=height,
        is_deep=image.mode in DEEP_MODES,
        file_bytes=file_bytes,
        least_bytes=_least_bytes(image, kind),
        bytes_per_px=1 / 8 if image.mode in ("1", "P") else 1.0,
        risky=kind == "JPEG 2000",
        is_lossy=kind == "JPEG",
        is_turned=lambda: _is_turned(image, kind),
        samples=lambda: _decoded(image, kind, source),
        mask=(lambda: _mask(image, kind, source)) if image.mode in MASK_MODES else None,
    )


def _decoded(image: ImageFile.ImageFile, kind: str, source: str) -> Samples:
    if kind == "JPEG":
        _check_scans(image, source)
    return from_pillow(image, source)


def from_pillow(
    image: Image.Image,
    source: str,
    *,
    declared_bits: int | None = None,
    inverted: bool = False,
) -> Samples:
    """The upright samples of a Pillow image, which is decoded if it is not yet."""
    image.load()
    turn = orientation_of(image)  # after load: TIFF is turned by Pillow, PNG may have it at its end
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


def _mask(image: ImageFile.ImageFile, kind: str, source: str) -> MaskValues:
    if kind == "JPEG":
        _check_scans(image, source)
    image.load()
    values = upright(stored(image), orientation_of(image))
    if image.mode in ("P", "PA"):
        return MaskValues(values, source, "ids")
    return MaskValues(values, source, "lossy" if kind == "JPEG" else "plain")


def stored(image: Image.Image) -> NDArray[Any]:
    """The values [H, W] of a decoded image of one of MASK_MODES, without converting colours; transparent parts are 0."""
    values = np.asarray(image)
    if image.mode == "1":
        return values.astype(np.uint8) * np.uint8(255)
    if image.mode in ("LA", "PA"):
        return np.where(values[..., 1] > 0, values[..., 0], 0)
    if image.mode == "RGBA":
        return np.where(values[..., 3] > 0, values[..., :3].max(axis=2), 0)
    return values


def _deep_png(stream: BinaryIO, source: str) -> Samples:
    stream.seek(0)
    data = stream.read()
    image = PngImagePlugin.PngImageFile(io.BytesIO(data))
    declared = png16.significant_bits(data)
    if data[25] == 0:  # grey: Pillow keeps the 16 bits
        return from_pillow(image, source, declared_bits=declared)
    values = png16.read_png16(data)
    turn = orientation_of(image)
    key = png16.transparent_colour(data)
    if values.shape[2] in (2, 4):
        coverage: NDArray[np.float32] | None = values[..., -1].astype(np.float32) / np.float32(65535)
        values = values[..., 0] if values.shape[2] == 2 else values[..., :3]
    else:
        coverage = None if key is None else (values != key).any(axis=2).astype(np.float32)
    turned_coverage = None if coverage is None else upright(coverage, turn)
    return Samples(upright(values, turn), source, declared, coverage=turned_coverage)


def orientation_of(image: Image.Image) -> int:
    """The EXIF orientation; 1 where it is damaged, which does not make the pixels worse, or longer than any."""
    try:
        if len(image.info.get("exif", b"")) > MOST_EXIF:  # its parts may claim the whole of it, each
            return 1
        return int(image.getexif().get(ORIENTATION, 1))
    except Exception:
        return 1


def _is_turned(image: ImageFile.ImageFile, kind: str) -> bool:
    if kind == "PNG":
        return _png_is_turned(image.fp)
    return orientation_of(image) >= 5


def _png_is_turned(stream: Any) -> bool:
    """Whether the EXIF part asks for it: looked for in the bytes first, as Pillow decodes all to come to its end."""
    stream.seek(0)
    data = stream.read()
    if b"eXIf" not in data and b"Raw profile type" not in data:
        return False
    return orientation_of(PngImagePlugin.PngImageFile(io.BytesIO(data))) >= 5


def _least_bytes(image: ImageFile.ImageFile, kind: str) -> float:
    """How many bytes a file of this format needs at least to hold so many pixels."""
    width, height = image.size
    pixels = width * height
    if kind == "PNG":
        bits = {"1": 1, "P": 1, "L": 1, "LA": 16, "RGB": 24, "RGBA": 32}.get(image.mode, 16)
        return height * (1 + width * bits / 8) / DEFLATE
    if kind == "BMP" and image.tile and image.tile[0][0] == "raw":
        bits = {"1": 1, "P": 1, "L": 8}.get(image.mode, 16)
        return height * width * bits / 8
    if kind == "TGA" and image.tile:
        return pixels / (64 if image.tile[0][0] == "tga_rle" else 8 if image.mode == "1" else 1)
    if kind == "JPEG":
        return pixels / JPEG_PX_PER_BYTE
    return pixels / PER_BYTE["lzw"] if kind == "GIF" else 0.0


def _check_scans(image: ImageFile.ImageFile, source: str) -> None:
    """ImageError for a JPEG with so many scans over the whole image that it would take minutes."""
    stream: Any = image.fp
    start = (
        stream.tell()
    )  # behind the head of the first scan: its length, the number of its components, two bytes each, three
    components = len(getattr(image, "layer", ()))
    stream.seek(max(0, start - 6 - 2 * components))
    one = stream.read(3) == bytes((0, 6 + 2 * components, components))
    if image.info.get("progressive") or not one:
        stream.seek(0)
        scans = stream.read().count(b"\xff\xda")  # entropy-coded data never holds these bytes
        if scans > MOST_SCANS:
            raise ImageError(
                source, f"holds {scans} scans, far more than encoders write: it is damaged or made to stall"
            )
    stream.seek(start)


def _webp_size(stream: BinaryIO) -> tuple[int, int]:
    """The canvas of a WebP file from its first bytes."""
    head = stream.read(30)
    stream.seek(0)
    part = head[12:16]
    if len(head) < 30:
        raise ValueError("the file ends in its header")
    if part == b"VP8X":
        return 1 + int.from_bytes(head[24:27], "little"), 1 + int.from_bytes(head[27:30], "little")
    if part == b"VP8L":
        bits = int.from_bytes(head[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    return int.from_bytes(head[26:28], "little") & 0x3FFF, int.from_bytes(head[28:30], "little") & 0x3FFF


def _length(stream: BinaryIO) -> int:
    start = stream.tell()
    end = stream.seek(0, 2)
    stream.seek(start)
    return end
