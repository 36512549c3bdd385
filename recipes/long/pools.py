"""What a training draws its views from, in the memory of the device: pairs as they are produced, and annotated real images.

P places of a pool, S side of its square pictures. Pictures lie as uint8 [P, 3, S, S], masks as uint8 0 or 255.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from blemish.errors import UsageError
from recipes.long.bundle import Bundle, Entry
from recipes.long.producing import POINTS, points_on, read_shard
from recipes.real.pairs import SIZE_PX

UNKNOWN_TYPE = -1
AHEAD = 6  # shards that are read while a step runs

Shard = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
ANNOTATED_PX = 640


class PairPool:
    """The pairs of one kind that were produced so far; the newest replace the oldest when it is full."""

    def __init__(self, kind: str, folder: Path, *, places: int, device: torch.device) -> None:
        self._kind, self._folder, self._device = kind, folder, device
        self._places, self._next, self.filled = places, 0, 0
        self._ahead: deque[tuple[Path, Future[Shard]]] = deque()
        self._reader = ThreadPoolExecutor(1)  # unpacking would hold the device up
        self.images = torch.zeros(places, 2, 3, SIZE_PX, SIZE_PX, dtype=torch.uint8, device=device)
        self.masks = torch.zeros(places, SIZE_PX, SIZE_PX, dtype=torch.uint8, device=device)
        self.types = torch.zeros(places, dtype=torch.int64, device=device)
        self.points = torch.zeros(places, POINTS, 2, device=device)

    def refill(self, most: int, *, wait: bool = False) -> int:
        """Takes at most so many shards that were read and lets others be read; how many it took. wait: until they are read."""
        waiting = {path for path, _ in self._ahead}
        new = (path for path in sorted(self._folder.glob(f"{self._kind}-*.npy")) if path not in waiting)
        for path in islice(new, max(AHEAD, most) - len(self._ahead)):
            self._ahead.append((path, self._reader.submit(_read, path)))
        taken = 0
        while taken < most and self._ahead and (wait or self._ahead[0][1].done()):
            self._take(self._ahead.popleft()[1].result())
            taken += 1
        return taken

    def _take(self, shard: Shard) -> None:
        images, masks, types, points = shard
        rows = (self._next + np.arange(len(types))) % self._places
        self._next = int(rows[-1] + 1) % self._places
        at = torch.from_numpy(rows).to(self._device)
        self.images[at] = torch.from_numpy(images).to(self._device).permute(0, 1, 4, 2, 3)
        self.masks[at] = torch.from_numpy(masks).to(self._device)
        self.types[at] = torch.from_numpy(types).to(self._device)
        self.points[at] = torch.from_numpy(points).to(self._device)
        self.filled = min(self._places, self.filled + len(rows))


def _read(path: Path) -> Shard:
    """A shard, its masks unpacked to 0 or 255; the file is gone then."""
    images, masks, types, points = read_shard(path)
    path.unlink()
    unpacked = np.unpackbits(masks, axis=1, count=SIZE_PX * SIZE_PX).reshape(-1, SIZE_PX, SIZE_PX) * 255
    return images, unpacked, types, points


class AnnotatedPool:
    """The good and the defective images of one annotated source."""

    def __init__(self, bundle: Bundle, source: str, *, device: torch.device) -> None:
        entries = [entry for entry in bundle.entries if entry.source == source and entry.role in ("good", "bad")]
        self.good = [number for number, entry in enumerate(entries) if entry.role == "good"]
        self.bad = [number for number, entry in enumerate(entries) if entry.role == "bad"]
        if not (self.good and self.bad):
            raise UsageError(f"the bundle has no good or no defective images of {source}")
        rng = np.random.default_rng(0)
        loaded = [_square(bundle, entry) for entry in entries]
        self.images = (
            torch.from_numpy(np.stack([image for image, _ in loaded])).to(device).permute(0, 3, 1, 2).contiguous()
        )
        self.masks = torch.from_numpy(np.stack([mask for _, mask in loaded])).to(device)
        self.points = torch.from_numpy(np.stack([points_on(mask > 127, rng) for _, mask in loaded])).to(device)


def _square(bundle: Bundle, entry: Entry) -> tuple[np.ndarray, np.ndarray]:
    """An image and its mask at ANNOTATED_PX, the aspect not kept, as the preprocessing does it."""
    size = ANNOTATED_PX, ANNOTATED_PX
    image = Image.fromarray(bundle.image(entry)).resize(size, Image.Resampling.BICUBIC)
    if entry.mask is None:
        return np.asarray(image), np.zeros(size, np.uint8)
    mask = Image.fromarray(bundle.mask(entry).astype(np.uint8) * 255).resize(size, Image.Resampling.BILINEAR)
    return np.asarray(image), np.asarray(mask)


def annotated_sources(bundle: Bundle) -> list[str]:
    """The annotated sources of a bundle of which good and defective images are there."""
    have = {(entry.source, entry.role) for entry in bundle.entries}
    return sorted(source for source, role in have if role == "bad" and (source, "good") in have)


def rows_of(numbers: list[int], count: int, rng: np.random.Generator) -> Tensor:
    """So many of these, drawn with replacement."""
    return torch.from_numpy(np.asarray(numbers)[rng.integers(len(numbers), size=count)])
