"""Two simple things that a user could do offline without this package's training, on ImageNet features and without words.

Both look at the frozen EfficientNet-Lite0 that the embedded backbone carries, at its input size: the feature maps of strides 8
and 16, each averaged over 3 x 3 places, the coarser enlarged, both concatenated; one vector a place of 8 x 8 pixels. Nothing is
trained. A place's score is a distance, and the image's score is that of its most distant place.

- `NearestNeighbours`, after PatchCore (Roth et al. 2022): the distance to the nearest place of a memory of good images. It has
  seen good images of the same product, so it is **not zero-shot**. Which: the normal images of the very row, dealt into `FOLDS`
  parts by lot; a normal image is scored by the memory of the other parts, never by one that holds itself; an anomalous image by
  a memory of all parts, thinned out to the same size. Where a set photographed one part several times, its photos may lie in
  several folds. The memory is a random sample of places with a fixed seed, the same number of each image, `MEMORY` at most.
- `SelfSimilarity`: the mean distance to the `NEIGHBOURS` nearest places of the same image that lie more than `NEAR` places away.
  It needs no good image.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.real_sets import Comparison, Finding, Item
from blemish.backbones.preprocess import to_array
from blemish.errors import ModelError
from blemish.images import read
from blemish.models import load_backbone

__all__ = ["Looker", "NearestNeighbours", "SelfSimilarity", "Trunk", "alternatives", "deal", "nearest", "unlike_itself"]

LEVELS = (1, 2)  # of the trunk's maps: strides 8 and 16
MEMORY = 10_000  # places
FOLDS = 5
NEIGHBOURS = 5
NEAR = 3  # places in x or y that count as the place's own neighbourhood
SEED = 0
KEPT_IMAGES = 1600  # the largest set; 106 kB each


class Looker(Protocol):
    """Something that can be measured: `remark` stands under the table, `score_range` is what the maps promise to lie in."""

    name: str
    remark: str

    @property
    def score_range(self) -> tuple[float, float] | None: ...

    def identity(self) -> str:
        """What its scores depend on, besides the images: with another one they are measured again."""
        ...

    def absent(self, comparison: Comparison) -> str:
        """Why this row cannot be measured, "" where it can."""
        ...

    def look(self, comparison: Comparison) -> Sequence[Finding]:
        """What it says of each image, in order."""
        ...


class Places(NamedTuple):
    """An image as vectors [N, C] on a grid (rows, columns), and its width and height in pixels."""

    vectors: Tensor
    grid: tuple[int, int]
    size_px: tuple[int, int]


class Trunk:
    """The frozen features; those of the last images are kept, as both alternatives and several rows ask for them."""

    def __init__(self, backbone: str = "embedded") -> None:
        clip = load_backbone(backbone)
        if clip.image.trunk is None:
            raise ModelError(f"the backbone {backbone} carries no EfficientNet-Lite0")
        self.network = clip.image.trunk.eval()
        self.preprocess = clip.config.preprocess
        self._kept = lru_cache(maxsize=KEPT_IMAGES)(self._levels)

    def places(self, path: Path) -> Places:
        levels, size_px = self._kept(path)
        vectors, grid = joined([level.float() for level in levels])
        return Places(vectors, grid, size_px)

    @torch.inference_mode()
    def _levels(self, path: Path) -> tuple[tuple[Tensor, ...], tuple[int, int]]:
        picture = read(path)
        maps = self.network(torch.from_numpy(to_array(picture, self.preprocess))[None])
        return tuple(maps[level].half() for level in LEVELS), (picture.width_px, picture.height_px)


def joined(levels: Sequence[Tensor]) -> tuple[Tensor, tuple[int, int]]:
    """Maps [1, C, h, w] of several strides, the finest first, as vectors [N, sum of C] on the finest grid."""
    rows, columns = levels[0].shape[-2:]
    averaged = [F.avg_pool2d(level, 3, stride=1, padding=1, count_include_pad=False) for level in levels]
    alike = [F.interpolate(level, (rows, columns), mode="bilinear", align_corners=False) for level in averaged]
    return torch.cat(alike, dim=1)[0].flatten(1).T.contiguous(), (rows, columns)


def nearest(vectors: Tensor, memory: Tensor) -> Tensor:
    """The distance [N] of each vector [N, C] to the nearest of a memory [M, C]."""
    return torch.cdist(vectors, memory, compute_mode="use_mm_for_euclid_dist").amin(1)


def unlike_itself(vectors: Tensor, grid: tuple[int, int], *, neighbours: int = NEIGHBOURS, near: int = NEAR) -> Tensor:
    """The mean distance [N] of each place to its nearest ones in the image, without those up to `near` places away."""
    return _mean_of_least(torch.cdist(vectors, vectors), _allowed(grid, near), neighbours)


def _mean_of_least(distances: Tensor, allowed: Tensor, neighbours: int) -> Tensor:
    return distances.masked_fill(~allowed, torch.inf).topk(neighbours, largest=False).values.mean(1)


@lru_cache(maxsize=4)
def _allowed(grid: tuple[int, int], near: int) -> Tensor:
    """Which places [N, N] lie more than `near` apart, in x or in y."""
    row, column = (axis.flatten() for axis in torch.meshgrid(*map(torch.arange, grid), indexing="ij"))
    return torch.maximum((row[:, None] - row).abs(), (column[:, None] - column).abs()) > near


def deal(count: int, *, folds: int = FOLDS, seed: int = SEED) -> NDArray[np.int64]:
    """The fold of each of so many images: folds of the same size up to one, by lot."""
    return np.random.default_rng(seed).permutation(np.arange(count) % folds)


class NearestNeighbours:
    """The distance to the nearest place in a memory of good images of the same product."""

    name = "nearest neighbours"
    remark = (
        "not zero-shot: its memory holds good images of the same product, "
        f"those of the row, {FOLDS}-fold, so that no image is in the memory that scores it"
    )
    score_range = None

    def __init__(self, trunk: Trunk) -> None:
        self.trunk = trunk
        self._normal: dict[tuple[Path, ...], list[Finding]] = {}  # the last row's: the next may have the same ones

    def identity(self) -> str:
        return f"nearest {MEMORY} {FOLDS} {SEED} {LEVELS} {self.trunk.preprocess}"

    def absent(self, comparison: Comparison) -> str:
        if len(comparison.good) < FOLDS:
            return "no normal images to remember" if not comparison.good else f"fewer than {FOLDS} normal images"
        return ""

    def look(self, comparison: Comparison) -> Sequence[Finding]:
        good = comparison.good
        folds, samples = deal(len(good)), list(self._sampled(good))
        paths = tuple(item.path for item in good)
        if paths not in self._normal:
            memories = [
                torch.cat([one for one, own in zip(samples, folds, strict=True) if own != fold])
                for fold in range(FOLDS)
            ]
            self._normal = {paths: [self._find(item, memories[fold]) for item, fold in zip(good, folds, strict=True)]}
        everything = torch.cat(samples)
        size = len(everything) - len(samples[0]) * int((folds == 0).sum())
        chosen = torch.from_numpy(np.random.default_rng(SEED).permutation(len(everything))[:size].copy())
        normal, memory = iter(self._normal[paths]), everything[chosen]
        return [self._find(item, memory) if item.anomalous else next(normal) for item in comparison.items]

    def _sampled(self, good: Sequence[Item]) -> Iterator[Tensor]:
        """The same number of places of each image, so that the memory of all folds but one has `MEMORY` at most."""
        rng = np.random.default_rng(SEED)
        remembered = len(good) - len(good) // FOLDS
        for item in good:
            vectors = self.trunk.places(item.path).vectors
            quota = min(len(vectors), max(1, MEMORY // remembered))
            yield vectors[torch.from_numpy(rng.permutation(len(vectors))[:quota].copy())]

    def _find(self, item: Item, memory: Tensor) -> Finding:
        places = self.trunk.places(item.path)
        return _finding(nearest(places.vectors, memory), places)


class SelfSimilarity:
    """How unlike the rest of its own image each place is."""

    name = "self-similarity"
    remark = "each place against the rest of its own image; needs no good images"
    score_range = None

    def __init__(self, trunk: Trunk) -> None:
        self.trunk = trunk

    def identity(self) -> str:
        return f"self {NEIGHBOURS} {NEAR} {LEVELS} {self.trunk.preprocess}"

    def absent(self, comparison: Comparison) -> str:  # noqa: ARG002
        return ""

    def look(self, comparison: Comparison) -> Sequence[Finding]:
        found = []
        for item in comparison.items:
            places = self.trunk.places(item.path)
            found.append(_finding(unlike_itself(places.vectors, places.grid), places))
        return found


def _finding(distances: Tensor, places: Places) -> Finding:
    anomaly_map = distances.reshape(places.grid).numpy().astype(np.float32)
    return Finding(float(anomaly_map.max()), anomaly_map, places.size_px)


def alternatives(backbone: str = "embedded") -> list[Looker]:
    """Both, with one trunk."""
    trunk = Trunk(backbone)
    return [NearestNeighbours(trunk), SelfSimilarity(trunk)]
