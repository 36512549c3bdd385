"""Images as a `ReferencedScoring` remembers them: looked at once, their patches chosen, each image compared with the others.

R images, M entries, N patches of a grid h x w, L levels of the words' features, k alike patches.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blemish.errors import UsageError
from blemish.io.codec import to_dict
from blemish.methods.appearance import Projection, entry_vectors, image_vectors, on_grid
from blemish.methods.base import Method
from blemish.methods.coreset import choose_covering
from blemish.methods.nearest import Entries, Nearest
from blemish.methods.reference_memory import MEMORY_SCHEMA, MemoryOptions, ReferenceMemory, merge_memories

__all__ = [
    "ALIKE",
    "Look",
    "add_images",
    "assembled",
    "check_reference_memory",
    "compare_images",
    "digest_of",
    "log_odds",
    "looked_at",
    "remember_images",
]

ALIKE = 5  # good patches that a patch is compared with
SURE = 1e-6  # as near as a probability comes to 0 or 1 before it becomes log odds
AROUND = 3  # patches around a patch that are not alike ones: where one image stands for all


def remember_images(
    inner: Method,
    batches: Iterable[Tensor],
    options: MemoryOptions | None = None,
    *,
    every_patch: bool = False,
    least: int = 1,
) -> ReferenceMemory:
    """The memory of images of a product.

    Args:
        inner: The method whose words are read beside it.
        batches: Normalised images [b, 3, S, S], as `Method.encode` takes them. Copies of one image count once.
        options: How they are remembered.
        every_patch: Every patch is an entry: what unlabelled images are compared by.
        least: Images, copies not counted.

    Raises:
        UsageError: There are fewer images, or they are of another size.
    """
    options = options or MemoryOptions()
    seen = looked_at(inner, batches, known=())
    if len(seen) < least:
        what = "at least one image of the product" if least == 1 else f"at least {least} of their like"
        raise UsageError(f"images are compared with {what}, not with {len(seen)}")
    memory = assembled(inner, seen, options, every_patch=every_patch)
    return memory if every_patch else compare_images(memory, device=_device(inner))


def add_images(inner: Method, memory: ReferenceMemory, batches: Iterable[Tensor]) -> ReferenceMemory:
    """The memory with more images; those that it holds already count once.

    Raises:
        UsageError: The memory is of another model, or the images are of another size.
    """
    check_reference_memory(memory, inner)
    seen = looked_at(inner, batches, known=memory.digests)
    if not seen:
        return memory
    options = MemoryOptions(**memory.facts["options"])
    projection = Projection.in_arrays(memory.arrays, torch.device("cpu"))
    grown = merge_memories(memory, assembled(inner, seen, options, projection=projection))
    return compare_images(grown, device=_device(inner))


def check_reference_memory(memory: ReferenceMemory, inner: Method) -> None:
    """UsageError where the memory is not of this method."""
    facts, size = memory.facts, inner.backbone.config.preprocess.size
    if facts["schema"] != MEMORY_SCHEMA:
        raise UsageError(
            f"the memory has the schema {facts['schema']}, this version reads {MEMORY_SCHEMA}: learn it anew"
        )
    if facts["input_px"] != size:
        raise UsageError(f"the memory is of images of {facts['input_px']} px, not of {size} px")
    if facts["model"] != inner.fingerprint():
        raise UsageError(
            f"the memory is of the model {facts['method']} {facts['model']}, not of {inner.name} {inner.fingerprint()}"
        )


def compare_images(memory: ReferenceMemory, *, device: torch.device) -> ReferenceMemory:
    """The memory with the alike entries of each of its images' patches in the other images, found where they are missing.

    Where there is one image, they are those of the image itself, not the patches around.
    """
    arrays = memory.arrays
    if "counted_distances" in arrays:
        return memory
    vectors, grid = image_vectors(arrays, device), arrays["log_odds"].shape[1:]
    rows = entry_vectors(arrays, device, vectors)
    if len(vectors) == 1:
        found = [_within(vectors[0], rows, arrays["entries"], grid)]
    else:
        entries = Entries(rows, images=torch.from_numpy(arrays["entries"][:, 0].astype(np.int64)).to(device))
        found = [entries.nearest(own, k=ALIKE, without=number) for number, own in enumerate(vectors)]
    more = {
        "counted_distances": torch.stack([near.distances for near in found]).cpu().numpy().astype(np.float32),
        "counted_numbers": torch.stack([near.numbers for near in found]).cpu().numpy().astype(np.int32),
    }
    return replace(memory, arrays={**arrays, **more})


def log_odds(probability: Tensor) -> Tensor:
    """The log odds of probabilities, finite."""
    return probability.clamp(SURE, 1 - SURE).logit()


def digest_of(image: Tensor) -> str:
    """16 hex digits of an image's pixels."""
    return hashlib.sha256(image.contiguous().cpu().numpy().tobytes()).hexdigest()[:16]


