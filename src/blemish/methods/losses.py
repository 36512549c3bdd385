"""The pixel and image losses that the methods share. Probabilities in, scalars out; C classes, S pixels a side."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["dice", "focal", "focal_with_logits", "orthogonality"]

SMOOTHING = 1e-5  # of the target, and what keeps the logarithm finite


def focal(probabilities: Tensor, target: Tensor, *, gamma: float = 2.0, classes: int | None = None) -> Tensor:
    """The focal loss of probabilities [B, C, S, S] against class numbers [B, S, S], a mean over all pixels.

    `classes` is their number where the C channels stand for more: classes that no target names may be summed into one channel.

    The target is smoothed to 1 - 1e-5 for its class and 1e-5 in all for the others; p = Σ target · probability + 1e-5, and the
    loss is -(1 - p)^γ log p. This same p stands in both factors, as in the code of AnomalyCLIP, FAPrompt and DAPO.
    """
    true = probabilities.gather(1, target[:, None].long())[:, 0]  # [B, C, S, S] -> [B, S, S]
    others = probabilities.sum(1) - true
    p = (1 - SMOOTHING) * true + SMOOTHING / ((classes or probabilities.shape[1]) - 1) * others + SMOOTHING
    return (-((1 - p) ** gamma) * p.log()).mean()


def dice(probability: Tensor, target: Tensor) -> Tensor:
    """1 - (2 Σpt + 1) / (Σp + Σt + 1) of each image [B, S, S], a mean over the images."""
    p, t = probability.flatten(1), target.flatten(1).to(probability.dtype)
    return (1 - (2 * (p * t).sum(1) + 1) / (p.sum(1) + t.sum(1) + 1)).mean()


def focal_with_logits(logits: Tensor, target: Tensor, *, gamma: float = 2.0) -> Tensor:
    """The binary focal loss of logits [B] against 0 and 1 [B], a mean over the batch."""
    cross_entropy = F.binary_cross_entropy_with_logits(logits, target.to(logits.dtype), reduction="none")
    return ((1 - (-cross_entropy).exp()) ** gamma * cross_entropy).mean()


def orthogonality(embeddings: Tensor) -> Tensor:
    """The sum of |cosine| over all unordered pairs of embeddings [K, D]; 0 for one alone."""
    unit = F.normalize(embeddings, dim=-1)
    first, second = torch.triu_indices(len(unit), len(unit), offset=1, device=unit.device)
    return (unit[first] * unit[second]).sum(-1).abs().sum()
