"""Files with several images: a page (TIFF) or frame (DICOM) is named by its number, `stack.tif#2`, from 1."""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from blemish.images.kinds import DICOM_SUFFIXES, SUFFIXES, TIFF_SUFFIXES

__all__ = ["Directory", "directories_of", "full_pages", "pages_of", "split_page"]

PAGED_SUFFIXES = (*TIFF_SUFFIXES, *DICOM_SUFFIXES)
MOST_PAGES = 100_000
TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
SUBFILE_TYPE, REDUCED, MASK = 254, 1, 4  # TIFF: what a page is to the others
NAMED = re.compile(r"(.+)#([1-9]\d*)", re.DOTALL)


def split_page(item: Any) -> tuple[Any, int | None]:
    """A path that names a page as the file's path and the page's number; anything else as it is, and None.

    It names a page where the file has a suffix of a format with pages, or where it has none of an image and is there (DICOM).
    """
    if isinstance(item, str | os.PathLike):
        found = NAMED.fullmatch(os.fsdecode(item))
        if found and not os.path.lexists(item):
            path = Path(found[1])
            suffix = path.suffix.lower()
            if suffix in PAGED_SUFFIXES or (suffix not in SUFFIXES and path.is_file()):
                return path, int(found[2])
    return item, None


def pages_of(path: Path) -> list[Path]:
    """The pages of a file that holds several; the file itself where it holds one, or cannot be read."""
    suffix = path.suffix.lower()
    count = 1
    try:
        if suffix in TIFF_SUFFIXES and path.is_file():
            with path.open("rb") as stream:
                count = len(full_pages(directories_of(stream)))
        elif suffix in DICOM_SUFFIXES or suffix not in SUFFIXES:
            from blemish.images.dicom import count_frames

            count = count_frames(path)
    except OSError:  # reported when its turn comes
        pass
    return [path] if count < 2 else [Path(f"{path}#{number}") for number in range(1, count + 1)]


def full_pages(directories: Iterable[Directory]) -> list[int]:
    """Which of a TIFF's directories hold an image of its own, not a smaller version or a mask of another; the first at least."""
    found = [index for index, one in enumerate(directories) if not one.subfile_type & (REDUCED | MASK)]
    return found or [0]


@dataclass(frozen=True)
class Directory:
    """The entries of one directory of a TIFF, as they stand in the file."""

    entries: bytes
    order: str  # of bytes, as struct wants it
    entry_bytes: int  # 12, or 20 in a big TIFF

    @property
    def subfile_type(self) -> int:
        """Its NewSubfileType; 0 where it has none, or is damaged."""
        for start in self._starts():
            if struct.unpack_from(self.order + "H", self.entries, start)[0] == SUBFILE_TYPE:
                return int(
                    struct.unpack_from(self.order + "I", self.entries, start + (8 if self.entry_bytes == 12 else 12))[0]
                )
        return 0

    def tag_bytes(self, file_bytes: int) -> int:
        """What the values of its tags take together, each no more than the file has."""
        layout = self.order + ("HHI" if self.entry_bytes == 12 else "HHQ")
        values = (struct.unpack_from(layout, self.entries, start) for start in self._starts())
        return sum(min(file_bytes, TYPE_BYTES.get(kind, 0) * count) for _, kind, count in values)

    def _starts(self) -> range:
        return range(0, len(self.entries) - self.entry_bytes + 1, self.entry_bytes)


def directories_of(stream: BinaryIO) -> Iterator[Directory]:
    """The directories of a TIFF in the order of the file, as many as can be read."""
    seen: set[int] = set()
    try:
        stream.seek(0)
        header = stream.read(16)
        order = "<" if header[:2] == b"II" else ">"
        big = struct.unpack(order + "H", header[2:4])[0] == 43
        count_format, entry_bytes, next_format = (
            (order + "Q", 20, order + "Q") if big else (order + "H", 12, order + "I")
        )
        (offset,) = struct.unpack(next_format, header[8:16] if big else header[4:8])
        while offset and offset not in seen and len(seen) < MOST_PAGES:
            seen.add(offset)
            stream.seek(offset)
            (count,) = struct.unpack(count_format, stream.read(struct.calcsize(count_format)))
            entries = stream.read(min(count, 65_535) * entry_bytes)
            (offset,) = struct.unpack(next_format, stream.read(struct.calcsize(next_format)))
            yield Directory(entries, order, entry_bytes)
    except (struct.error, OverflowError, ValueError, OSError):  # damaged from here on
        return