class Look(NamedTuple):
    """An image as it is remembered."""

    digest: str
    maps: tuple[Tensor, ...]  # [C, h, w] each, what is compared
    levels: tuple[Tensor, ...]  # [N, D] each, the words' features
    whole: Tensor  # [G], likewise of the image
    word_grid: tuple[int, int]
    log_odds: Tensor  # [h, w], on the finest grid of the maps
    image_log_odds: float


@torch.inference_mode()
def looked_at(inner: Method, batches: Iterable[Tensor], *, known: Sequence[str]) -> list[Look]:
    texts, size, seen = inner.encode_texts(), inner.backbone.config.preprocess.size, set(known)
    found: list[Look] = []
    for batch in batches:
        if tuple(batch.shape[1:]) != (3, size, size):
            raise UsageError(f"references are images [b, 3, {size}, {size}], not {list(batch.shape)}")
        digests = [digest_of(image) for image in batch]
        new = [row for row, digest in enumerate(digests) if digest not in seen and digest not in digests[:row]]
        if not new:
            continue
        seen.update(digests)
        features = inner.encode(batch[new], compare=True)
        scores = inner.score(features, texts)
        grid = max((level.shape[-2:] for level in features.reference_maps), key=math.prod)
        words = log_odds(on_grid(scores.anomaly_map, grid))
        for row, at in enumerate(new):
            found.append(
                Look(
                    digests[at],
                    tuple(level[row].cpu() for level in features.reference_maps),
                    tuple(level[row].cpu() for level in features.levels),
                    features.global_feature[row].cpu(),
                    features.grid,
                    words[row].cpu(),
                    float(log_odds(scores.image_score[row])),
                )
            )
    return found


def assembled(
    inner: Method,
    seen: Sequence[Look],
    options: MemoryOptions,
    *,
    projection: Projection | None = None,
    every_patch: bool = False,
) -> ReferenceMemory:
    """The memory of images that were looked at, its entries chosen."""
    maps = {
        f"map{number}": torch.stack([look.maps[number] for look in seen]).half() for number in range(len(seen[0].maps))
    }
    projection = projection or Projection.of([level[:64].float() for level in maps.values()])
    arrays = {
        **{name: level.numpy() for name, level in maps.items()},
        **projection.arrays(),
        "log_odds": torch.stack([look.log_odds for look in seen]).float().numpy(),
        "image_log_odds": np.array([look.image_log_odds for look in seen], np.float32),
        "global": torch.stack([look.whole for look in seen]).float().numpy(),
    }
    vectors = image_vectors(arrays, torch.device("cpu"))  # [R, N, c]
    total, patches = vectors.shape[0] * vectors.shape[1], vectors.shape[1]
    everything = every_patch or total <= options.entries
    chosen = (
        torch.arange(total) if everything else choose_covering(vectors.flatten(0, 1), options.entries).sort().values
    )
    entries = torch.stack([chosen // patches, chosen % patches], 1)
    arrays |= {"entries": entries.numpy().astype(np.int32), **_level_arrays(seen, entries)}
    facts = {
        "schema": MEMORY_SCHEMA,
        "method": inner.name,
        "model": inner.fingerprint(),
        "input_px": inner.backbone.config.preprocess.size,
        "options": to_dict(options),
        "levels": len(seen[0].levels),
        "word_grid": list(seen[0].word_grid),
        "digests": [look.digest for look in seen],
    }
    return ReferenceMemory(arrays, facts)


def _level_arrays(seen: Sequence[Look], entries: Tensor) -> dict[str, NDArray[Any]]:
    """The words' features at the entries, from the patch of their own grid that lies there."""
    (height, width), (rows, columns) = seen[0].log_odds.shape, seen[0].word_grid
    y, x = entries[:, 1] // width, entries[:, 1] % width
    patch = (y * rows // height) * columns + x * columns // width
    found = {}
    for number in range(len(seen[0].levels)):
        parts = [look.levels[number][patch[entries[:, 0] == image]] for image, look in enumerate(seen)]
        found[f"level{number}"] = torch.cat(parts).half().numpy()
    return found


def _within(vectors: Tensor, rows: Tensor, entries: NDArray[Any], grid: Sequence[int]) -> Nearest:
    """The alike entries of the patches [N, c] of an image among its own entries, not those around."""
    place = torch.arange(len(vectors), device=vectors.device)[:, None]
    other = torch.from_numpy(entries[:, 1].astype(np.int64)).to(vectors.device)
    apart = torch.maximum((place // grid[1] - other // grid[1]).abs(), (place % grid[1] - other % grid[1]).abs())
    distances = torch.cdist(vectors, rows).masked_fill(apart <= AROUND, torch.inf)
    found = distances.topk(min(ALIKE, distances.shape[1]), dim=1, largest=False)
    return Nearest(found.values, found.indices)


def _device(method: Method) -> torch.device:
    return method.backbone.logit_scale.device
