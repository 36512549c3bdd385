"""Images as the bytes of files, by Pillow, by tifffile, and a PNG writer for what Pillow cannot write."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

RNG = np.random.default_rng(5)
RGB = RNG.integers(0, 256, (6, 9, 3), dtype=np.uint8)
DEEP = RNG.integers(0, 4096, (6, 9), dtype=np.uint16)
DEEP[0, 0] = 4095


def png(
    pixels: NDArray[np.integer], colour_type: int, bits: int, *chunks: tuple[bytes, bytes], filters=None, raw=None
) -> bytes:
    """A PNG written by hand, row filter by row filter, for what Pillow cannot write."""
    height, width = pixels.shape[:2]

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows = np.ascontiguousarray(pixels.astype(">u2" if bits == 16 else np.uint8)).view(np.uint8).reshape(height, -1)
    if raw is None:
        raw = encode_rows(rows, rows.shape[1] // width, filters or [0] * height)
    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    extra = b"".join(chunk(kind, body) for kind, body in chunks)
    data = chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + data


def encode_rows(rows: NDArray[np.uint8], step: int, filters: list[int]) -> bytes:
    """The slow and obvious PNG row filters."""
    out = b""
    for y, kind in enumerate(filters):
        line = bytearray([kind])
        for i, value in enumerate(rows[y]):
            left = int(rows[y][i - step]) if i >= step else 0
            up = int(rows[y - 1][i]) if y else 0
            corner = int(rows[y - 1][i - step]) if y and i >= step else 0
            estimate = left + up - corner
            nearest = min((left, up, corner), key=lambda near: abs(estimate - near))
            guess = (0, left, up, (left + up) // 2, nearest)[kind]
            line.append((int(value) - guess) % 256)
        out += bytes(line)
    return out


def as_bytes(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def tiff(array: NDArray[np.generic], **options: object) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, array, **options)
    return stream.getvalue()
