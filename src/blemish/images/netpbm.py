"""PGM, PPM, PBM, PAM and PFM with the values that they hold: Pillow scales them, and cuts colour to 8 bits.

Follows the descriptions of the formats that come with Netpbm, and Paul Debevec's of PFM.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from blemish.images.depth import Samples
from blemish.images.masks import MaskValues
from blemish.images.opened import OpenedImage

__all__ = ["open_netpbm"]

WORD = re.compile(rb"(?:\s|#[^\n\r]*[\n\r])*([^\s#]+)")
PLAIN = {b"P1": 1, b"P2": 1, b"P3": 3}  # numbers as text: samples a pixel
BINARY = {b"P4": 1, b"P5": 1, b"P6": 3, b"Pf": 1, b"PF": 3}
MOST_HEADER = 4096


@dataclass(frozen=True)
class Header:
    """What the first lines say, and where the pixels begin."""

    kind: bytes
    width: int
    height: int
    channels: int
    highest: int  # the value of white; 0 for PFM
    start: int
    scale: float = 1.0  # of PFM: below 0 where the low byte comes first

    @property
    def is_float(self) -> bool:
        return self.kind in (b"Pf", b"PF")

    @property
    def row_bytes(self) -> int:
        if self.kind == b"P4":
            return (self.width + 7) // 8
        return self.width * self.channels * (4 if self.is_float else 2 if self.highest > 255 else 1)


def open_netpbm(stream: BinaryIO, source: str) -> OpenedImage:
    """A file of this family; ValueError where its header makes no sense."""
    start = stream.read(MOST_HEADER)
    file_bytes = stream.seek(0, 2)
    header = _pam(start) if start[:2] == b"P7" else _header(start)
    plain = header.kind in PLAIN
    samples = header.width * header.height * header.channels
    least = samples if header.kind == b"P1" else 2 * samples - 1 if plain else header.row_bytes * header.height

    def values() -> NDArray[Any]:
        stream.seek(header.start)
        data = stream.read(-1 if plain else header.row_bytes * header.height)
        return _plain_values(data, header) if plain else _binary_values(data, header)

    def mask() -> MaskValues:
        colours = _grey_or_colour(values(), header.channels)
        single = colours if colours.ndim == 2 else colours.max(axis=2)
        return MaskValues(single * 255 if header.kind in (b"P1", b"P4") else single, source, "plain")

    return OpenedImage(
        source=source,
        width_px=header.width,
        height_px=header.height,
        is_deep=header.is_float or header.highest > 255,
        file_bytes=file_bytes,
        least_bytes=header.start + least,
        samples=lambda: _samples(header, values(), source),
        mask=mask,
    )


def _header(start: bytes) -> Header:
    kind = start[:2]
    words, at = _words(start, 2 if kind in (b"P1", b"P4") else 3)
    width, height = int(words[0]), int(words[1])
    channels = {**PLAIN, **BINARY}[kind]
    if kind in (b"Pf", b"PF"):
        return Header(kind, width, height, channels, 0, at + 1, float(words[2]))
    highest = 1 if kind in (b"P1", b"P4") else int(words[2])
    if not 0 < highest < 65536:
        raise ValueError(f"its highest value is {highest}")
    return Header(kind, width, height, channels, highest, at if kind in PLAIN else at + 1)


def _pam(start: bytes) -> Header:
    head, found, _ = start.partition(b"ENDHDR\n")
    if not found:
        raise ValueError("its header does not end")
    pairs = (line.split(None, 1) for line in head.splitlines()[1:] if line.strip() and not line.startswith(b"#"))
    fields = {pair[0]: pair[1].strip() for pair in pairs if len(pair) == 2}
    width, height, channels, highest = (int(fields[name]) for name in (b"WIDTH", b"HEIGHT", b"DEPTH", b"MAXVAL"))
    if not 0 < highest < 65536 or channels not in (1, 2, 3, 4):
        raise ValueError(f"it has {channels} samples a pixel up to {highest}")
    return Header(b"P7", width, height, channels, highest, len(head) + len(found))


def _words(start: bytes, count: int) -> tuple[list[bytes], int]:
    words, at = [], 2
    for _ in range(count):
        found = WORD.match(start, at)
        if found is None:
            raise ValueError("its header ends early")
        words.append(found[1])
        at = found.end()
    return words, at


def _binary_values(data: bytes, header: Header) -> NDArray[Any]:
    if len(data) < header.row_bytes * header.height:
        raise ValueError("the image data ends early")
    shape = (header.height, header.width, header.channels)
    if header.kind == b"P4":
        rows = np.frombuffer(data, np.uint8).reshape(header.height, header.row_bytes)
        return 1 - np.unpackbits(rows, axis=1, count=header.width)[..., None]
    if header.is_float:
        order = "<" if header.scale < 0 else ">"
        return np.frombuffer(data, f"{order}f4").reshape(shape)[::-1].astype(np.float32)  # from the bottom up
    return np.frombuffer(data, ">u2" if header.highest > 255 else np.uint8).reshape(shape)


def _plain_values(data: bytes, header: Header) -> NDArray[Any]:
    text = re.sub(rb"#[^\n\r]*", b" ", data)
    count = header.height * header.width * header.channels
    if header.kind == b"P1":  # bits may stand side by side
        letters = np.frombuffer(text, np.uint8)
        values = 1 - (letters[(letters == ord("0")) | (letters == ord("1"))] - ord("0"))
    else:
        values = np.fromstring(text, np.int64, count=count, sep=" ")
    if len(values) < count:
        raise ValueError("the image data ends early")
    return values[:count].reshape(header.height, header.width, header.channels)


def _samples(header: Header, values: NDArray[Any], source: str) -> Samples:
    """Values [H, W, C] with the range that the file states."""
    if header.is_float:
        return Samples(_grey_or_colour(values, header.channels), source)
    if values.size and not 0 <= int(values.min()) <= int(values.max()) <= header.highest:
        raise ValueError(f"holds values above {header.highest}, the highest that its header allows")
    coverage: NDArray[np.float32] | None = None
    if header.channels in (2, 4):
        coverage = values[..., -1].astype(np.float32) / np.float32(header.highest)
    colours = _grey_or_colour(values, header.channels)
    if header.highest <= 255:
        scaled = (colours.astype(np.uint32) * 510 + header.highest) // (2 * header.highest)  # to the nearest
        shown = scaled.astype(np.float32)
        if coverage is not None:
            shown = shown * (coverage if shown.ndim == 2 else coverage[..., None])
            shown += 255 * (1 - (coverage if shown.ndim == 2 else coverage[..., None]))
        pixels = (shown + np.float32(0.5)).astype(np.uint8)
        return Samples(pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2), source)
    bits = header.highest.bit_length()
    exact = header.highest == 2**bits - 1
    window = None if exact else (0.0, float(header.highest))
    declared = bits if exact and bits < 16 else None  # 65535 is what cameras of any depth write
    return Samples(colours.astype(np.uint16), source, declared, coverage=coverage, window=window)


def _grey_or_colour(values: NDArray[Any], channels: int) -> NDArray[Any]:
    return values[..., 0] if channels < 3 else values[..., :3]
