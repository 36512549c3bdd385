"""Draws pairs, good and defective, in as many processes as there are cores, into a folder that a training reads at the same time.

A shard is a file of SHARD pairs; it has its name when it is whole. Each process draws from seeds of its own.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

from blemish.synthesis.fields import Random
from recipes.long.bundle import Bundle, Entry
from recipes.real.pairs import LARGE, RENDER_SEEDS, SMALL, TYPES, Pair, material_pair, photo_pair, render_pair
from recipes.real_images import Record

SHARD = 16
POINTS = 8  # places on a defect that a view may be laid around
RENDER_SHARE, MATERIAL_SHARE = 0.45, 0.25
# of the pairs. With few large ones what learned from them found large defects worse than before (docs/model-judge.md)
SMALL_SHARE, LARGE_SHARE = 0.2, 0.4


class Drawer:
    """Draws pairs of each kind from a bundle."""

    def __init__(self, bundle: Bundle, seed: int) -> None:
        self._bundle = bundle
        self._rng = np.random.default_rng((seed, 31))
        self._render_seed = RENDER_SEEDS + 1_000_000 + seed * 100_000
        self._things: dict[str, list[Entry]] = {}
        self._materials = [entry for entry in bundle.entries if entry.role == "material"]
        for entry in bundle.entries:
            if entry.role == "photo":
                self._things.setdefault(f"{entry.source}/{entry.kind}", []).append(entry)
        self._names = sorted(self._things)
        # a kind of many photos is drawn more often than one of few, but not in proportion
        counts = np.sqrt([len(self._things[name]) for name in self._names])
        self._shares = counts / counts.sum()

    def photo(self) -> Pair | None:
        """A pair of a photo of a thing or of a material."""
        large = bool(self._rng.random() < LARGE_SHARE)
        if self._materials and self._rng.random() < MATERIAL_SHARE:
            entry = self._materials[int(self._rng.integers(len(self._materials)))]
            return material_pair(self._bundle.image(entry), entry.kind, self._rng, large=large)
        own = self._things[str(self._rng.choice(self._names, p=self._shares))]
        entry = own[int(self._rng.integers(len(own)))]
        record = Record(entry.name, entry.source, entry.kind, "photo", "", "", "", entry.box)
        return photo_pair(self._bundle.image(entry), record, self._rng, large=large)

    def render(self) -> Pair | None:
        """A pair of a rendered scene."""
        self._render_seed += 1
        draw = self._rng.random()
        size = SMALL if draw < SMALL_SHARE else LARGE if draw > 1 - LARGE_SHARE else None
        return render_pair(self._render_seed, size=size)


def points_on(mask: np.ndarray, rng: Random) -> np.ndarray:
    """POINTS places [POINTS, 2] on a mask [h, w], as (x, y) in 0..1; the middle where it is empty."""
    marked = np.argwhere(mask)
    if not len(marked):
        return np.full((POINTS, 2), 0.5, np.float32)
    chosen = marked[rng.integers(len(marked), size=POINTS)]
    return ((chosen[:, ::-1] + 0.5) / np.array(mask.shape[::-1])).astype(np.float32)


def write_shard(pairs: list[Pair], path: Path, rng: Random) -> None:
    """Writes one file under a temporary name, and renames it."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    with unfinished.open("wb") as file:
        np.save(file, np.stack([np.stack([pair.good, pair.bad]) for pair in pairs]))
        np.save(file, np.packbits(np.stack([pair.mask.ravel() for pair in pairs]), axis=1))
        np.save(file, np.array([TYPES.index(pair.defect_type) for pair in pairs], np.int64))
        np.save(file, np.stack([points_on(pair.mask, rng) for pair in pairs]))
    unfinished.rename(path)


def read_shard(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Images [n, 2, S, S, 3], packed masks [n, S * S / 8], types [n] and points [n, POINTS, 2] of a shard."""
    with path.open("rb") as file:
        return np.load(file), np.load(file), np.load(file), np.load(file)


def produce(folder: Path, bundle: Path, seed: int, *, most: int, seconds: float) -> None:
    """Draws until the time is over; waits while the folder holds `most` shards that nobody has read."""
    os.environ["OMP_NUM_THREADS"] = "1"
    drawer, rng = Drawer(Bundle(bundle), seed), np.random.default_rng((seed, 32))
    ends, number = time.monotonic() + seconds, 0
    while time.monotonic() < ends:
        if sum(1 for _ in folder.glob("[pr]*.npy")) >= most:
            time.sleep(0.2)
            continue
        kind = "renders" if rng.random() < RENDER_SHARE else "photos"
        draw = drawer.render if kind == "renders" else drawer.photo
        pairs: list[Pair] = []
        while len(pairs) < SHARD and time.monotonic() < ends:
            pair = draw()
            if pair is not None:
                pairs.append(pair)
        if len(pairs) == SHARD:
            write_shard(pairs, folder / f"{kind}-{seed:03d}-{number:05d}.npy", rng)
            number += 1


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m recipes.long.producing", description=__doc__)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--most", type=int, default=600, help=f"shards of {SHARD} pairs that may wait")
    parser.add_argument("--seconds", type=float, default=420)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("spawn")
    workers = [
        context.Process(
            target=produce,
            args=(arguments.out, arguments.bundle, arguments.seed * 1000 + number),
            kwargs={"most": arguments.most, "seconds": arguments.seconds},
            daemon=True,
        )
        for number in range(arguments.processes)
    ]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # so that the workers end with this process
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


if __name__ == "__main__":
    main()
