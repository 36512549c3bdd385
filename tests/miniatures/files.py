"""Tiny files to build data sets of: images, masks, tables."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (16, 12)  # width and height in pixels
BLOB = (slice(3, 7), slice(2, 8))  # rows and columns of the defect: 24 px
BLOB_PX = 24


def image(path: Path, *, size: tuple[int, int] = SIZE) -> Path:
    """A picture of noise that no other path has."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(zlib.crc32(path.as_posix().encode())).integers(60, 200, (*size[::-1], 3), np.uint8)
    Image.fromarray(noise).save(path)
    return path


def mask(path: Path, *, value: int = 255, size: tuple[int, int] = SIZE) -> Path:
    """A mask with a blob of that value; 0 makes it empty."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.zeros(size[::-1], np.uint8)
    values[BLOB] = value
    Image.fromarray(values).save(path, **({"quality": 75} if path.suffix == ".jpg" else {}))
    return path


def table(path: Path, lines: Iterable[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def packed(runs: list[int]) -> str:
    """Run lengths in COCO's compressed writing, from its definition."""
    letters = []
    for index, run in enumerate(runs):
        value = run - runs[index - 2] if index > 2 else run
        more = True
        while more:
            bits = value & 0x1F
            value >>= 5
            more = value != (-1 if bits & 0x10 else 0)
            letters.append(chr((bits | 0x20 if more else bits) + 48))
    return "".join(letters)
