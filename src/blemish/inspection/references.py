"""The images of one product that every image is compared with: found, drawn by lot where they are many, read once.

What is done with them is `methods.mutual`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from blemish.errors import ImageError, UsageError
from blemish.images import ImageInput, RangeGiven, ValueRanges, find_images
from blemish.inspection.loader import Intake
from blemish.methods.base import Method
from blemish.methods.mutual import LEAST_REFERENCES, MutualScoring

__all__ = ["MOST_PEERS", "Peers", "among", "find_peers"]

# a file, a folder (recursive) or a pattern; or the images themselves
Peers: TypeAlias = str | Path | list[ImageInput] | tuple[ImageInput, ...]

MOST_PEERS = 64  # of more, so many are drawn by lot: every image is compared with all of them
SEED = 0


def find_peers(peers: Peers) -> list[ImageInput]:
    """The images meant, `MOST_PEERS` of them at most, drawn by the same lot every time.

    UsageError for fewer than `LEAST_REFERENCES`, and for one image where several are needed.
    """
    images: list[ImageInput]
    if isinstance(peers, str | Path):
        images = [found.path for found in find_images(peers)]
    elif isinstance(peers, list | tuple):
        images = list(peers)
    else:
        raise UsageError(f"peers are a folder, a pattern or a list of images, not {type(peers).__name__}")
    if len(images) < LEAST_REFERENCES:
        raise UsageError(f"peers are at least {LEAST_REFERENCES} images of the same product, not {len(images)}")
    if len(images) > MOST_PEERS:
        chosen = np.sort(np.random.default_rng(SEED).permutation(len(images))[:MOST_PEERS])
        images = [images[index] for index in chosen]
    return images


def among(
    inner: Method,
    peers: Peers,
    *,
    value_range: RangeGiven | None,
    max_megapixels: float,
    batch_size: int,
) -> tuple[MutualScoring, RangeGiven | None]:
    """A method among these peers, where its weights are, and the value range that images are to be read on with them: that of the
    peers where those have more than 8 bits.

    Images that cannot be read are left out; UsageError where too few can be, or where they were read on several ranges.
    """
    images = find_peers(peers)
    ranges: set[tuple[float, float]] = set()
    errors: list[ImageError] = []
    device = inner.backbone.logit_scale.device

    def tensors() -> Iterator[Tensor]:
        workers = min(8, os.cpu_count() or 1)
        with ThreadPoolExecutor(workers, thread_name_prefix="blemish") as pool:
            intake = Intake(
                preprocess=inner.backbone.config.preprocess,
                ranges=ValueRanges(value_range),
                pool=pool,
                workers=workers,
                batch_size=batch_size,
                max_megapixels=max_megapixels,
            )
            for batch in intake.batches(images):
                errors.extend(one for one in batch if isinstance(one, ImageError))
                ready = [one for one in batch if not isinstance(one, ImageError)]
                ranges.update(one.picture.value_range for one in ready if one.picture.value_range is not None)
                if ready:
                    yield torch.stack([one.tensor for one in ready]).to(device)

    try:
        method = MutualScoring(inner, tensors())
    except UsageError as error:
        raise UsageError(f"peers: {error}{f' ({errors[0]})' if errors else ''}") from error
    if len(ranges) > 1:
        shown = ", ".join(f"{low:g}:{high:g}" for low, high in sorted(ranges))
        raise UsageError(f"the peers have several value ranges ({shown}): give one for all images (--range)")
    return method, ranges.pop() if ranges else value_range
