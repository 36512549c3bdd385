"""What a file may claim: pixels that its bytes can hold, and that fit into memory; checked before anything is decoded."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from blemish.errors import ImageError

__all__ = [
    "DEFAULT_MEGAPIXELS",
    "DEFLATE",
    "JPEG_PX_PER_BYTE",
    "PER_BYTE",
    "check_held",
    "check_memory",
    "check_size",
    "free_memory",
]

DEFAULT_MEGAPIXELS = 200.0
FREE_PX = 16_000_000  # an image of up to so many pixels costs little, whatever its file may hold
# How many decoded bytes one stored byte can stand for at most, by what each coding's shortest codes allow.
DEFLATE = 1032.0  # a match of 258 bytes in two bits
PER_BYTE = {
    "raw": 1.0,
    "deflate": DEFLATE,
    "lzw": 2731.0,  # the longest of 4096 strings in twelve bits
    "packbits": 64.0,  # 128 bytes in two
}
JPEG_PX_PER_BYTE = 1024.0  # Huffman codes need one bit for each block of 64 pixels; twice that, to be safe
# Other codings can say "all the same" in almost no bits. Above FREE_PX they get what deflate could hold, which is several
# times what any picture of something needs.
MOST_PER_BYTE = DEFLATE
NEEDS_A_LOOK = 256 * 2**20  # bytes from which free memory is asked for


def check_size(size: tuple[int, int], source: str, max_megapixels: float) -> None:
    """ImageError where an image has no pixels, or more than the limit."""
    width, height = size
    if width < 1 or height < 1:
        raise ImageError(source, f"has no pixels ({width} x {height})")
    if width * height > max_megapixels * 1e6:
        raise ImageError(
            source,
            f"{width} x {height} pixels are {width * height / 1e6:,.0f} megapixels, above the limit of "
            f"{max_megapixels:g}: raise max_megapixels (--max-megapixels) if the file is to be trusted",
        )


def check_held(size: tuple[int, int], source: str, *, least_bytes: float, bytes_per_px: float, file_bytes: int) -> None:
    """ImageError where a file is shorter than its pixels need: than its coding allows, or far beyond what pictures need."""
    width, height = size
    needed = max(least_bytes, (width * height - FREE_PX) * bytes_per_px / MOST_PER_BYTE)
    if file_bytes < needed:
        raise ImageError(
            source,
            f"claims {width} x {height} pixels, more than its {file_bytes:,} bytes can hold: it is damaged or cut off",
        )


def check_memory(size: tuple[int, int], source: str, *, needed_bytes: float) -> None:
    """ImageError where decoding an image takes more memory than is free."""
    if needed_bytes < NEEDS_A_LOOK:
        return
    free = free_memory()
    if free is not None and needed_bytes > free:
        raise ImageError(
            source,
            f"does not fit into memory: {size[0]} x {size[1]} pixels take about {needed_bytes / 1e9:.1f} GB to decode, "
            f"and {free / 1e9:.1f} GB are free",
        )


def free_memory() -> int | None:
    """Bytes of memory that this process may still take, as far as the system says; None where it does not."""
    found: list[int] = []
    with suppress(OSError, ValueError, IndexError):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        found.append(next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")))
    for limit, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ):
        with suppress(OSError, ValueError):  # "max" is no limit; without a group there are no files
            found.append(int(Path(limit).read_text(encoding="ascii")) - _without_cache(used))
    if not found and hasattr(os, "sysconf"):
        with suppress(OSError, ValueError):
            found.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    return max(0, min(found)) if found else None


def _without_cache(used: str) -> int:
    """The memory that a group of processes uses, less the copies of files that the system drops when asked."""
    total = int(Path(used).read_text(encoding="ascii"))
    with suppress(OSError, ValueError, IndexError):
        lines = Path(used).with_name("memory.stat").read_text(encoding="ascii").splitlines()
        cache = {line.split()[0]: int(line.split()[1]) for line in lines}
        total -= cache.get("inactive_file", 0) + cache.get("active_file", 0)
    return max(0, total)
