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

    def __init__(self, vectors: Tensor, *, images: Tensor, patches: int = 0) -> None:
        """Args:
        vectors: [M, C].
        images: [M], the number of the image that each is of.
        patches: How many entries each image has, one image after the other; 0 where that differs.
        """
        self.images, self.count, self.patches = images, len(vectors), patches
        self._group = patches or GROUP
        padding = -len(vectors) % self._group
        squares = F.pad(vectors.square().sum(1), (0, padding), value=torch.inf)
        # a product of rows with columns [-2 e, |e|²] is |q - e|² - |q|²
        self._columns = torch.cat([-2 * F.pad(vectors, (0, 0, 0, padding)), squares[:, None]], dim=1).T.contiguous()

    def nearest(self, queries: Tensor, *, k: int, without: int | None = None) -> Nearest:
        """The k nearest entries of queries [N, C], not counting those of the image `without`.

        Where images have their `patches` each, they are the nearest entries of the k nearest images, one of each.
        """
        columns = self._columns if without is None else self._columns_without(without)
        groups = columns.shape[1] // self._group
        extended = torch.cat([queries, queries.new_ones(len(queries), 1)], dim=1)
        rows = max(1, BLOCK_BYTES["cpu" if queries.device.type == "cpu" else "cuda"] // (4 * columns.shape[1]))
        found = []
        for part in torch.split(extended, rows):
            products = (part @ columns).reshape(len(part), groups, self._group)
            least = products.amin(2).topk(min(k, groups), dim=1, largest=False)
            chosen = products.gather(1, least.indices[..., None].expand(-1, -1, self._group))  # [n, k, group]
            if self.patches:
                values, inside = least.values, chosen.argmin(2)
                numbers = least.indices * self._group + inside
            else:
                values, inside = chosen.flatten(1).topk(min(k, chosen[0].numel()), dim=1, largest=False)
                numbers = least.indices.gather(1, inside // self._group) * self._group + inside % self._group
            found.append((values, numbers))
        values, numbers = (torch.cat(parts) for parts in zip(*found, strict=True))
        distances = (values + queries.square().sum(1, keepdim=True)).clamp_min(0).sqrt()
        return Nearest(distances, numbers.clamp_max(self.count - 1))

    def _columns_without(self, image: int) -> Tensor:
        columns = self._columns.clone()
        columns[-1, : self.count][self.images == image] = torch.inf
        return columns
