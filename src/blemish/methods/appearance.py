"""What a patch looks like, as a vector that is compared with those of other images.

B batch, N patches of a grid h x w, C channels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Projection", "appearance", "entry_vectors", "image_vectors", "on_grid"]

COARSE_WINDOW = 3  # patches around a patch that a coarser level takes the mean of; the finest is taken as it is
MOST_CHANNELS = 64  # of the vectors that are compared
SAMPLED = 20_000  # patches that decide the projection


def appearance(maps: Sequence[Tensor]) -> Tensor:
    """Maps [B, C, h, w] of several levels as one on the finest grid: each patch at unit length, the levels side by side.

    Levels coarser than the finest are seen with their neighbourhood (PatchCore, Roth et al., CVPR 2022).
    """
    finest = max((level.shape[-2:] for level in maps), key=math.prod)
    seen = []
    for level in maps:
        coarse = level.shape[-2:] != finest
        pooled = F.avg_pool2d(level, COARSE_WINDOW, 1, COARSE_WINDOW // 2, count_include_pad=False) if coarse else level
        alike = F.interpolate(pooled, finest, mode="bilinear", align_corners=False) if coarse else pooled
        seen.append(F.normalize(alike, dim=1))
    return torch.cat(seen, dim=1)


@dataclass(frozen=True)
class Projection:
    """The directions in which the patches of a product differ most (PCA): fewer numbers to compare."""

    mean: Tensor  # [C]
    directions: Tensor  # [C, c], orthonormal

    @classmethod
    def of(cls, vectors: Tensor) -> Projection:
        """That of vectors [N, C]."""
        sample = vectors[:: max(1, len(vectors) // SAMPLED)].double()
        mean = sample.mean(0)
        _, directions = torch.linalg.eigh((sample - mean).T @ (sample - mean))  # the least first
        return cls(mean.to(vectors.dtype), directions[:, -MOST_CHANNELS:].flip(1).to(vectors.dtype).contiguous())

    @classmethod
    def in_arrays(cls, arrays: Mapping[str, NDArray[Any]], device: torch.device) -> Projection:
        """That of a memory's arrays."""
        names = ("projection_mean", "projection")
        mean, directions = (torch.from_numpy(np.array(arrays[name])).to(device).float() for name in names)
        return cls(mean, directions)

    def __call__(self, vectors: Tensor) -> Tensor:
        """Vectors [..., C] as [..., c]."""
        return (vectors - self.mean) @ self.directions


def image_vectors(arrays: Mapping[str, NDArray[Any]], device: torch.device) -> Tensor:
    """What is compared of every patch of every image, [R, N, c]."""
    names = sorted(name for name in arrays if name.startswith("map"))
    projection, vectors = Projection.in_arrays(arrays, device), []
    for start in range(0, len(arrays["log_odds"]), 16):
        maps = [torch.from_numpy(arrays[name][start : start + 16]).to(device).float() for name in names]
        vectors.append(projection(appearance(maps).flatten(2).transpose(1, 2)))
    return torch.cat(vectors)


def entry_vectors(arrays: Mapping[str, NDArray[Any]], device: torch.device) -> Tensor:
    """What is compared of each entry, [M, c]."""
    entries = torch.from_numpy(arrays["entries"].astype(np.int64)).to(device)
    return image_vectors(arrays, device)[entries[:, 0], entries[:, 1]]


def on_grid(maps: Tensor, grid: Sequence[int]) -> Tensor:
    """Maps [B, h, w] on another grid: means where it is coarser, interpolated where it is finer."""
    if tuple(maps.shape[-2:]) == tuple(grid):
        return maps
    if maps.shape[-2] >= grid[0]:
        return F.adaptive_avg_pool2d(maps[:, None], (grid[0], grid[1]))[:, 0]
    return F.interpolate(maps[:, None], tuple(grid), mode="bilinear", align_corners=False)[:, 0]
