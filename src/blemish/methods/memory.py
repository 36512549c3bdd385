"""A memory of patch features: what patches look like on reference images, and how far others are from the nearest of them.

Mutual scoring stands on it; a memory of good images can, too. B batch, R reference images, N patches of a grid h x w, M entries
of the memory, C channels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["FeatureBank", "Neighbours", "PatchView", "RobustScale"]

BLOCK_BYTES = {"cpu": 2**21, "cuda": 2**28}  # of distances in memory together; on a processor what its cache holds
STILL_CHANNEL = 1e-3  # least standard deviation of a channel
LEAST_SPREAD = 1e-6


class PatchView(NamedTuple):
    """One way to look at patches."""

    level: int  # which of the maps
    window: int  # odd; a patch is the mean of window x window around it
    standardised: bool  # channels divided by their standard deviation over the memory, then each patch at unit length


class Neighbours(NamedTuple):
    """The nearest entries of a memory, the nearest first."""

    distances: Tensor  # [N, k]
    entries: Tensor  # [N, k], their numbers in the memory


class FeatureBank(nn.Module):
    """Patch features of reference images under one view.

    Example:
        >>> bank = FeatureBank([torch.eye(4).reshape(1, 4, 2, 2)], PatchView(level=0, window=1, standardised=False))
        >>> bank.nearest(bank.patches(torch.eye(4).reshape(1, 4, 2, 2))[0]).entries.flatten().tolist()
        [0, 1, 2, 3]
    """

    def __init__(self, maps: Iterable[Tensor], view: PatchView) -> None:
        """Args:
        maps: Of one level, in batches [B, C, h, w]. They decide means and deviations, also for what `add` brings later.
        view: How patches are seen.
        """
        super().__init__()
        self.view = view
        first = torch.cat(list(maps))
        pooled = _pooled(first, view.window)
        self.register_buffer("mean", pooled.mean((0, 2, 3), keepdim=True), persistent=False)  # [1, C, 1, 1]
        self.register_buffer("deviation", pooled.std((0, 2, 3), keepdim=True) + STILL_CHANNEL, persistent=False)
        # each row [-2 e, |e|²] of an entry e: its product with [p, 1] is |p - e|² - |p|²
        self.register_buffer("rows", first.new_zeros(0, first.shape[1] + 1), persistent=False)  # [M, C + 1]
        self.mean: Tensor
        self.deviation: Tensor
        self.rows: Tensor
        self.patches_of_image = first.shape[2] * first.shape[3]
        self.add(first)

    def __len__(self) -> int:
        """The number of reference images, R."""
        return len(self.rows) // self.patches_of_image

    @property
    def entries(self) -> Tensor:
        """The features in the memory [M, C], image by image."""
        return self.rows[:, :-1] / -2

    def add(self, maps: Tensor) -> None:
        """Puts the patches of more images into the memory, from maps [B, C, h, w] on the grid of those that are there."""
        patches = self.patches(maps).flatten(0, 1)
        squares = patches.square().sum(1, keepdim=True)
        self.rows = torch.cat([self.rows, torch.cat([-2 * patches, squares], dim=1)])

    def patches(self, maps: Tensor) -> Tensor:
        """The patches [B, N, C] of maps [B, C, h, w] as this view sees them; what the methods below compare."""
        pooled = _pooled(maps, self.view.window) - self.mean  # no distance changes, and less is lost in rounding
        if self.view.standardised:
            pooled = F.normalize(pooled / self.deviation, dim=1)
        return pooled.flatten(2).transpose(1, 2).contiguous()

    def norm(self) -> float:
        """The root mean square length of the entries: the scale of their distances."""
        return float(self.rows[:, -1].mean().sqrt())

    def distances(self, patches: Tensor) -> Tensor:
        """The distance [R, N] of each patch [N, C] to the nearest patch of each reference image."""
        own = patches.square().sum(1)
        count = self.patches_of_image
        least = [
            torch.cat([products.reshape(len(products), -1, count).amin(2) for products in parts]).T
            for _, parts in self._blocks(patches, whole_images=True)
        ]
        return (torch.cat(least) + own).clamp_min(0).sqrt()

    def nearest(self, patches: Tensor, *, k: int = 1) -> Neighbours:
        """The k nearest entries of all for each patch [N, C]."""
        own = patches.square().sum(1)[:, None]
        best = Neighbours(patches.new_full((len(patches), 0), torch.inf), patches.new_zeros(len(patches), 0).long())
        for first, parts in self._blocks(patches, whole_images=False):
            nearest = [products.topk(min(k, products.shape[1]), dim=1, largest=False) for products in parts]
            values = torch.cat([best.distances, torch.cat([part.values for part in nearest])], dim=1)
            numbers = torch.cat([best.entries, first + torch.cat([part.indices for part in nearest])], dim=1)
            kept = values.topk(min(k, values.shape[1]), dim=1, largest=False)
            best = Neighbours(kept.values, numbers.gather(1, kept.indices))
        return Neighbours((best.distances + own).clamp_min(0).sqrt(), best.entries)

    def _blocks(self, patches: Tensor, *, whole_images: bool) -> Iterator[tuple[int, Iterator[Tensor]]]:
        """The memory in blocks: the number of the first entry of each, and the squared distances to it less the patches' own
        squares, [n, m] for one part of the patches after the other."""
        most = BLOCK_BYTES["cpu" if patches.device.type == "cpu" else "cuda"] // 4
        at_once = max(1, most // len(patches))  # entries
        if whole_images:
            at_once = max(1, at_once // self.patches_of_image) * self.patches_of_image
        at_once = min(at_once, len(self.rows))
        rows = max(1, most // at_once)  # patches
        extended = torch.cat([patches, patches.new_ones(len(patches), 1)], dim=1)  # [N, C + 1]
        for first in range(0, len(self.rows), at_once):
            entries = self.rows[first : first + at_once].T
            yield first, (part @ entries for part in torch.split(extended, rows))


@dataclass(frozen=True)
class RobustScale:
    """Median and robust standard deviation of some numbers."""

    median: float
    spread: float  # 1.4826 times the median absolute deviation: the standard deviation, were they Gaussian

    @classmethod
    def of(cls, values: Tensor, *, still: float = 0.0) -> RobustScale:
        """That of the values above `still`, and a spread of at least that."""
        moving = values[values > still] if bool((values > still).any()) else values
        median = moving.median()
        spread = 1.4826 * float((moving - median).abs().median())
        return cls(float(median), max(spread, still, LEAST_SPREAD))

    def deviations(self, values: Tensor) -> Tensor:
        """The values as robust standard deviations from the median."""
        return (values - self.median) / self.spread


def _pooled(maps: Tensor, window: int) -> Tensor:
    return F.avg_pool2d(maps, window, stride=1, padding=window // 2, count_include_pad=False) if window > 1 else maps
