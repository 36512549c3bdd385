"""A memory of good images of a product: features of every patch or window, and how far others are from the nearest of them.

WinCLIP+ and APRIL-GAN call it their few-shot setting. K images, B batch, N features of an image, C channels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from blemish.errors import UsageError

__all__ = ["GoodReferences", "distance_to_nearest", "remember"]

MOST_BYTES = 2**25  # of cosines that are in memory together


@dataclass(frozen=True)
class GoodReferences:
    """The features of K good images, level by level."""

    levels: tuple[Tensor, ...]  # each [K * N, C], of length 1
    identity: str  # number and digest of the images

    def distances(self, level: int, features: Tensor) -> Tensor:
        """1 - cosine with the nearest feature of this level, [B, N], of features [B, N, C]."""
        return distance_to_nearest(features, self.levels[level])


def remember(
    batches: Iterable[Tensor], encode: Callable[[Tensor], Iterable[Tensor]], *, size_px: int, method: str
) -> GoodReferences:
    """The memory of good images.

    Args:
        batches: Normalised images [b, 3, S, S].
        encode: Gives the features of a batch, level by level, [b, N, C] each.
        size_px: S, the side that the method takes.
        method: Its name, for messages.

    Raises:
        UsageError: there are no images, or they are of another size.
    """
    digest, count = hashlib.sha256(), 0
    found: list[tuple[Tensor, ...]] = []
    for batch in batches:
        if batch.shape[1:] != (3, size_px, size_px):
            raise UsageError(
                f"the method {method!r} takes reference images [b, 3, {size_px}, {size_px}], not {list(batch.shape)}"
            )
        for image in batch:
            digest.update(image.contiguous().cpu().numpy().tobytes())
        count += len(batch)
        found.append(tuple(F.normalize(level.float(), dim=-1).flatten(0, 1) for level in encode(batch)))
    if not count:
        raise UsageError(f"the method {method!r} compares with good images of the product: give at least one")
    levels = tuple(torch.cat(level) for level in zip(*found, strict=True))
    return GoodReferences(levels, f"{count} good images ({digest.hexdigest()[:16]})")


def distance_to_nearest(features: Tensor, memory: Tensor) -> Tensor:
    """1 - the largest cosine of features [B, N, C] with a memory [M, C] of length 1: [B, N], in 0..2.

    Rounding can make the distance of a feature to itself slightly negative; such a distance is 0.
    """
    rows = F.normalize(features.float(), dim=-1).flatten(0, -2)
    at_once = max(1, MOST_BYTES // (4 * len(memory)))
    largest = torch.cat([(some @ memory.T).amax(1) for some in torch.split(rows, at_once)])
    return (1 - largest).clamp_min(0).reshape(features.shape[:-1])
