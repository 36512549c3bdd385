"""AdaCLIP's hybrid semantic fusion: what the most abnormal patches have in common, as a feature of the image.

Cao et al.: "AdaCLIP", ECCV 2024, arXiv 2407.15795, section 3.4; docs/adaclip.md says how the released form differs from it.
B batch, N patches, D joint width, K clusters, m patches that count.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from blemish.methods.kmeans import Clustering, cluster

__all__ = ["Fused", "Fusion", "fuse"]

Fusion = Literal["released", "paper", "mean", "none"]
PATCHES_A_CLUSTER = 5  # so many of the most abnormal patches for each cluster


@dataclass(frozen=True)
class Fused:
    """The fused features of a batch and how they came about."""

    features: Tensor  # [B, D], of length 1
    patches: Tensor  # [B, m], the patches that counted, the most abnormal first
    clusterings: tuple[Clustering, ...]  # one an image, of those patches; none for "mean"


def fuse(
    levels: Sequence[Tensor],
    abnormal: Tensor,
    *,
    clusters: int,
    fusion: Literal["released", "paper", "mean"],
    generator: Callable[[], np.random.RandomState],
) -> Fused:
    """The fused feature of each image.

    Args:
        levels: Patch features of each level, [B, N, D], of length 1.
        abnormal: The patches' abnormal probabilities [B, N].
        clusters: K.
        fusion: "released": the mean over the means of K clusters of the 5 K most abnormal patches, each seen at all levels.
            "paper": the mean of the most abnormal of K clusters of all patches, averaged over the levels. "mean": the mean of
            the 5 K most abnormal patches.
        generator: Called once an image for the generator that its starts are drawn from.
    """
    count = abnormal.shape[1]
    chosen = count if fusion == "paper" else min(count, PATCHES_A_CLUSTER * clusters)
    patches = abnormal.topk(chosen, dim=1).indices  # [B, m]
    stacked = torch.stack(list(levels), dim=2)  # [B, N, L, D]
    index = patches[..., None, None].expand(-1, -1, *stacked.shape[2:])
    selected = stacked.gather(1, index)  # [B, m, L, D]
    means = selected.mean(2)  # [B, m, D]
    if fusion == "mean":
        return Fused(F.normalize(means.mean(1), dim=-1), patches, ())
    seen = means if fusion == "paper" else selected.flatten(2)  # what is clustered
    points = seen.detach().double().cpu().numpy()
    clusterings = tuple(cluster(image, clusters, generator=generator()) for image in points)
    probabilities = abnormal.gather(1, patches)
    features = []
    for image, clustering in enumerate(clusterings):
        centres, members = _centres(means[image], clustering)
        if fusion == "paper":
            highest = (members @ probabilities[image]).argmax()
            features.append(centres[highest])
        else:
            features.append(centres.mean(0))
    return Fused(F.normalize(torch.stack(features), dim=-1), patches, clusterings)


def _centres(points: Tensor, clustering: Clustering) -> tuple[Tensor, Tensor]:
    """The means [K', D] of the clusters of points [m, D] that are not empty, and the weights [K', m] that give them."""
    labels = torch.from_numpy(np.unique(clustering.labels, return_inverse=True)[1]).to(points.device)
    members = F.one_hot(labels).T.to(points)  # [K', m]
    weights = members / members.sum(1, keepdim=True)
    return weights @ points, weights
