"""HEIC, AVIF, JPEG XL, and JPEG 2000 of more than 8 bits: sizes from their headers, pixels through libraries of the extra.

Their decoders are large and young, or slow on damaged data: `reader` runs them in a process of their own.
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from blemish.errors import ImageError, MissingExtraError
from blemish.images.depth import Samples
from blemish.images.opened import OpenedImage, upright
from blemish.images.pillow import OPENERS, describe, from_pillow, orientation_of

__all__ = ["from_array", "missing", "open_modern"]

EXTRA = "formats"
JPEG_2000_CODESTREAM = b"\xff\x4f\xff\x51"
JPEG_XL_RATIOS = {1: (1, 1), 2: (12, 10), 3: (4, 3), 4: (3, 2), 5: (16, 9), 6: (5, 4), 7: (2, 1)}  # width to height
HEADER_BYTES = 2**20  # in which a header must begin
APERTURE = re.compile(rb"clap(.{16})", re.DOTALL)
EXTENTS = re.compile(rb"ispe\0{4}(.{8})", re.DOTALL)


def open_modern(stream: BinaryIO, kind: str, source: str) -> OpenedImage:
    """A file of one of these formats; ImageError where its library is missing."""
    data = stream.read()
    return {"HEIC": _open_heic, "AVIF": _open_avif, "JPEG 2000": _open_jpeg_2000, "JPEG XL": _open_jpeg_xl}[kind](
        data, source
    )


def missing(package: str, source: str, what: str, *, extra: str = EXTRA) -> ImageError:
    """The error that names the extra which brings a package."""
    return ImageError(source, str(MissingExtraError(package, extra, what)))


def _opened(
    data: bytes,
    source: str,
    size: tuple[int, int],
    *,
    is_deep: bool,
    samples: Callable[[], Samples],
    is_turned: bool = False,
) -> OpenedImage:
    return OpenedImage(
        source=source,
        width_px=size[0],
        height_px=size[1],
        is_deep=is_deep,
        file_bytes=len(data),
        risky=True,
        is_turned=lambda: is_turned,
        samples=samples,
    )


def _open_heic(data: bytes, source: str) -> OpenedImage:
    if find_spec("pillow_heif") is None:
        raise missing("pillow-heif", source, "HEIC")

    def samples() -> Samples:
        import pillow_heif

        # with the values as stored (10 bits stay 10); the file's own turns are applied, and EXIF's count no more
        file: Any = pillow_heif.open_heif(io.BytesIO(data), convert_hdr_to_8bit=False, hdr_to_16bit=False)
        return from_array(np.asarray(file), source, bits=int(file.info["bit_depth"]))

    deep = _byte_after(data, b"hvcC", 17) & 7 > 0  # bit_depth_luma_minus8
    return _opened(data, source, _stated_size(data), is_deep=deep, samples=samples, is_turned=_is_turned(data))


def _open_avif(data: bytes, source: str) -> OpenedImage:
    try:
        from PIL import AvifImagePlugin
    except ImportError as error:  # Pillow before 11.3
        raise missing("pillow 11.3 or newer", source, "AVIF") from error
    if not AvifImagePlugin.SUPPORTED:
        raise missing("a Pillow with AVIF", source, "AVIF")
    bits = _avif_bits(data)
    if bits > 8 and find_spec("imagecodecs") is None:
        raise missing("imagecodecs", source, "AVIF of more than 8 bits")

    def samples() -> Samples:
        image = AvifImagePlugin.AvifImageFile(io.BytesIO(data))
        if bits == 8:
            return from_pillow(image, source)
        codecs = _imagecodecs(source, "AVIF of more than 8 bits")
        return from_array(codecs.avif_decode(data), source, bits=bits, turn=orientation_of(image))

    return _opened(data, source, _stated_size(data), is_deep=bits > 8, samples=samples, is_turned=_is_turned(data))


def _stated_size(data: bytes) -> tuple[int, int]:
    """Width and height of a HEIC or AVIF file: the largest of its items' sizes (ISO/IEC 23008-12, ispe), cropped (clap).

    Read here and not by a library, whose parser may crash on damage.
    """
    sizes = [struct.unpack(">II", found[1]) for found in EXTENTS.finditer(data[:HEADER_BYTES])]
    if not sizes:
        raise ValueError("it states no size")
    width, height = max(sizes, key=lambda size: size[0] * size[1])
    cut = APERTURE.search(data, 0, HEADER_BYTES)  # what is coded may be larger than the image
    if cut is not None:
        wide, per_wide, high, per_high = struct.unpack(">4I", cut[1])
        if per_wide and per_high and wide <= width * per_wide <= 2 * wide and high <= height * per_high <= 2 * high:
            width, height = wide // per_wide, high // per_high
    return int(width), int(height)


def _is_turned(data: bytes) -> bool:
    """Whether the file asks for a quarter turn (ISO/IEC 23008-12, irot)."""
    return _byte_after(data, b"irot", 0) & 1 == 1


def _byte_after(data: bytes, box: bytes, offset: int) -> int:
    """One byte of the first box of that type; 0 where there is none."""
    at = data.find(box, 0, HEADER_BYTES) + 4 + offset
    return data[at] if at >= 4 + offset and at < len(data) else 0


def _avif_bits(data: bytes) -> int:
    """The bits a sample from the configuration of the AV1 decoder (av1C); 8 where it has none."""
    flags = _byte_after(data, b"av1C", 2)
    high, twelve = flags >> 6 & 1, flags >> 5 & 1
    return 12 if high and twelve else 10 if high else 8


def _open_jpeg_2000(data: bytes, source: str) -> OpenedImage:
    at = data.find(JPEG_2000_CODESTREAM, 0, HEADER_BYTES)
    if at < 0:
        raise ValueError("it holds no codestream")
    right, bottom, left, top = struct.unpack(">4I", data[at + 8 : at + 24])
    (components,) = struct.unpack(">H", data[at + 40 : at + 42])
    depths = data[at + 42 : at + 42 + 3 * components : 3]
    bits, signed = max((1 + (depth & 0x7F) for depth in depths), default=0), any(depth & 0x80 for depth in depths)
    if bits <= 8 and not signed:
        return describe(OPENERS["JPEG 2000"](io.BytesIO(data)), "JPEG 2000", source, len(data))

    def samples() -> Samples:
        codecs = _imagecodecs(source, "JPEG 2000 of more than 8 bits")
        return from_array(codecs.jpeg2k_decode(data, numthreads=1), source, bits=bits, alpha=False)

    return _opened(data, source, (right - left, bottom - top), is_deep=True, samples=samples)


def _open_jpeg_xl(data: bytes, source: str) -> OpenedImage:
    codecs = _imagecodecs(source, "JPEG XL")
    size = _jpeg_xl_size(data)

    def samples() -> Samples:
        values = codecs.jpegxl_decode(data, numthreads=1)
        return from_array(values, source, bits=8 * values.dtype.itemsize)

    # whether it is deep, and turned, stands behind what is read here: it is taken for the larger
    return _opened(data, source, size, is_deep=True, samples=samples)


def _jpeg_xl_size(data: bytes) -> tuple[int, int]:
    """Width and height, from the first bits of the codestream (ISO/IEC 18181-1, SizeHeader)."""
    start = 0
    if not data.startswith(b"\xff\x0a"):
        start = next(
            (data.find(part, 0, HEADER_BYTES) for part in (b"jxlc", b"jxlp") if part in data[:HEADER_BYTES]), -1
        )
        start = data.find(b"\xff\x0a", start) if start >= 0 else -1
    if start < 0:
        raise ValueError("it holds no codestream")
    bits = int.from_bytes(data[start + 2 : start + 14], "little")

    def take(count: int) -> int:
        nonlocal bits
        value = bits & ((1 << count) - 1)
        bits >>= count
        return value

    small = take(1)

    def side() -> int:
        return 8 * (take(5) + 1) if small else take((9, 13, 18, 30)[take(2)]) + 1

    height = side()
    ratio = take(3)
    if not ratio:
        return side(), height
    across, down = JPEG_XL_RATIOS[ratio]
    return height * across // down, height


def from_array(values: NDArray[Any], source: str, *, bits: int, turn: int = 1, alpha: bool = True) -> Samples:
    """Decoded samples [H, W] or [H, W, 1..4] as Samples; the second or fourth channel is alpha."""
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[..., 0]
    channels = 1 if values.ndim == 2 else values.shape[2]
    if values.ndim not in (2, 3) or channels > 4 or (not alpha and channels in (2, 4)):
        raise ImageError(source, f"its colours are not supported ({list(values.shape)})")
    if values.dtype == np.uint8:
        from PIL import Image

        modes = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
        shown = Image.frombytes(modes[channels], values.shape[1::-1], np.ascontiguousarray(values).tobytes())
        return Samples(upright(from_pillow(shown, source).values, turn), source)
    coverage: NDArray[np.float32] | None = None
    if channels in (2, 4):
        full = 1.0 if np.issubdtype(values.dtype, np.floating) else float(2**bits - 1)
        coverage = upright(np.clip(values[..., -1].astype(np.float32) / np.float32(full), 0, 1), turn)
        values = values[..., 0] if channels == 2 else values[..., :3]
    declared = bits if 8 < bits < 16 else None
    return Samples(upright(values, turn), source, declared, coverage=coverage)


def _imagecodecs(source: str, what: str) -> Any:
    try:
        import imagecodecs
    except ImportError as error:
        raise missing("imagecodecs", source, what) from error
    return imagecodecs
