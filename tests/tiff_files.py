"""TIFF files written by hand, for what no library writes."""

from __future__ import annotations

import struct


def one_strip_tiff(width: int, height: int, *, bits: int, samples: int, compression: int, data: bytes) -> bytes:
    """A TIFF of one strip that says what it is told to."""
    entries = [(256, width), (257, height), (258, bits), (259, compression), (262, 2 if samples == 3 else 1)]
    entries += [(273, 8), (277, samples), (278, height), (279, len(data))]
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", tag, 4, 1, v) for tag, v in entries)
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + directory + b"\0\0\0\0"
