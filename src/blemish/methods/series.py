"""Whether images are a series of one product: how well they explain each other.

R images, N patches.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from blemish.methods.appearance import Projection
from blemish.methods.nearest import Entries

__all__ = ["unlikeness"]

STEP = 3  # of an image's patches every third stands for all


def unlikeness(maps: Sequence[Tensor]) -> float:
    """How far the patches of an image are from the nearest ones of half of the others, by how much they differ among themselves.

    Args:
        maps: What patches are compared by, [R, C, h, w] of R images, two at least, a level each.

    Returns:
        The median over the images of the median over their patches: below 1 in a series of one product, above in a mixture.
    """
    vectors = Projection.of(maps)(maps)[:, ::STEP]  # [R, N, c]
    images, patches = vectors.shape[:2]
    numbers = torch.arange(images, device=vectors.device).repeat_interleave(patches)
    entries = Entries(vectors.flatten(0, 1), images=numbers, patches=patches)
    found = []
    for number, own in enumerate(vectors):
        to_others = entries.nearest(own, k=images, without=number).distances[:, : images - 1]
        spread = (own - own.mean(0)).square().sum(1).mean().sqrt().clamp_min(1e-6)
        found.append(to_others.median(1).values.median() / spread)
    return float(torch.stack(found).median())
