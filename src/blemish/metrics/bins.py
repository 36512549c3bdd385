"""Counts of scores in cells that follow the scores: constant memory, no range to guess, and order and merging change nothing.

A float32 has an integer, its key, that sorts like it. Keys are cut into pages of equal length, and only pages into which a score
falls are kept, 256 at most: where there are more, pages double. Each page has the same number of cells. So narrow scores are
resolved to the last bit, a lone outlier costs one page, and what the cells are depends on the set of scores alone: the pages are
the shortest of which 256 suffice, in whatever order or parts the scores came.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.errors import UsageError
from blemish.metrics.steps import Steps

__all__ = ["Histogram", "ScoreOrder", "pooled"]

Counts = NDArray[np.int64]
Keys = NDArray[np.uint32]

_PAGES = 256
_LONGEST_TABLE = 1 << 16
_MOST_FLAGS = 1 << 24
_TABLE_GAP = 40
_EMPTY, _MIXED = -1, -2  # what `only` says of a cell without a score, and of one with several
_BLOCK = 1 << 15  # keys that are worked on at a time: they stay in the processor's cache
_SIGN = np.uint32(0x80000000)
_HALF_BITS = np.int32(0x3F000000)  # of 0.5
_FINE_BITS = np.int32(0x33800000)  # of 2**-24, the step of float32 below 1
_COARSER = 4  # bits fewer below 2**-24, where a softmax scatters noise over a hundred octaves
_FINE_KEY = _FINE_BITS >> _COARSER
_MIDDLE_KEY = _HALF_BITS - _FINE_BITS + _FINE_KEY
_TOLERANCE = 1e-5  # of the range: sums of softmax probabilities miss 1 by some rounding errors


@dataclass(frozen=True)
class ScoreOrder:
    """Keys, unsigned 32-bit integers, that sort like float32 scores.

    With a range (low, high), both ends are resolved alike: scores of a softmax crowd at 1 as they do at 0. Scores outside it by
    more than 1e-5 of its width are a UsageError, the others are clipped. Without a range any finite score has its place, and
    resolution is relative to the distance from 0.
    """

    low_high: tuple[float, float] | None

    def __post_init__(self) -> None:
        if self.low_high is not None and not (np.isfinite(self.low_high).all() and self.low_high[0] < self.low_high[1]):
            raise UsageError(f"a score range is two finite numbers, low < high, not {self.low_high}")

    def keys(self, scores: NDArray[np.floating[Any]]) -> Keys:
        """The key of each finite score, in the same shape."""
        if self.low_high is None:
            return _in_blocks(scores, self._unbounded)
        low, high = self.low_high
        width = high - low
        lowest, highest = float(scores.min()), float(scores.max())
        if lowest < low - _TOLERANCE * width or highest > high + _TOLERANCE * width:
            raise UsageError(f"map scores must lie in {low:g}..{high:g}, not {lowest:.4g}..{highest:.4g}")
        clean = (low, high) == (0, 1) and scores.dtype == np.float32 and lowest > 0 and highest <= 1
        return _in_blocks(scores, _fold if clean else self._fold_share)

    def _fold_share(self, scores: NDArray[np.floating[Any]]) -> Keys:
        low, high = self.low_high or (0.0, 1.0)
        share = np.clip((scores - low) / (high - low), 0, 1).astype(np.float32)
        return _fold(share + np.float32(0))  # + 0: there is no -0

    def _unbounded(self, scores: NDArray[np.floating[Any]]) -> Keys:
        limit = np.finfo(np.float32).max
        bits = (np.clip(scores, -limit, limit).astype(np.float32) + np.float32(0)).view(np.uint32)
        return np.where(bits & _SIGN, ~bits, bits | _SIGN)

    def scores(self, keys: Keys) -> NDArray[np.float64]:
        """The lowest score with each key."""
        if self.low_high is None:
            bits = np.where(keys & _SIGN, keys ^ _SIGN, ~keys).astype(np.uint32)
            with np.errstate(invalid="ignore"):  # the outer pages have keys of no number, which count nothing
                return bits.view(np.float32).astype(np.float64)
        low, high = self.low_high
        upper = keys > _MIDDLE_KEY
        squeezed = np.where(upper, 2 * _MIDDLE_KEY - keys.view(np.int32), keys.view(np.int32))
        bits = np.where(squeezed < _FINE_KEY, squeezed << _COARSER, squeezed + (_FINE_BITS - _FINE_KEY))
        share = bits.astype(np.int32).view(np.float32).astype(np.float64)
        return low + np.where(upper, 1 - share, share) * (high - low)


class Histogram:
    """Named counts over cells of keys, each an integer array [..., cells], so that sums are exact in any order.

    cells: the most there may be, 256 or more. track_ties: remember of each cell whether all its scores are one and the same.
    """

    def __init__(self, *, cells: int, track_ties: bool = True) -> None:
        if cells < _PAGES:
            raise UsageError(f"a histogram needs {_PAGES} cells or more, not {cells}")
        self.cells = cells
        self.counts: dict[str, Counts] = {}
        self._page_bits = (cells // _PAGES).bit_length() - 1  # a page has 2 ** this many cells
        self._shift = 0  # a cell has 2 ** this many keys
        self._pages = np.zeros(0, np.int64)
        self._table = np.zeros(
            0, np.int64
        )  # the first cell of each page from the first to one after the last; far below 0 without
        self._only: Counts | None = np.zeros(0, np.int64) if track_ties else None

    @property
    def size(self) -> int:
        """The number of cells now."""
        return len(self._pages) << self._page_bits

    def place(self, keys: Keys) -> NDArray[np.int64]:
        """The cell of each key [n], which holds until a new page comes; makes room for it."""
        cells = self._cells_of(keys >> self._shift)
        if self._lacks(cells):
            self._make_room(keys)
            cells = self._cells_of(keys >> self._shift)
        return cells

    def count(self, keys: Keys) -> Counts:
        """How many of the keys [n] lie in each cell, [cells]; makes room for them and notes ties, but does not add them."""
        found = np.zeros(self.size, np.int64)
        undecided = None if self._only is None else self._only != _MIXED
        for start in range(0, len(keys), _BLOCK):
            block = keys[start : start + _BLOCK]
            cells = self._cells_of(block >> self._shift)
            if self._lacks(cells):
                self._make_room(keys)
                return self.count(keys)  # ties that were noted twice stay what they are
            found += np.bincount(cells, minlength=self.size)
            if undecided is not None:
                chosen = undecided[cells]
                self._note_ties(cells[chosen], block[chosen])
        return found

    def _cells_of(self, places: NDArray[Any]) -> NDArray[np.int64]:
        """The cells at these places, which are keys >> shift; something outside 0..size-1 where a page is not kept."""
        if self._contiguous:
            return places.astype(np.int64) - (int(self._pages[0]) << self._page_bits)
        pages, inside = places >> self._page_bits, places & ((1 << self._page_bits) - 1)
        if len(self._table):
            low, high = pages.dtype.type(self._pages[0]), pages.dtype.type(self._pages[-1])
            starts = self._table[np.minimum(np.maximum(pages, low) - low, high - low + 1)]
            return np.where(pages < low, -1, starts + inside)
        if not len(self._pages):
            return np.full(len(places), -1)
        numbers = np.searchsorted(self._pages, pages)
        kept = self._pages[np.minimum(numbers, len(self._pages) - 1)] == pages
        return np.where(kept, (numbers << self._page_bits) + inside, -1)

    def _lacks(self, cells: NDArray[np.int64]) -> bool:
        return len(cells) > 0 and (int(cells.min()) < 0 or int(cells.max()) >= self.size)

    def _make_room(self, keys: Keys) -> None:
        pages = _distinct((keys >> (self._shift + self._page_bits)).astype(np.int64))
        self._arrange(_merged(self._occupied(), pages), self._shift)

    @property
    def _contiguous(self) -> bool:
        return len(self._pages) > 0 and int(self._pages[-1] - self._pages[0]) == len(self._pages) - 1

    def _note_ties(self, cells: NDArray[np.int64], keys: Keys) -> None:
        """Remember which cells now hold more than one score."""
        if self._only is None or not len(cells):
            return
        before = self._only[cells]
        self._only[cells] = keys
        differs = (self._only[cells] != keys) | ((before != _EMPTY) & (before != keys))
        self._only[cells[differs]] = _MIXED

    def add(self, name: str, amounts: Counts) -> None:
        """Add amounts [..., cells] to the counts called `name`."""
        if name in self.counts:
            self.counts[name] += amounts
        else:
            self.counts[name] = np.array(amounts, np.int64)

    def add_at(self, name: str, keys: Keys, amounts: Counts | int) -> None:
        """Add an amount for each key [n], which is quicker than counting where they are few."""
        cells = self.place(keys)
        if name not in self.counts:
            self.counts[name] = np.zeros(self.size, np.int64)
        np.add.at(self.counts[name], cells, amounts)
        self._note_ties(cells, keys)

    def low_keys(self, cells: NDArray[np.int64]) -> Keys:
        """The lowest key of each cell."""
        pages = self._pages[cells >> self._page_bits]
        places = (pages << self._page_bits) | (cells & ((1 << self._page_bits) - 1))
        return (places << self._shift).astype(np.uint32)

    def steps(self, order: ScoreOrder) -> Steps:
        """The table that metrics are made from; counts [cells] only."""
        used = np.zeros(self.size, bool)
        for counts in self.counts.values():
            used |= counts != 0
        rows = np.flatnonzero(used)[::-1]
        keys = self.low_keys(rows)
        tied = np.zeros(len(rows), bool)
        if self._only is not None:
            tied = self._only[rows] >= 0
            keys = np.where(tied, self._only[rows], keys).astype(np.uint32)
        added = {name: counts[rows].astype(np.float64) for name, counts in self.counts.items()}
        return Steps(order.scores(keys), added, tied)

    def merge(self, other: Histogram, *, names: Iterable[str] | None = None) -> None:
        """Add the other's counts (those called `names`, or all); the other stays as it was."""
        if other.cells != self.cells:
            raise UsageError(f"counts of {self.cells} and of {other.cells} cells cannot be merged")
        shift = max(self._shift, other._shift)
        pages = _merged(self._occupied() >> (shift - self._shift), other._occupied() >> (shift - other._shift))
        self._arrange(pages, shift)
        places = other._places()
        for name, counts in other.counts.items():
            if names is None or name in names:
                self.add(name, self._fitted(counts, places, other._shift))
        if self._only is not None and other._only is not None:
            only = self._fitted_only(other._only, places, other._shift)
            self._only = _same(np.maximum(self._only, only), np.minimum(_hidden(self._only), _hidden(only)))

    def _occupied(self) -> NDArray[np.int64]:
        """The pages with a score in them; those between are kept where they fit, as cells are found faster without gaps."""
        used = np.zeros(len(self._pages), bool)
        for counts in self.counts.values():
            used |= counts.reshape(-1, len(self._pages), 1 << self._page_bits).any(axis=(0, 2))
        return self._pages[used]

    def _arrange(self, pages: NDArray[np.int64], shift: int) -> None:
        """Take these pages, of cells of 2**shift keys, or longer ones where they are too many."""
        while len(pages) > _PAGES:
            pages, shift = _merged(pages >> 1), shift + 1
        places, before = self._places(), self._shift
        span = int(pages[-1] - pages[0]) + 1 if len(pages) else 0
        self._pages = np.arange(pages[0], pages[-1] + 1) if 0 < span <= _PAGES else pages
        self._shift = shift
        self._table = np.full(span + 1 if span < _LONGEST_TABLE else 0, -1 << _TABLE_GAP, np.int64)
        if span and len(self._table):
            self._table[self._pages - pages[0]] = np.arange(len(self._pages)) << self._page_bits
        self.counts = {name: self._fitted(counts, places, before) for name, counts in self.counts.items()}
        if self._only is not None:
            self._only = self._fitted_only(self._only, places, before)

    def _places(self) -> NDArray[np.int64]:
        """keys >> shift of each cell."""
        return ((self._pages[:, None] << self._page_bits) | np.arange(1 << self._page_bits)).reshape(-1)

    def _fitted(self, counts: Counts, places: NDArray[np.int64], shift: int) -> Counts:
        """Counts [..., n] at places of another shift in the cells of this histogram, which has their pages and is not finer."""
        fitted = np.zeros((*counts.shape[:-1], self.size), np.int64)
        if len(places):
            cells, first, kept = self._joined(places, shift)
            fitted[..., cells] = np.add.reduceat(counts, first, axis=-1)[..., kept]
        return fitted

    def _fitted_only(self, only: Counts, places: NDArray[np.int64], shift: int) -> Counts:
        fitted = np.full(self.size, _EMPTY, np.int64)
        if len(places):
            cells, first, kept = self._joined(places, shift)
            fitted[cells] = _same(np.maximum.reduceat(only, first), np.minimum.reduceat(_hidden(only), first))[kept]
        return fitted

    def _joined(
        self, places: NDArray[np.int64], shift: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
        """The cells in which rising places of another shift end, the first of the places that end together, and which of these
        are kept here: all but the empty."""
        coarse = places >> (self._shift - shift)
        first = np.flatnonzero(np.diff(coarse, prepend=-1))
        cells = self._cells_of(coarse[first])
        kept = (cells >= 0) & (cells < self.size)
        return cells[kept], first, kept

    def state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """What `restored` needs: a part for JSON and arrays; only the cells in use are in it."""
        arrays: dict[str, NDArray[Any]] = {"pages": self._occupied()}
        for name, counts in self.counts.items():
            used = np.flatnonzero((counts != 0).any(axis=tuple(range(counts.ndim - 1))))
            arrays |= {f"cells|{name}": used, f"counts|{name}": counts[..., used]}
        if self._only is not None:
            arrays |= {"cells|": np.flatnonzero(self._only != _EMPTY), "only": self._only[self._only != _EMPTY]}
        return {"cells": self.cells, "shift": self._shift, "track_ties": self._only is not None}, arrays

    @classmethod
    def restored(cls, facts: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Histogram:
        """The histogram whose `state` this is."""
        histogram = cls(cells=int(facts["cells"]), track_ties=bool(facts["track_ties"]))
        histogram._arrange(arrays["pages"].astype(np.int64), int(facts["shift"]))
        for key in arrays:
            if key.startswith("counts|"):
                name = key.removeprefix("counts|")
                full = np.zeros((*arrays[key].shape[:-1], histogram.size), np.int64)
                full[..., arrays[f"cells|{name}"]] = arrays[key]
                histogram.add(name, full)
        if histogram._only is not None:
            histogram._only[arrays["cells|"]] = arrays["only"]
        return histogram


def pooled(histograms: Iterable[Histogram], *, cells: int, names: Iterable[str] | None = None) -> Histogram:
    """A new histogram with the counts (those called `names`, or all) of all of them."""
    total = Histogram(cells=cells)
    for histogram in histograms:
        total.merge(histogram, names=names)
    return total


def _fold(share: NDArray[np.floating[Any]]) -> Keys:
    """Keys of float32 shares in 0..1: those above 1/2 mirror those below, for 1 - share is exact there."""
    folded = np.subtract(1, share, dtype=np.float32)
    upper = share > folded
    np.minimum(share, folded, out=folded)
    keys = folded.view(np.int32)
    squeezed = keys >> _COARSER
    keys -= _FINE_BITS - _FINE_KEY
    np.maximum(keys, squeezed, out=keys)
    np.copyto(keys, 2 * _MIDDLE_KEY - keys, where=upper)
    return keys.view(np.uint32)


def _in_blocks(scores: NDArray[np.floating[Any]], keys_of: Callable[[NDArray[np.floating[Any]]], Keys]) -> Keys:
    flat = scores.reshape(-1)
    keys = np.empty(flat.shape, np.uint32)
    for start in range(0, len(flat), _BLOCK):
        keys[start : start + _BLOCK] = keys_of(flat[start : start + _BLOCK])
    return keys.reshape(scores.shape)


def _distinct(pages: NDArray[np.int64]) -> NDArray[np.int64]:
    """What np.unique finds, by flags instead of by sorting where they are not too many."""
    lowest = int(pages.min())
    span = int(pages.max()) - lowest + 1
    if span > _MOST_FLAGS:
        return np.unique(pages)
    flags = np.zeros(span, bool)
    flags[pages - lowest] = True
    return np.flatnonzero(flags) + lowest


def _merged(*parts: NDArray[np.int64]) -> NDArray[np.int64]:
    """The distinct numbers, 0 or more, of a few sorted lists."""
    numbers = np.sort(np.concatenate(parts), kind="stable") if len(parts) > 1 else parts[0]
    return numbers[np.diff(numbers, prepend=-1) > 0]


def _hidden(only: Counts) -> Counts:
    """Empty cells as the highest number, for the search of the lowest key."""
    return np.where(only == _EMPTY, np.iinfo(np.int64).max, only)


def _same(highest: Counts, lowest: Counts) -> Counts:
    """What cells hold whose parts go up to `highest` and, empty ones hidden, down to `lowest`: the one key of all, or several."""
    one = np.where(lowest == highest, highest, _MIXED)
    return np.where((highest == _EMPTY) & (lowest != _MIXED), _EMPTY, one)
