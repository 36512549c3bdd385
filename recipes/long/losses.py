"""What an image side learns by: which patches are defective, that the defect leads its image and defective images the good ones,
and the type where it is known. B images, N patches, D joint width, T types.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from blemish.backbones.vision import ImageTower
from recipes.embedded.losses import ANOMALY_WEIGHT, place_targets

HIGHEST = 6  # patches whose mean stands for the map


@dataclass(frozen=True)
class Weights:
    """Of the terms."""

    temperature: float = 0.07
    leads: float = 0.2
    across: float = 0.4
    pooled: float = 0.4
    earlier: float = 0.5
    ordinary: float = 0.3
    image: float = 0.7
    image_across: float = 0.5
    named: float = 1.0
    image_named: float = 0.2


@dataclass(frozen=True)
class Targets:
    """What is known of a batch."""

    anomalous: Tensor  # bool [B, N]
    counts: Tensor  # bool [B, N]; a patch that a defect only touches neither is nor is not anomalous
    types: Tensor  # [B], 1..T of a known type, else 0 or below

    @classmethod
    def of(cls, masks: Tensor, types: Tensor) -> Targets:
        """From masks bool [B, n, n] and types [B]."""
        anomalous, counts = place_targets(masks)
        return cls(anomalous, counts, torch.where(anomalous.any(1), types, torch.zeros_like(types)))

    def rows(self, chosen: Tensor) -> Targets:
        """Of some of the images."""
        return Targets(self.anomalous[chosen], self.counts[chosen], self.types[chosen])


def patch_losses(odds: Tensor, targets: Targets, weights: Weights) -> Tensor:
    """The sum of the terms of patches, from their log odds [B, N]."""
    anomalous, counts = targets.anomalous, targets.counts
    truth, weight = anomalous.float(), torch.where(anomalous, ANOMALY_WEIGHT, 1.0) * counts
    binary = F.binary_cross_entropy_with_logits(odds, truth, reduction="none")
    p = odds.sigmoid() * counts
    overlap = (2 * (p * truth).sum(1) + 1) / (p.sum(1) + truth.sum(1) + 1)
    bad = anomalous.any(1)
    led = torch.logsumexp(odds.masked_fill(~counts, -1e4), 1) - torch.logsumexp(odds.masked_fill(~anomalous, -1e4), 1)
    top = odds.topk(HIGHEST, dim=1).values.mean(1)
    return (
        (weight * binary).sum() / weight.sum()
        + 1
        - overlap.mean()
        + weights.leads * (torch.where(bad, led, 0.0)).sum() / bad.sum().clamp_min(1)
        + weights.across * above(top, bad)
        + weights.pooled * F.binary_cross_entropy_with_logits(top, bad.float())
    )


def above(scores: Tensor, bad: Tensor) -> Tensor:
    """How far each defective image's score [B] lies above each good one's, as a loss."""
    margin = scores[:, None] - scores[None, :]
    pairs = (bad[:, None] & ~bad[None, :]).float()
    return (F.softplus(-margin) * pairs).sum() / pairs.sum().clamp_min(1)


def named(patches: Tensor, texts: Tensor, targets: Targets, weights: Weights) -> Tensor:
    """Cross-entropy over the types at anomalous patches [B, N, D] of images whose type is known."""
    marked = targets.anomalous & (targets.types > 0)[:, None]
    logits = patches @ texts[2:].T / weights.temperature
    labels = (targets.types - 1).clamp_min(0)[:, None].expand_as(marked)
    loss = F.cross_entropy(logits.transpose(1, 2), labels, reduction="none") * marked
    per_image = loss.sum(1) / marked.sum(1).clamp_min(1)
    return per_image.sum() / marked.any(1).sum().clamp_min(1)


def member_loss(
    member: ImageTower, streams: dict[str, Tensor], *, texts: Tensor, targets: Targets, weights: Weights
) -> dict[str, Tensor]:
    """The terms of one image side, from its own streams [B, 1 + N, W] and the directions [2 + T, D] of the words."""
    direction = (texts[1] - texts[0]) / weights.temperature

    def projected(tokens: Tensor) -> Tensor:
        return F.normalize(member.project(tokens).float(), dim=-1)

    local = projected(streams["value_value"][:, 1:])
    terms = {
        "patches": patch_losses(local @ direction, targets, weights),
        "named": weights.named * named(local, texts, targets, weights),
    }
    for name, weight in (("earlier", weights.earlier), ("ordinary", weights.ordinary)):
        terms[name] = weight * patch_losses(projected(streams[name][:, 1:]) @ direction, targets, weights)
    cls = projected(streams["ordinary"][:, 0])
    image, bad = cls @ direction, targets.anomalous.any(1)
    terms["image"] = weights.image * F.binary_cross_entropy_with_logits(image, bad.float())
    terms["image across"] = weights.image_across * above(image, bad)
    known = targets.types > 0
    typed = F.cross_entropy(cls @ texts[2:].T / weights.temperature, (targets.types - 1).clamp_min(0), reduction="none")
    terms["image named"] = weights.image_named * (typed * known).sum() / known.sum().clamp_min(1)
    return terms
