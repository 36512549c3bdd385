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
FINEST_WEIGHT = 2.0  # of the finest level beside coarser ones
LENGTH_POWER = 0.3  # 0: only the direction of a patch's features counts; 1: their length as much
MOST_CHANNELS = 96  # of the vectors that are compared
SAMPLED = 20_000  # patches that decide the projection
MOST_DECIDING = 64  # images that do
LEAST = 1e-6


def appearance(maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Maps [B, C, h, w] of several levels, all on the finest grid, coarser ones seen with their neighbourhood (PatchCore)."""
    finest = max((level.shape[-2:] for level in maps), key=math.prod)
    seen = []
    for level in maps:
        if level.shape[-2:] == finest:
            seen.append(level)
            continue
        pooled = F.avg_pool2d(level, COARSE_WINDOW, 1, COARSE_WINDOW // 2, count_include_pad=False)
        seen.append(F.interpolate(pooled, finest, mode="bilinear", align_corners=False))
    return tuple(seen)


@dataclass(frozen=True)
class Projection:
    """What of a patch is compared: its levels side by side, their lengths evened out, in the directions in which the patches of
    the product differ most (PCA)."""

    lengths: Tensor  # [L], the root mean square length of each level's features
    weights: Tensor  # [L]
    mean: Tensor  # [C]
    directions: Tensor  # [C, c], orthonormal

    @classmethod
    def of(cls, maps: Sequence[Tensor]) -> Projection:
        """That of a product's maps, as a method gives them for comparison, [R, C, h, w] each."""
        seen = appearance([level[:MOST_DECIDING] for level in maps])
        lengths = torch.stack([level.square().sum(1).mean().sqrt().clamp_min(LEAST) for level in seen])
        finest = max(level.shape[-1] for level in maps)
        coarser = any(level.shape[-1] < finest for level in maps)
        weights = torch.tensor([FINEST_WEIGHT if coarser and level.shape[-1] == finest else 1.0 for level in maps])
        weights = weights.to(lengths)
        vectors = _joined(seen, lengths, weights)
        sample = vectors[:: max(1, len(vectors) // SAMPLED)].double()
        mean = sample.mean(0)
        _, directions = torch.linalg.eigh((sample - mean).T @ (sample - mean))  # the least first
        directions = directions[:, -MOST_CHANNELS:].flip(1).to(vectors.dtype).contiguous()
        return cls(lengths, weights, mean.to(vectors.dtype), directions)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """As arrays of a memory."""
        return {
            "projection_lengths": torch.stack([self.lengths, self.weights]).cpu().numpy(),
            "projection_mean": self.mean.cpu().numpy(),
            "projection": self.directions.cpu().numpy(),
        }

    @classmethod
    def in_arrays(cls, arrays: Mapping[str, NDArray[Any]], device: torch.device) -> Projection:
        """That of a memory's arrays."""
        names = ("projection_lengths", "projection_mean", "projection")
        lengths, mean, directions = (torch.from_numpy(np.array(arrays[name])).to(device).float() for name in names)
        return cls(lengths[0], lengths[1], mean, directions)

    def __call__(self, maps: Sequence[Tensor]) -> Tensor:
        """What is compared of images with these maps, [B, N, c]."""
        seen = appearance(maps)
        vectors = (_joined(seen, self.lengths, self.weights) - self.mean) @ self.directions
        return vectors.reshape(len(maps[0]), -1, vectors.shape[-1])


def _joined(seen: Sequence[Tensor], lengths: Tensor, weights: Tensor) -> Tensor:
    """The levels [B, C, h, w] side by side, [B * N, C in all], each as long as a power of its length."""
    parts = []
    for level, usual, weight in zip(seen, lengths, weights, strict=True):
        flat = level.flatten(2).transpose(1, 2).flatten(0, 1)
        own = (flat.norm(dim=1, keepdim=True) / usual).clamp_min(LEAST)
        parts.append(flat / usual * own.pow(LENGTH_POWER - 1) * weight)
    return torch.cat(parts, dim=1)


def image_vectors(arrays: Mapping[str, NDArray[Any]], device: torch.device) -> Tensor:
    """What is compared of every patch of every image, [R, N, c]."""
    names = sorted(name for name in arrays if name.startswith("map"))
    projection, vectors = Projection.in_arrays(arrays, device), []
    for start in range(0, len(arrays["log_odds"]), 16):
        maps = [torch.from_numpy(arrays[name][start : start + 16]).to(device).float() for name in names]
        vectors.append(projection(maps))
    return torch.cat(vectors)


def entry_vectors(arrays: Mapping[str, NDArray[Any]], device: torch.device, vectors: Tensor | None = None) -> Tensor:
    """What is compared of each entry, [M, c]; `vectors` are those of `image_vectors` where they are known."""
    entries = torch.from_numpy(arrays["entries"].astype(np.int64)).to(device)
    vectors = image_vectors(arrays, device) if vectors is None else vectors
    return vectors[entries[:, 0], entries[:, 1]]


def on_grid(maps: Tensor, grid: Sequence[int]) -> Tensor:
    """Maps [B, h, w] on another grid: means where it is coarser, interpolated where it is finer."""
    if tuple(maps.shape[-2:]) == tuple(grid):
        return maps
    if maps.shape[-2] >= grid[0]:
        return F.adaptive_avg_pool2d(maps[:, None], (grid[0], grid[1]))[:, 0]
    return F.interpolate(maps[:, None], tuple(grid), mode="bilinear", align_corners=False)[:, 0]
