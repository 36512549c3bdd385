"""What pulls places, whole images and texts together. B batch, N places, D joint width, T types."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from recipes.embedded.config import PLACE_PX

TOP_SHARE = 0.01  # of the places: their mean stands for the map
ANOMALY_WEIGHT = 3.0  # anomalous places are few
FULL, TOUCHED = 0.25, 0.0  # share of a place's fullest quarter: from where it is anomalous, up to where it is normal


def place_targets(masks: Tensor) -> tuple[Tensor, Tensor]:
    """Which places of masks [B, n, n] are anomalous and which count, each bool [B, N]: a sliver of a defect neither is nor is not
    one."""
    share = F.avg_pool2d(masks[:, None].float(), PLACE_PX // 2)
    fullest = F.max_pool2d(share, 2)[:, 0].flatten(1)
    anomalous = fullest > FULL
    return anomalous, anomalous | (fullest <= TOUCHED)


def alignment(
    places: Tensor, texts: Tensor, *, anomalous: Tensor, counts: Tensor, types: Tensor, temperature: float
) -> dict[str, Tensor]:
    """Losses of place features [B, N, D] against directions [2+T, D]: normal, abnormal, each type."""
    cosines = F.normalize(places.float(), dim=-1) @ texts.T / temperature  # [B, N, 2+T]
    log_p = cosines[..., :2].log_softmax(-1)
    truth, weight = anomalous.float(), torch.where(anomalous, ANOMALY_WEIGHT, 1.0) * counts
    binary = -(weight * (truth * log_p[..., 1] + (1 - truth) * log_p[..., 0])).sum() / weight.sum()
    p = log_p[..., 1].exp()
    seen, true_seen = p * counts, truth * counts
    overlap = (2 * (seen * true_seen).sum(1) + 1) / (seen.sum(1) + true_seen.sum(1) + 1)
    typed_logits = torch.cat([cosines[..., :1], cosines[..., 2:]], -1)
    labels = anomalous.long() * types[:, None]
    typed = F.cross_entropy(typed_logits.transpose(1, 2), labels, reduction="none")
    typed = (typed * weight).sum() / weight.sum()
    top = max(1, round(TOP_SHARE * p.shape[1]))
    pooled = p.topk(top, 1).values.mean(1).clamp(1e-4, 1 - 1e-4)
    image = F.binary_cross_entropy(pooled, anomalous.any(1).float())
    return {"binary": binary, "dice": 1 - overlap.mean(), "typed": typed, "pooled": 0.3 * image}


def naming(places: Tensor, texts: Tensor, *, anomalous: Tensor, types: Tensor, temperature: float) -> Tensor:
    """Cross-entropy over the types alone, at the anomalous places [B, N], each defective image with the same weight."""
    logits = F.normalize(places.float(), dim=-1) @ texts[2:].T / temperature  # [B, N, T]
    defective = anomalous.any(1)
    labels = (types - 1).clamp_min(0)[:, None].expand_as(anomalous)
    loss = F.cross_entropy(logits.transpose(1, 2), labels, reduction="none") * anomalous  # [B, N]
    per_image = loss.sum(1) / anomalous.sum(1).clamp_min(1)
    return per_image.sum() / defective.sum().clamp_min(1)


def whole_image(cls: Tensor, texts: Tensor, types: Tensor, *, temperature: float) -> dict[str, Tensor]:
    """Losses of global features [B, D]: normal against abnormal, and which type."""
    cosines = F.normalize(cls.float(), dim=-1) @ texts.T / temperature
    typed_logits = torch.cat([cosines[:, :1], cosines[:, 2:]], -1)
    return {
        "global binary": 0.5 * F.cross_entropy(cosines[:, :2], (types > 0).long()),
        "global typed": 0.3 * F.cross_entropy(typed_logits, types),
    }


def captioned(cls: Tensor, captions: Tensor, *, temperature: float) -> Tensor:
    """Cross-entropy of global features [B, D] over their own captions [B, C, D], the true one first.

    The others are hard: the same material with another defect or none, and another material with the same defect.
    """
    logits = torch.einsum("bd,bcd->bc", F.normalize(cls.float(), dim=-1), captions) / temperature
    return F.cross_entropy(logits, torch.zeros(len(cls), dtype=torch.long, device=cls.device))
