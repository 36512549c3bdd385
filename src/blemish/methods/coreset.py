"""Which patches stand for all: a greedy cover, each next one the farthest from those chosen (k-centre), on random projections.

Sener and Savarese, "Active Learning for Convolutional Neural Networks: A Core-Set Approach", ICLR 2018; PatchCore (Roth et al.,
CVPR 2022) uses it for memories. Several are taken a round, so that twenty thousand take seconds.
n points, C channels.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["choose_covering"]

PROJECTED = 24  # channels that distances are measured in while choosing
ROUNDS = 300  # at most: more points a round where more are to be chosen
CANDIDATES = 4  # of so many times the points of a round, those that lie apart are taken
SEED = 0


def choose_covering(points: Tensor, count: int) -> Tensor:
    """The numbers of `count` points [n, C] that leave the others near to them, in the order of their choice.

    The same points give the same choice. All of them where they are no more than `count`.
    """
    total, channels = points.shape
    if total <= count:
        return torch.arange(total, device=points.device)
    generator = torch.Generator().manual_seed(SEED)
    if channels > PROJECTED:
        projection = torch.randn(channels, PROJECTED, generator=generator) / math.sqrt(PROJECTED)
        points = points @ projection.to(points)
    squares = points.square().sum(1)
    at_once = max(1, math.ceil(count / ROUNDS))
    chosen = torch.randint(total, (1,), generator=generator).to(points.device)
    far = _squared(points, squares, chosen)  # [n], to the nearest that is chosen
    parts = [chosen]
    left = count - 1
    while left > 0:
        new = _apart(points, far, min(at_once, left))
        far = torch.minimum(far, _squared(points, squares, new))
        far[new] = -1.0  # chosen: never again
        parts.append(new)
        left -= len(new)
    return torch.cat(parts)


def _squared(points: Tensor, squares: Tensor, chosen: Tensor) -> Tensor:
    """The squared distance [n] of each point to the nearest of the chosen."""
    products = torch.addmm(squares[chosen][None], points, points[chosen].T, alpha=-2)
    return (products.amin(1) + squares).clamp_min(0)


def _apart(points: Tensor, far: Tensor, count: int) -> Tensor:
    """So many of the farthest points, greedily the one farthest from those taken before."""
    if count == 1:
        return far.argmax()[None]
    values, numbers = far.topk(min(CANDIDATES * count, len(far)))
    own = points[numbers]
    between = F.relu(torch.cdist(own, own).square())
    taken = []
    for _ in range(count):
        best = int(values.argmax())
        taken.append(best)
        values = torch.minimum(values, between[best])
        values[best] = -1.0
    return numbers[taken]
