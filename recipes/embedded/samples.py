"""Synthetic pictures on disk, rendered once by all cores, in shards that are complete or absent.

Pictures to train on come in pairs: one scene in two states, good or with one of two defects. What differs within a pair is the
state alone, so neither the material nor the light can stand for it.
"""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from blemish.synthesis import NORMAL, RENDERER_VERSION, SyntheticSample, defect_types, render
from recipes.embedded.photos import photos

SIZE_PX = 224
SHARD = 1000
TYPES = (NORMAL, *defect_types())  # the class index of a type, 0 is normal
GOOD_SECOND = 0.35  # share of good pictures beside a defective first one


@dataclass(frozen=True)
class Batch:
    """images uint8 [B, 224, 224, 3], masks bool [B, 224, 224], types int64 [B] into TYPES, materials [B]."""

    images: NDArray[np.uint8]
    masks: NDArray[np.bool_]
    types: NDArray[np.int64]
    materials: tuple[str, ...]


class Samples:
    """Pictures in shards: images memory-mapped, types int64 [N] into TYPES, contrasts [N] (0 for good ones), in 0..1."""

    def __init__(self, shards: Sequence[Path]) -> None:
        self._images = [np.load(shard / "images.npy", mmap_mode="r") for shard in shards]
        self._masks = np.concatenate([np.load(shard / "masks.npy") for shard in shards])  # packed bits
        self._materials = [name for shard in shards for name in json.loads((shard / "materials.json").read_text())]
        self.types: NDArray[np.int64] = np.concatenate([np.load(shard / "types.npy") for shard in shards])
        self.contrasts: NDArray[np.float32] = np.concatenate([np.load(shard / "contrasts.npy") for shard in shards])

    def __len__(self) -> int:
        return len(self.types)

    def batch(self, indices: NDArray[np.integer]) -> Batch:
        shard = len(self._images[0])
        images = np.stack([self._images[i // shard][i % shard] for i in indices])
        masks = np.unpackbits(self._masks[indices], axis=1, count=SIZE_PX * SIZE_PX)
        return Batch(
            images,
            masks.reshape(-1, SIZE_PX, SIZE_PX).astype(bool),
            self.types[indices],
            tuple(self._materials[i] for i in indices),
        )


def render_all(
    folder: Path,
    *,
    count: int,
    first_seed: int,
    workers: int,
    pairs: bool = False,
    photos_in: Path | None = None,
    shard: int = SHARD,
) -> Samples:
    """`count` pictures (a multiple of `shard`) with seeds from `first_seed`, rendered where they are not there yet.

    photos_in: a folder of photos of materials that scenes may be cut from.
    """
    folder = folder.with_name(f"{folder.name}-v{RENDERER_VERSION}")
    folder.mkdir(parents=True, exist_ok=True)
    jobs = list(_jobs(folder, count=count, first_seed=first_seed, pairs=pairs, photos_in=photos_in, shard=shard))
    missing = [job for job in jobs if not job[0].exists()]
    if missing:
        with multiprocessing.get_context("spawn").Pool(workers) as pool:
            for index, made in enumerate(pool.imap_unordered(_render_shard, missing), 1):
                print(f"rendered {made.name} ({index} of {len(missing)})", flush=True)
    return Samples([job[0] for job in jobs])


def training_pictures(cache: Path, *, count: int, workers: int) -> Samples:
    """`count` pictures in pairs, half of their materials cut from the photos in cache/photos/train."""
    photos_in = cache / "photos" / "train"
    return render_all(cache / "train", count=count, first_seed=0, workers=workers, pairs=True, photos_in=photos_in)


Job = tuple[Path, range, bool, Path | None]  # where to, the seeds, whether each is drawn in two states, photos


def _jobs(
    folder: Path, *, count: int, first_seed: int, pairs: bool, photos_in: Path | None, shard: int
) -> Iterator[Job]:
    seeds = shard // 2 if pairs else shard
    for number in range(count // shard):
        first = first_seed + number * seeds
        yield folder / f"{'pairs' if pairs else 'seed'}-{first:09d}", range(first, first + seeds), pairs, photos_in


def _render_shard(job: Job) -> Path:
    shard, seeds, pairs, photos_in = job
    one = partial(render, size_px=SIZE_PX, photos=() if photos_in is None else photos(photos_in))
    samples = [sample for seed in seeds for sample in (_pair(one, seed) if pairs else [one(seed)])]
    unfinished = shard.with_name(f".{shard.name}.{os.getpid()}")
    unfinished.mkdir()
    np.save(unfinished / "images.npy", np.stack([sample.image for sample in samples]))
    np.save(unfinished / "masks.npy", np.packbits(np.stack([sample.mask.ravel() for sample in samples]), axis=1))
    np.save(unfinished / "types.npy", np.array([TYPES.index(sample.defect_type) for sample in samples]))
    np.save(unfinished / "contrasts.npy", np.array([sample.contrast for sample in samples], np.float32))
    (unfinished / "materials.json").write_text(json.dumps([sample.material for sample in samples]))
    unfinished.rename(shard)
    return shard


def _pair(one: Callable[..., SyntheticSample], seed: int) -> tuple[SyntheticSample, SyntheticSample]:
    """A scene as its seed has it, and in another state."""
    first = one(seed)
    rng = np.random.default_rng((seed, 1))
    other = [name for name in TYPES[1:] if name != first.defect_type]
    second = NORMAL if first.defect_type != NORMAL and rng.random() < GOOD_SECOND else str(rng.choice(other))
    return first, one(seed, defect_type=second)
