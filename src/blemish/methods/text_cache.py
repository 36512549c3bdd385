"""A cache of text features, outside the methods: one cache serves several methods and vocabularies at once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from threading import Lock
from typing import TypeVar

import torch
from torch import Tensor

__all__ = ["TextCache"]

MOST_KEPT = 10_000  # features; at 768 numbers each 31 MB

Item = TypeVar("Item", bound=Hashable)


class TextCache:
    """Text features, each a vector [D] under its text and what else decides it; the least recently used are dropped.

    Example:
        >>> cache = TextCache()
        >>> cache.features(["scratch", "hole"], lambda words: torch.zeros(len(words), 8), decided_by="a model").shape
        torch.Size([2, 8])
        >>> cache.features(["hole"], lambda words: torch.ones(len(words), 8), decided_by="a model").sum()  # known already
        tensor(0.)
    """

    def __init__(self, *, most: int = MOST_KEPT) -> None:
        self._most = most
        self._kept: OrderedDict[Hashable, Tensor] = OrderedDict()
        self._lock = Lock()

    def features(
        self, items: Sequence[Item], encode: Callable[[Sequence[Item]], Tensor], *, decided_by: Hashable
    ) -> Tensor:
        """The features [n, D] of n items.

        Args:
            items: What is encoded: defect types, names of states.
            encode: Called once with those items that are not known yet; returns a row for each.
            decided_by: Everything besides the item that decides its features: `Method.text_key`.
        """
        with self._lock:
            known = {item: self._kept[decided_by, item] for item in items if (decided_by, item) in self._kept}
        missing = [item for item in dict.fromkeys(items) if item not in known]
        if missing:
            known |= zip(missing, encode(missing), strict=True)
        with self._lock:
            for item in items:
                self._kept[decided_by, item] = known[item]
                self._kept.move_to_end((decided_by, item))
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
        return torch.stack([known[item] for item in items])
