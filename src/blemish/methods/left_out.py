"""The alike patches of a memory's own images when some of these images are left out, without looking for all of them again.

R images, N patches of each, M entries of the memory, k alike patches, c channels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from blemish.methods.appearance import entry_vectors, image_vectors
from blemish.methods.nearest import Entries, Nearest
from blemish.methods.reference_memory import ReferenceMemory

__all__ = ["nearest_without"]

WIDE = 4  # times k are found once; where fewer than k of them stay, the rest of the memory is searched again


def nearest_without(memory: ReferenceMemory, entries: Entries, folds: Sequence[Tensor], *, k: int) -> Iterator[Nearest]:
    """For each fold of images [F] the k alike entries of every image's patches [R, N, k], its own and the fold's left out.

    Args:
        memory: The memory.
        entries: Its entries.
        folds: The numbers of the images that are left out together.
        k: How many entries are alike.
    """
    device = folds[0].device
    vectors = image_vectors(memory.arrays, device)  # [R, N, c]
    rows = entry_vectors(memory.arrays, device, vectors)  # [M, c]
    images = torch.from_numpy(memory.arrays["entries"][:, 0].astype(np.int64)).to(device)  # [M]
    found = [entries.nearest(own, k=WIDE * k, without=image) for image, own in enumerate(vectors)]
    distances, numbers = torch.stack([near.distances for near in found]), torch.stack([near.numbers for near in found])
    for fold in folds:
        gone = torch.isin(images, fold)
        best = distances.masked_fill(gone[numbers], torch.inf).topk(k, dim=2, largest=False)
        near = Nearest(best.values, numbers.gather(2, best.indices))
        lacking = ~torch.isfinite(near.distances[..., -1])  # [R, N]
        if lacking.any():
            kept = (~gone).nonzero()[:, 0]
            _search_again(near, lacking, vectors, Entries(rows[kept], images=images[kept]), kept)
        yield near


def _search_again(near: Nearest, lacking: Tensor, vectors: Tensor, entries: Entries, kept: Tensor) -> None:
    """Fills in the alike entries of the patches that lack some, among the kept entries [m]."""
    for image in lacking.any(1).nonzero()[:, 0].tolist():
        rows = lacking[image]
        found = entries.nearest(vectors[image, rows], k=near.distances.shape[-1], without=image)
        near.distances[image, rows], near.numbers[image, rows] = found.distances, kept[found.numbers]
