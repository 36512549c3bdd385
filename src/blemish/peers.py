"""The images of one product that every image is compared with: found, drawn by lot where they are many, read once.

What is done with them is `methods.mutual`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from blemish.errors import ImageError, UsageError
from blemish.images import ImageInput, RangeGiven, ValueRanges, find_images
from blemish.intake import Intake
from blemish.methods.mutual import LEAST_PEERS, MutualScoring

__all__ = ["MOST_PEERS", "Peers", "find_peers", "take_peers"]

Peers: TypeAlias = (
    str | Path | Sequence[ImageInput]
)  # a file, a folder (recursive), a pattern; or the images themselves

MOST_PEERS = 64  # of more, so many are drawn by lot: every image is compared with all of them
SEED = 0


def find_peers(peers: Peers) -> list[ImageInput]:
    """The images meant, `MOST_PEERS` of them at most, drawn by the same lot every time.

    UsageError for fewer than `LEAST_PEERS`.
    """
    images: list[ImageInput] = (
        [found.path for found in find_images(peers)] if isinstance(peers, str | Path) else list(peers)
    )
    if len(images) < LEAST_PEERS:
        raise UsageError(f"--peers takes at least {LEAST_PEERS} images of the same product, not {len(images)}")
    if len(images) > MOST_PEERS:
        chosen = np.sort(np.random.default_rng(SEED).permutation(len(images))[:MOST_PEERS])
        images = [images[index] for index in chosen]
    return images


def take_peers(
    method: MutualScoring,
    images: Sequence[ImageInput],
    *,
    value_range: RangeGiven | None,
    max_megapixels: float,
    batch_size: int,
) -> RangeGiven | None:
    """Gives the method its peers, on the device where its weights are, and says on which value range images are to be read with
    them: that of the peers where those have more than 8 bits and share one, else `value_range`.

    Images that cannot be read are left out; UsageError where too few can be.
    """
    ranges: set[tuple[float, float] | None] = set()
    errors: list[ImageError] = []

    def tensors() -> Iterator[Tensor]:
        workers = min(8, os.cpu_count() or 1)
        with ThreadPoolExecutor(workers, thread_name_prefix="blemish") as pool:
            intake = Intake(
                preprocess=method.backbone.config.preprocess,
                ranges=ValueRanges(value_range),
                pool=pool,
                workers=workers,
                batch_size=batch_size,
                max_megapixels=max_megapixels,
            )
            for batch in intake.batches(images):
                errors.extend(one for one in batch if isinstance(one, ImageError))
                ready = [one for one in batch if not isinstance(one, ImageError)]
                ranges.update(one.picture.value_range for one in ready)
                if ready:
                    yield torch.stack([one.tensor for one in ready]).to(method.backbone.logit_scale.device)

    try:
        method.take_peers(tensors())
    except UsageError as error:
        raise UsageError(f"--peers: {error}{f' ({errors[0]})' if errors else ''}") from error
    deep = ranges - {None}
    return deep.pop() if value_range is None and len(deep) == 1 else value_range
