"""The nearest of many vectors, exactly, in blocks that a processor's cache holds.

N queries, M entries, C channels.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["Entries", "Nearest"]

BLOCK_BYTES = {"cpu": 2**22, "cuda": 2**28}  # of distances in memory together
GROUP = 64  # entries whose least distance is found first; the k nearest lie in the k groups of the least


class Nearest(NamedTuple):
    """The nearest entries of each query, the nearest first."""

    distances: Tensor  # [N, k]; infinite where fewer than k entries may be compared
    numbers: Tensor  # [N, k] of the entries


class Entries:
    """Vectors that others are compared with, each belonging to an image.

    Example:
        >>> entries = Entries(torch.eye(3), images=torch.tensor([0, 0, 1]))
        >>> entries.nearest(torch.eye(3)[:1], k=1).numbers.tolist()
        [[0]]
        >>> entries.nearest(torch.eye(3)[:1], k=1, without=0).numbers.tolist()
        [[2]]
    """

    def __init__(self, vectors: Tensor, *, images: Tensor) -> None:
        """Args:
        vectors: [M, C].
        images: [M], the number of the image that each is of.
        """
        self.images = images
        self.count = len(vectors)
        padding = -len(vectors) % GROUP
        squares = F.pad(vectors.square().sum(1), (0, padding), value=torch.inf)
        # a product of rows with columns [-2 e, |e|²] is |q - e|² - |q|²
        self._columns = torch.cat([-2 * F.pad(vectors, (0, 0, 0, padding)), squares[:, None]], dim=1).T.contiguous()

    def nearest(self, queries: Tensor, *, k: int, without: int | None = None) -> Nearest:
        """The k nearest entries of queries [N, C], not counting those of the image `without`."""
        columns = self._columns if without is None else self._columns_without(without)
        groups = columns.shape[1] // GROUP
        extended = torch.cat([queries, queries.new_ones(len(queries), 1)], dim=1)
        rows = max(1, BLOCK_BYTES["cpu" if queries.device.type == "cpu" else "cuda"] // (4 * columns.shape[1]))
        taken = min(k, groups)
        inside = torch.arange(GROUP, device=queries.device)
        found = []
        for part in torch.split(extended, rows):
            products = (part @ columns).reshape(len(part), groups, GROUP)
            chosen = products.amin(2).topk(taken, dim=1, largest=False).indices  # [n, taken]
            candidates = products.gather(1, chosen[..., None].expand(-1, -1, GROUP)).flatten(1)
            best = candidates.topk(min(k, candidates.shape[1]), dim=1, largest=False)
            numbers = (chosen[..., None] * GROUP + inside).flatten(1).gather(1, best.indices)
            found.append((best.values, numbers))
        values, numbers = (torch.cat(parts) for parts in zip(*found, strict=True))
        distances = (values + queries.square().sum(1, keepdim=True)).clamp_min(0).sqrt()
        return Nearest(distances, numbers.clamp_max(self.count - 1))

    def _columns_without(self, image: int) -> Tensor:
        columns = self._columns.clone()
        columns[-1, : self.count][self.images == image] = torch.inf
        return columns
