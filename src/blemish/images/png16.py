"""16-bit colour PNG, which Pillow cuts to 8 bits: the samples as the file holds them.

Follows the PNG specification (W3C, third edition), sections 8 (interlace) and 9 (filters).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

__all__ = ["chunk", "read_png16", "significant_bits", "transparent_colour"]

SIGNATURE = b"\x89PNG\r\n\x1a\n"
CHANNELS = {2: 3, 4: 2, 6: 4}  # colour type -> samples per pixel
ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))


def read_png16(data: bytes) -> NDArray[np.uint16]:
    """The samples [H, W, C] of a 16-bit RGB, grey + alpha or RGBA PNG; ValueError where the file is damaged."""
    width, height, _, colour_type, _, _, interlace = struct.unpack(">IIBBBBB", data[16:29])
    channels = CHANNELS[colour_type]
    passes = ADAM7 if interlace else ((0, 0, 1, 1),)
    shapes = [(-(-(height - y) // dy), -(-(width - x) // dx)) for y, x, dy, dx in passes]
    expected = sum(h * (1 + w * channels * 2) for h, w in shapes if h > 0 and w > 0)
    decoder = zlib.decompressobj()
    compressed = b"".join(body for kind, body in _chunks(data) if kind == b"IDAT")
    raw = decoder.decompress(compressed, expected)
    if len(raw) < expected:
        raise ValueError("the image data ends early")
    image = np.empty((height, width, channels), np.uint16)
    start = 0
    for (y, x, dy, dx), (h, w) in zip(passes, shapes, strict=True):
        if h <= 0 or w <= 0:
            continue
        row_bytes = 1 + w * channels * 2
        rows = np.frombuffer(raw, np.uint8, h * row_bytes, start).reshape(h, row_bytes)
        start += h * row_bytes
        samples = _unfilter(rows[:, 0], rows[:, 1:].reshape(h, w, channels * 2))
        image[y::dy, x::dx] = samples.view(">u2")  # [h, w, 2C] bytes -> [h, w, C]
    return image


def significant_bits(data: bytes) -> int | None:
    """The largest depth that the PNG's sBIT chunk declares for a colour or grey sample; None without the chunk."""
    body = chunk(data, b"sBIT")
    depth = max(body[:3] if data[25] in (2, 6) else body[:1], default=0)
    return depth if 0 < depth <= 16 else None


def chunk(data: bytes, name: bytes) -> bytes:
    """The body of the first chunk called `name`; empty where there is none."""
    return next((body for kind, body in _chunks(data) if kind == name), b"")


def transparent_colour(data: bytes) -> tuple[int, int, int] | None:
    """The colour that a 16-bit RGB PNG declares transparent (tRNS)."""
    body = chunk(data, b"tRNS")
    return struct.unpack(">3H", body) if data[25] == 2 and len(body) == 6 else None


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    position = len(SIGNATURE)
    while position + 12 <= len(data):
        length, kind = struct.unpack(">I4s", data[position : position + 8])
        end = position + 8 + length
        body = data[position + 8 : end]
        if data[end : end + 4] != struct.pack(">I", zlib.crc32(kind + body)):
            raise ValueError(f"its {kind.decode('latin-1')} part is damaged or cut off")
        yield kind, body
        position = end + 4


def _unfilter(kinds: NDArray[np.uint8], filtered: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Undo the row filters of [H, W, B] bytes, B bytes a pixel.

    A pixel needs its left, upper and upper left neighbours, so all pixels of an anti-diagonal are done at once.
    """
    if kinds.max(initial=0) > 4:
        raise ValueError("unknown row filter")
    height, width, _ = filtered.shape
    out = np.zeros((height + 1, width + 1, filtered.shape[2]), np.uint8)  # a border of zeros stands for "outside"
    for diagonal in range(height + width - 1):
        y = np.arange(max(0, diagonal - width + 1), min(height, diagonal + 1))
        x = diagonal - y
        left, up, corner = (out[y + 1, x].astype(np.int16), out[y, x + 1].astype(np.int16), out[y, x].astype(np.int16))
        kind = kinds[y, None]
        guess = np.where(kind == 1, left, 0) + np.where(kind == 2, up, 0) + np.where(kind == 3, (left + up) // 2, 0)
        guess += np.where(kind == 4, _paeth(left, up, corner), 0)
        out[y + 1, x + 1] = filtered[y, x] + guess.astype(np.uint8)
    return np.ascontiguousarray(out[1:, 1:])


def _paeth(left: NDArray[np.int16], up: NDArray[np.int16], corner: NDArray[np.int16]) -> NDArray[np.int16]:
    estimate = left + up - corner
    to_left, to_up, to_corner = abs(estimate - left), abs(estimate - up), abs(estimate - corner)
    nearest = np.where((to_left <= to_up) & (to_left <= to_corner), left, np.where(to_up <= to_corner, up, corner))
    return nearest.astype(np.int16)
