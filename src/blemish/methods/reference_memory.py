"""What is remembered of the good images of a product, as arrays that a file can hold. Importing it imports no torch.

R images, M entries (patches that new ones are compared with), L levels of the words' features, C channels of an appearance map.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.errors import UsageError

__all__ = ["MEMORY_SCHEMA", "MemoryOptions", "ReferenceMemory", "merge_memories", "reduce_memory", "remove_image"]

MEMORY_SCHEMA = 1
BY_IMAGE = ("log_odds", "image_log_odds", "global")  # and every map: arrays with a row for each image
MAP, LEVEL = "map", "level"  # "map0", "map1", ...: appearance; "level0", ...: the words' features, a row for each entry
# Begins the names of what was counted over the whole memory, and is counted again when that changes.
COUNTED = "counted"


@dataclass(frozen=True, kw_only=True)
class MemoryOptions:
    """How good images are remembered."""

    entries: int = 20_000  # at least 1: the most patches that are kept to compare with, of all images together

    def __post_init__(self) -> None:
        if self.entries < 1:
            raise UsageError(f"a memory holds at least one patch, not {self.entries}")


@dataclass(frozen=True, eq=False)
class ReferenceMemory:
    """Good images of one product as an engine remembers them; made by `Engine.remember`, used by `Engine.with_memory`.

    Every array and every fact is plain, so that a file can hold them; their names are the method's affair.
    """

    # Among them: entries [M, 2], the image and the patch of each; map0 [R, C, h, w]; log_odds [R, h, w].
    arrays: Mapping[str, NDArray[Any]]
    facts: Mapping[str, Any]  # "schema", "method", "model" (16 hex digits), "options", "digests" (of the R images), ...

    def __post_init__(self) -> None:
        object.__setattr__(self, "arrays", MappingProxyType(dict(self.arrays)))
        object.__setattr__(self, "facts", MappingProxyType(dict(self.facts)))

    @property
    def images(self) -> int:
        """The number of images, R."""
        return len(self.digests)

    @property
    def digests(self) -> tuple[str, ...]:
        """The SHA-256 of each image's pixels as the engine got them, 16 hex digits each, in order."""
        return tuple(self.facts["digests"])

    @property
    def entries(self) -> int:
        """The number of patches that new ones are compared with, M."""
        return len(self.arrays["entries"])

    @property
    def identity(self) -> str:
        """Number and digest of the images and of what is kept of them."""
        decisive = hashlib.sha256(" ".join(self.digests).encode())
        decisive.update(np.ascontiguousarray(self.arrays["entries"]).tobytes())
        return f"{self.images} images ({decisive.hexdigest()[:16]})"


def remove_image(memory: ReferenceMemory, digest: str) -> ReferenceMemory:
    """The memory without the image of this digest.

    Raises:
        UsageError: No image has it, or it is the only one.
    """
    if digest not in memory.digests:
        raise UsageError(f"no image of the memory has the digest {digest}")
    if memory.images == 1:
        raise UsageError("a memory holds at least one image; this is its only one")
    return _with_images(memory, np.array([own != digest for own in memory.digests]))


def merge_memories(first: ReferenceMemory, second: ReferenceMemory) -> ReferenceMemory:
    """Both memories as one, its entries reduced to the limit of the first; an image that both hold counts once.

    Raises:
        UsageError: They are of another model, or of images of other sizes.
    """
    for fact in ("schema", "method", "model", "input_px"):
        if first.facts[fact] != second.facts[fact]:
            raise UsageError(
                f"memories of one {fact.replace('_', ' ')} can be merged, not of {first.facts[fact]} and "
                f"{second.facts[fact]}"
            )
    new = np.array([digest not in first.digests for digest in second.digests])
    if not new.any():
        return first
    second = _with_images(second, new)
    arrays = {
        name: np.concatenate([array, second.arrays[name]]) if _is_by_image(name) or name.startswith(LEVEL) else array
        for name, array in first.arrays.items()
        if not name.startswith(COUNTED)
    }
    moved = second.arrays["entries"] + np.array([first.images, 0], np.int32)
    arrays["entries"] = np.concatenate([first.arrays["entries"], moved])
    both = replace(first, arrays=arrays, facts={**first.facts, "digests": [*first.digests, *second.digests]})
    return reduce_memory(both, first.facts["options"]["entries"])


def reduce_memory(memory: ReferenceMemory, entries: int) -> ReferenceMemory:
    """The memory with so many entries at most, those that leave the others nearest to them.

    Raises:
        UsageError: Fewer than one is asked for.
    """
    if entries < 1:
        raise UsageError(f"a memory holds at least one patch, not {entries}")
    if memory.entries <= entries:
        return memory
    import torch

    from blemish.methods.appearance import entry_vectors
    from blemish.methods.coreset import choose_covering

    chosen = choose_covering(entry_vectors(memory.arrays, torch.device("cpu")), entries)
    return _with_entries(memory, np.sort(chosen.numpy()))


def _with_images(memory: ReferenceMemory, kept: NDArray[np.bool_]) -> ReferenceMemory:
    numbers = memory.arrays["entries"][:, 0]
    memory = _with_entries(memory, np.flatnonzero(kept[numbers]))
    arrays = {name: array[kept] if _is_by_image(name) else array for name, array in memory.arrays.items()}
    renumbered = np.cumsum(kept, dtype=np.int32) - 1
    entries = memory.arrays["entries"].copy()
    entries[:, 0] = renumbered[entries[:, 0]]
    digests = [digest for digest, keep in zip(memory.digests, kept, strict=True) if keep]
    return replace(memory, arrays={**arrays, "entries": entries}, facts={**memory.facts, "digests": digests})


def _with_entries(memory: ReferenceMemory, kept: NDArray[np.intp]) -> ReferenceMemory:
    arrays = {
        name: array[kept] if name == "entries" or name.startswith(LEVEL) else array
        for name, array in memory.arrays.items()
        if not name.startswith(COUNTED)
    }
    return replace(memory, arrays=arrays)


def _is_by_image(name: str) -> bool:
    return name in BY_IMAGE or name.startswith(MAP)
