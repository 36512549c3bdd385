"""Lookup tables of DICOM: the modality's (PS3.3, C.11.1.1) and the one for display (VOI, C.11.2.1.1), each as one value an entry.

Read here and not by pydicom, whose functions wrap values above 255 around where a table has 8 bits, and refuse entries of 8
bits that are packed in words.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["LookupTable", "read_table"]

SIGN = 2**16  # between a value of 16 bits written with its sign and the same without
BITS = range(8, 17)


@dataclass(frozen=True, eq=False)
class LookupTable:
    """What becomes of the values from `first` on; those before are the first entry, those behind the last."""

    first: int  # value before the table that its first entry is for
    entries: NDArray[np.float32]  # [N], 0..2^bits - 1
    bits: int  # of an entry, 8 to 16

    @property
    def highest(self) -> float:
        """The highest value that an entry may have."""
        return float(2**self.bits - 1)

    def __str__(self) -> str:
        return f"{len(self.entries)} entries of {self.bits} bits from {self.first}"

    def of(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """The entries of values [H, W], of fractions those of the nearest whole number."""
        index = np.clip(np.rint(values.astype(np.float64)) - self._first_for(values), 0, len(self.entries) - 1)
        return self.entries[index.astype(np.intp)]

    def _first_for(self, values: NDArray[Any]) -> int:
        """The first value, which some files write without its sign, or with one that it does not have."""
        if self.first >= SIGN // 2 and values.min(initial=0) < 0:
            return self.first - SIGN
        if self.first + len(self.entries) <= 0:
            return self.first + SIGN
        return self.first


def read_table(item: Any, *, little_endian: bool) -> LookupTable:
    """The table of an item of a sequence; ValueError, or what pydicom raises, where it cannot be read."""
    missing = [name for name in ("LUTDescriptor", "LUTData") if name not in item]
    if missing:
        raise ValueError(f"it has no {missing[0]}")
    count, first, bits = (int(number) for number in item["LUTDescriptor"].value)
    count = count % SIGN or SIGN  # 0 stands for 65536
    if bits not in BITS:
        raise ValueError(f"its entries have {bits} bits")
    value = item["LUTData"].value
    if isinstance(value, bytes):
        words = np.frombuffer(value + b"\0" * (len(value) % 2), "<u2" if little_endian else ">u2").astype("<u2")
    else:  # whole numbers, with or without a sign
        words = (np.atleast_1d(np.asarray(value, np.int64)) % SIGN).astype("<u2")
    packed = bits == 8 and len(words) == (count + 1) // 2 and count > 1
    entries = words.view(np.uint8)[:count] if packed else words
    if len(entries) != count:
        raise ValueError(f"it has {len(entries)} entries and not {count}")
    if entries.max() >= 2**bits:
        raise ValueError(f"an entry of {entries.max()} has more than {bits} bits")
    return LookupTable(first, entries.astype(np.float32), bits)
