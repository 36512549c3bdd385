"""A histogram whose bins follow the scores: constant memory, no range to guess, and order and merging change nothing.

Each score has a code, an integer that sorts like it (`codes`). Three numbers lead from a code to its count:

    bin number     code >> shift             of all bins that there could be, each 2**shift codes wide
    page number    bin number >> page_bits   of pages of 2**page_bits bins each
    index          where the count of a bin is stored: only pages with a score in them are stored, 256 at most

Where the scores lie in more than 256 pages, shift grows by one: bins and pages become twice as wide, and neighbours are added
up. So close scores are told apart to the last bit, a single outlier costs one page, and the bins depend on the set of scores
alone: they are the narrowest with which 256 pages suffice, in whatever order or parts the scores came.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.errors import UsageError
from blemish.metrics.codes import BLOCK, Codes, ScoreEncoding
from blemish.metrics.steps import Steps

__all__ = ["Histogram", "pooled"]

Integers = NDArray[np.int64]

_PAGES = 256  # the most that are stored
_LONGEST_TABLE = 1 << 16
_MOST_FLAGS = 1 << 24
_NOT_STORED = -1 << 40  # in the table of pages: far below 0, so that adding a place in a page stays below 0
_EMPTY, _MIXED = -1, -2  # what `_single` says of a bin without a score, and of a bin with different scores


class Histogram:
    """Named counts over bins of codes, each an integer array [..., size], so that sums are exact in any order.

    Args:
        bins: The most bins there may be, 256 or more.
        track_ties: Remember of each bin whether all its scores are equal.
    """

    def __init__(self, *, bins: int, track_ties: bool = True) -> None:
        if bins < _PAGES:
            raise UsageError(f"a histogram needs {_PAGES} bins or more, not {bins}")
        self.bins = bins
        self.counts: dict[str, Integers] = {}
        self._page_bits = (bins // _PAGES).bit_length() - 1
        self._shift = 0
        self._pages = np.zeros(0, np.int64)  # the numbers of the stored pages, rising
        self._table = np.zeros(
            0, np.int64
        )  # index of the first bin of each page, from the first to one past the last page
        self._single: Integers | None = np.zeros(0, np.int64) if track_ties else None  # the one code in each bin

    @property
    def size(self) -> int:
        """The number of bins that are stored now."""
        return len(self._pages) << self._page_bits

    def indices(self, codes: Codes) -> Integers:
        """The index of the bin of each code [n], valid until a new page is stored; stores the pages that are missing."""
        indices = self._indices_of(codes >> self._shift)
        if self._is_missing(indices):
            self._store_pages_of(codes)
            indices = self._indices_of(codes >> self._shift)
        return indices

    def count(self, codes: Codes) -> Integers:
        """How many of the codes [n] lie in each bin, [size]; stores their pages and notes ties, but does not add the counts."""
        counts = np.zeros(self.size, np.int64)
        undecided = None if self._single is None else self._single != _MIXED
        for start in range(0, len(codes), BLOCK):
            block = codes[start : start + BLOCK]
            indices = self._indices_of(block >> self._shift)
            if self._is_missing(indices):
                self._store_pages_of(codes)
                return self.count(codes)  # ties that were noted twice stay what they are
            counts += np.bincount(indices, minlength=self.size)
            if undecided is not None:
                chosen = undecided[indices]
                self._note_ties(indices[chosen], block[chosen])
        return counts

    def _indices_of(self, numbers: NDArray[Any]) -> Integers:
        """The indices of bins by their numbers; outside 0..size-1 where a bin's page is not stored."""
        if self._is_contiguous:
            return numbers.astype(np.int64) - (int(self._pages[0]) << self._page_bits)
        pages, inside = numbers >> self._page_bits, numbers & ((1 << self._page_bits) - 1)
        if len(self._table):
            low, high = pages.dtype.type(self._pages[0]), pages.dtype.type(self._pages[-1])
            starts = self._table[np.minimum(np.maximum(pages, low) - low, high - low + 1)]
            return np.where(pages < low, -1, starts + inside)
        if not len(self._pages):
            return np.full(len(numbers), -1)
        order = np.searchsorted(self._pages, pages)
        is_stored = self._pages[np.minimum(order, len(self._pages) - 1)] == pages
        return np.where(is_stored, (order << self._page_bits) + inside, -1)

    def _is_missing(self, indices: Integers) -> bool:
        return len(indices) > 0 and (int(indices.min()) < 0 or int(indices.max()) >= self.size)

    def _store_pages_of(self, codes: Codes) -> None:
        pages = _distinct((codes >> (self._shift + self._page_bits)).astype(np.int64))
        self._store(_union(self._pages_in_use(), pages), self._shift)

    @property
    def _is_contiguous(self) -> bool:
        return len(self._pages) > 0 and int(self._pages[-1] - self._pages[0]) == len(self._pages) - 1

    def _note_ties(self, indices: Integers, codes: Codes) -> None:
        """Remember which bins now hold more than one score."""
        if self._single is None or not len(indices):
            return
        before = self._single[indices]
        self._single[indices] = codes
        differs = (self._single[indices] != codes) | ((before != _EMPTY) & (before != codes))
        self._single[indices[differs]] = _MIXED

    def add(self, name: str, amounts: Integers) -> None:
        """Add amounts [..., size] to the counts called `name`."""
        if name in self.counts:
            self.counts[name] += amounts
        else:
            self.counts[name] = np.array(amounts, np.int64)

    def add_at(self, name: str, codes: Codes, amounts: Integers | int) -> None:
        """Add an amount for each code [n], which is quicker than counting where they are few."""
        indices = self.indices(codes)
        if name not in self.counts:
            self.counts[name] = np.zeros(self.size, np.int64)
        np.add.at(self.counts[name], indices, amounts)
        self._note_ties(indices, codes)

    def lowest_codes(self, indices: Integers) -> Codes:
        """The lowest code of each bin."""
        pages = self._pages[indices >> self._page_bits]
        numbers = (pages << self._page_bits) | (indices & ((1 << self._page_bits) - 1))
        return (numbers << self._shift).astype(np.uint32)

    def steps(self, encoding: ScoreEncoding) -> Steps:
        """The table that metrics are computed from; for counts of the shape [size] only."""
        in_use = np.zeros(self.size, bool)
        for counts in self.counts.values():
            in_use |= counts != 0
        rows = np.flatnonzero(in_use)[::-1]
        codes = self.lowest_codes(rows)
        tied = np.zeros(len(rows), bool)
        if self._single is not None:
            tied = self._single[rows] >= 0
            codes = np.where(tied, self._single[rows], codes).astype(np.uint32)
        added = {name: counts[rows].astype(np.float64) for name, counts in self.counts.items()}
        return Steps(encoding.decode(codes), added, tied)

    def merge(self, other: Histogram, *, names: Iterable[str] | None = None) -> None:
        """Add the other's counts (those called `names`, or all); the other stays as it was."""
        if other.bins != self.bins:
            raise UsageError(f"counts of {self.bins} and of {other.bins} bins cannot be merged")
        shift = max(self._shift, other._shift)
        pages = _union(self._pages_in_use() >> (shift - self._shift), other._pages_in_use() >> (shift - other._shift))
        self._store(pages, shift)
        numbers = other._bin_numbers()
        for name, counts in other.counts.items():
            if names is None or name in names:
                self.add(name, self._rebinned(counts, numbers, other._shift))
        if self._single is not None and other._single is not None:
            theirs = self._rebinned_ties(other._single, numbers, other._shift)
            self._single = _single_code(
                np.maximum(self._single, theirs), np.minimum(_empty_last(self._single), _empty_last(theirs))
            )

    def _pages_in_use(self) -> Integers:
        """The stored pages with a score in them."""
        in_use = np.zeros(len(self._pages), bool)
        for counts in self.counts.values():
            in_use |= counts.reshape(-1, len(self._pages), 1 << self._page_bits).any(axis=(0, 2))
        return self._pages[in_use]

    def _store(self, pages: Integers, shift: int) -> None:
        """Store these pages, of bins of 2**shift codes, or wider ones where they are too many.

        Where there is room for the pages between them, these are stored too: without gaps, a bin is found faster.
        """
        while len(pages) > _PAGES:
            pages, shift = _union(pages >> 1), shift + 1
        numbers, old_shift = self._bin_numbers(), self._shift
        span = int(pages[-1] - pages[0]) + 1 if len(pages) else 0
        self._pages = np.arange(pages[0], pages[-1] + 1) if 0 < span <= _PAGES else pages
        self._shift = shift
        self._table = np.full(span + 1 if span < _LONGEST_TABLE else 0, _NOT_STORED, np.int64)
        if span and len(self._table):
            self._table[self._pages - pages[0]] = np.arange(len(self._pages)) << self._page_bits
        self.counts = {name: self._rebinned(counts, numbers, old_shift) for name, counts in self.counts.items()}
        if self._single is not None:
            self._single = self._rebinned_ties(self._single, numbers, old_shift)

    def _bin_numbers(self) -> Integers:
        """The number of each stored bin."""
        return ((self._pages[:, None] << self._page_bits) | np.arange(1 << self._page_bits)).reshape(-1)

    def _rebinned(self, counts: Integers, numbers: Integers, shift: int) -> Integers:
        """Counts [..., n] of bins with these numbers at another shift, in the bins stored here, which are at least as wide."""
        rebinned = np.zeros((*counts.shape[:-1], self.size), np.int64)
        if len(numbers):
            indices, starts, is_stored = self._groups(numbers, shift)
            rebinned[..., indices] = np.add.reduceat(counts, starts, axis=-1)[..., is_stored]
        return rebinned

    def _rebinned_ties(self, single: Integers, numbers: Integers, shift: int) -> Integers:
        rebinned = np.full(self.size, _EMPTY, np.int64)
        if len(numbers):
            indices, starts, is_stored = self._groups(numbers, shift)
            highest, lowest = np.maximum.reduceat(single, starts), np.minimum.reduceat(_empty_last(single), starts)
            rebinned[indices] = _single_code(highest, lowest)[is_stored]
        return rebinned

    def _groups(self, numbers: Integers, shift: int) -> tuple[Integers, Integers, NDArray[np.bool_]]:
        """How rising bin numbers of another shift come together here.

        Returns:
            The indices of the bins stored here; where each group of `numbers` that share a bin starts; and which groups
            are stored here: all but those of empty bins.
        """
        wider = numbers >> (self._shift - shift)
        starts = np.flatnonzero(np.diff(wider, prepend=-1))
        indices = self._indices_of(wider[starts])
        is_stored = (indices >= 0) & (indices < self.size)
        return indices[is_stored], starts, is_stored

    def state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """What `restored` needs: a part for JSON, and arrays with the bins in use alone."""
        arrays: dict[str, NDArray[Any]] = {"pages": self._pages_in_use()}
        for name, counts in self.counts.items():
            in_use = np.flatnonzero((counts != 0).any(axis=tuple(range(counts.ndim - 1))))
            arrays |= {f"cells|{name}": in_use, f"counts|{name}": counts[..., in_use]}
        if self._single is not None:
            arrays |= {"cells|": np.flatnonzero(self._single != _EMPTY), "only": self._single[self._single != _EMPTY]}
        return {"cells": self.bins, "shift": self._shift, "track_ties": self._single is not None}, arrays

    @classmethod
    def restored(cls, facts: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Histogram:
        """The histogram whose `state` this is."""
        histogram = cls(bins=int(facts["cells"]), track_ties=bool(facts["track_ties"]))
        histogram._store(arrays["pages"].astype(np.int64), int(facts["shift"]))
        for key in arrays:
            if key.startswith("counts|"):
                name = key.removeprefix("counts|")
                counts = np.zeros((*arrays[key].shape[:-1], histogram.size), np.int64)
                counts[..., arrays[f"cells|{name}"]] = arrays[key]
                histogram.add(name, counts)
        if histogram._single is not None:
            histogram._single[arrays["cells|"]] = arrays["only"]
        return histogram


def pooled(histograms: Iterable[Histogram], *, bins: int, names: Iterable[str] | None = None) -> Histogram:
    """A new histogram with the counts (those called `names`, or all) of all of them."""
    total = Histogram(bins=bins)
    for histogram in histograms:
        total.merge(histogram, names=names)
    return total


def _distinct(pages: Integers) -> Integers:
    """What np.unique finds, by flags instead of by sorting where they are not too many."""
    lowest = int(pages.min())
    span = int(pages.max()) - lowest + 1
    if span > _MOST_FLAGS:
        return np.unique(pages)
    flags = np.zeros(span, bool)
    flags[pages - lowest] = True
    return np.flatnonzero(flags) + lowest


def _union(*parts: Integers) -> Integers:
    """The distinct numbers, 0 or more, of a few sorted lists."""
    numbers = np.sort(np.concatenate(parts), kind="stable") if len(parts) > 1 else parts[0]
    return numbers[np.diff(numbers, prepend=-1) > 0]


def _empty_last(single: Integers) -> Integers:
    """Empty bins as the highest number, for the search of the lowest code."""
    return np.where(single == _EMPTY, np.iinfo(np.int64).max, single)


def _single_code(highest: Integers, lowest: Integers) -> Integers:
    """The one code in each bin, or _MIXED or _EMPTY, from the highest of its parts and, empty parts set aside, the lowest."""
    single = np.where(lowest == highest, highest, _MIXED)
    return np.where((highest == _EMPTY) & (lowest != _MIXED), _EMPTY, single)
