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
        padding = 0 if patches else -len(vectors) % GROUP
        squares = F.pad(vectors.square().sum(1), (0, padding), value=torch.inf)
        # a product of rows with columns [-2 e, |e|²] is |q - e|² - |q|²
        extended = torch.cat([-2 * F.pad(vectors, (0, 0, 0, padding)), squares[:, None]], dim=1)
        # [C+1, M], or [images, C+1, patches], as one image's columns stay in the cache for all queries
        self._columns = (
            extended.reshape(-1, patches, extended.shape[1]).mT.contiguous() if patches else extended.T.contiguous()
        )

    def nearest(self, queries: Tensor, *, k: int, without: int | None = None) -> Nearest:
        """The k nearest entries of queries [N, C], not counting those of the image `without`.

        Where images have their `patches` each, they are the nearest entries of the k nearest images, one of each.
        """
        extended = torch.cat([queries, queries.new_ones(len(queries), 1)], dim=1)
        values, numbers = (self._of_images if self.patches else self._of_all)(extended, k, without)
        distances = (values + queries.square().sum(1, keepdim=True)).clamp_min(0).sqrt()
        return Nearest(distances, numbers.clamp_max(self.count - 1))

    def _of_images(self, extended: Tensor, k: int, without: int | None) -> tuple[Tensor, Tensor]:
        """The least products [N, k] of extended queries [N, C+1], one of each of k images, and the numbers of their entries."""
        rows = max(1, _block_bytes(extended) // (4 * self.patches))
        least = torch.stack(
            [torch.cat([(part @ own).amin(1) for part in torch.split(extended, rows)]) for own in self._columns], dim=1
        )
        if without is not None:
            least[:, without] = torch.inf
        values, chosen = least.topk(min(k, least.shape[1]), dim=1, largest=False)
        numbers = torch.empty_like(chosen)
        for image, own in enumerate(self._columns):  # only the few queries that it is among the nearest of
            near = (chosen == image).nonzero(as_tuple=True)
            for at, column in zip(torch.split(near[0], rows), torch.split(near[1], rows), strict=True):
                numbers[at, column] = image * self.patches + (extended[at] @ own).argmin(1)
        return values, numbers

    def _of_all(self, extended: Tensor, k: int, without: int | None) -> tuple[Tensor, Tensor]:
        """The k least products [N, k] of extended queries [N, C+1], and the numbers of their entries."""
        columns = self._columns if without is None else self._columns_without(without)
        groups = columns.shape[1] // GROUP
        rows = max(1, _block_bytes(extended) // (4 * columns.shape[1]))
        found = []
        for part in torch.split(extended, rows):
            products = (part @ columns).reshape(len(part), groups, GROUP)
            least = products.amin(2).topk(min(k, groups), dim=1, largest=False)
            chosen = products.gather(1, least.indices[..., None].expand(-1, -1, GROUP))  # [n, k, group]
            values, inside = chosen.flatten(1).topk(min(k, chosen[0].numel()), dim=1, largest=False)
            numbers = least.indices.gather(1, inside // GROUP) * GROUP + inside % GROUP
            found.append((values, numbers))
        values, numbers = (torch.cat(parts) for parts in zip(*found, strict=True))
        return values, numbers

    def _columns_without(self, image: int) -> Tensor:
        columns = self._columns.clone()
        columns[-1, : self.count][self.images == image] = torch.inf
        return columns


def _block_bytes(queries: Tensor) -> int:
    return BLOCK_BYTES["cpu" if queries.device.type == "cpu" else "cuda"]
