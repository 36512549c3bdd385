"""Synthetic pictures on disk, rendered once by all cores, in shards that are complete or absent."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from blemish.data.synthetic import DEFECTS, NORMAL, RENDERER_VERSION, render

SIZE_PX = 224
SHARD = 1000
TYPES = (NORMAL, *DEFECTS)  # the class index of a type, 0 is normal


class Samples:
    """images uint8 [N, 224, 224, 3] (memory-mapped shards), masks bool [N, 224, 224], types int64 [N] into TYPES."""

    def __init__(self, shards: Sequence[Path]) -> None:
        self._images = [np.load(shard / "images.npy", mmap_mode="r") for shard in shards]
        self._masks = np.concatenate([np.load(shard / "masks.npy") for shard in shards])  # packed bits
        self.types: NDArray[np.int64] = np.concatenate([np.load(shard / "types.npy") for shard in shards])

    def __len__(self) -> int:
        return len(self.types)

    def batch(self, indices: NDArray[np.integer]) -> tuple[NDArray[np.uint8], NDArray[np.bool_], NDArray[np.int64]]:
        images = np.stack([self._images[i // SHARD][i % SHARD] for i in indices])
        packed = self._masks[indices]
        masks = np.unpackbits(packed, axis=1, count=SIZE_PX * SIZE_PX).reshape(-1, SIZE_PX, SIZE_PX).astype(bool)
        return images, masks, self.types[indices]


def render_all(folder: Path, *, count: int, first_seed: int, workers: int) -> Samples:
    """`count` samples (a multiple of 1,000) with seeds from `first_seed`, rendered where they are not there yet."""
    folder = folder.with_name(f"{folder.name}-v{RENDERER_VERSION}")
    folder.mkdir(parents=True, exist_ok=True)
    jobs = list(_jobs(folder, count=count, first_seed=first_seed))
    missing = [job for job in jobs if not job[0].exists()]
    if missing:
        with multiprocessing.get_context("spawn").Pool(workers) as pool:
            for index, shard in enumerate(pool.imap_unordered(_render_shard, missing), 1):
                print(f"rendered {shard.name} ({index} of {len(missing)})", flush=True)
    return Samples([job[0] for job in jobs])


def _jobs(folder: Path, *, count: int, first_seed: int) -> Iterator[tuple[Path, int]]:
    for start in range(0, count, SHARD):
        yield folder / f"seed-{first_seed + start:09d}", first_seed + start


def _render_shard(job: tuple[Path, int]) -> Path:
    shard, first = job
    samples = [render(seed, size_px=SIZE_PX) for seed in range(first, first + SHARD)]
    partial = shard.with_name(f".{shard.name}.{os.getpid()}")
    partial.mkdir()
    np.save(partial / "images.npy", np.stack([sample.image for sample in samples]))
    np.save(partial / "masks.npy", np.packbits(np.stack([sample.mask.ravel() for sample in samples]), axis=1))
    np.save(partial / "types.npy", np.array([TYPES.index(sample.defect_type) for sample in samples]))
    partial.rename(shard)
    return shard
