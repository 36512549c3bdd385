"""Batches of views: pairs, pictures defaced on the device, and annotated images, in fixed shares."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from recipes.long.bundle import Bundle
from recipes.long.device_views import cut, defaced, grids, relit, windows
from recipes.long.pools import UNKNOWN_TYPE, AnnotatedPool, PairPool, annotated_sources, rows_of
from recipes.long.recipe import LongRecipe

SHARES = {"renders": 0.33, "photos": 0.36, "defaced": 0.16}  # of the views; the rest are annotated images


@dataclass(frozen=True)
class Views:
    """A batch: images [B, 3, n, n] in 0..1, masks bool [B, n, n], types [B] and the source of each as an index."""

    images: Tensor
    masks: Tensor
    types: Tensor
    sources: Tensor


class BatchSources:
    """Everything that a batch is drawn from."""

    def __init__(self, bundle: Bundle, pairs: Path, recipe: LongRecipe, device: torch.device) -> None:
        self.device = device
        self.pairs = {
            kind: PairPool(kind, pairs, places=recipe.places // 2, device=device) for kind in ("renders", "photos")
        }
        names = annotated_sources(bundle)
        self.annotated = {name: AnnotatedPool(bundle, name, device=device) for name in names}
        self.names = ["renders", "photos", *names]

    def refill(self, most: int, *, wait: bool = False) -> int:
        """Takes new pairs of each kind into the pools, at most so many shards of each; how many it took."""
        return sum(pool.refill(most, wait=wait) for pool in self.pairs.values())

    def draw(self, recipe: LongRecipe, rng: np.random.Generator, generator: torch.Generator) -> Views:
        """One batch of views."""
        side = int(rng.choice(recipe.sides_px))
        count = max(16, recipe.pixels // side**2)
        parts: list[Views] = []
        for kind in ("renders", "photos"):
            parts.append(self._pairs(kind, max(1, round(count * SHARES[kind] / 2)), side, rng, generator))
        for kind, share in (("photos", 0.7), ("renders", 0.3)):
            number = max(2, round(count * SHARES["defaced"] * share / 2))
            parts.append(self._defaced(kind, number, side, rng, generator))
        each = (1 - sum(SHARES.values())) / max(1, len(self.annotated))
        for name in self.annotated:
            parts.append(self._annotated(name, max(2, round(count * each)), side, rng, generator))
        names = ("images", "masks", "types", "sources")
        return Views(*(torch.cat([getattr(part, name) for part in parts]) for name in names))

    def _rows(self, pool: PairPool, count: int, rng: np.random.Generator) -> Tensor:
        return torch.from_numpy(rng.integers(pool.filled, size=count)).to(self.device)

    def _pairs(self, kind: str, count: int, side: int, rng: np.random.Generator, generator: torch.Generator) -> Views:
        pool = self.pairs[kind]
        rows = self._rows(pool, count, rng)
        point = torch.from_numpy(rng.integers(pool.points.shape[1], size=count)).to(self.device)
        grid = grids(windows(pool.points[rows, point], generator), 2 * side, generator)
        views, masks = cut(pool.images[rows], pool.masks[rows], grid)
        both = torch.stack([torch.zeros_like(masks), masks], 1)
        types = torch.stack([torch.zeros_like(pool.types[rows]), pool.types[rows]], 1)
        return self._views(relit(views, generator), both, types, kind)

    def _defaced(self, kind: str, count: int, side: int, rng: np.random.Generator, generator: torch.Generator) -> Views:
        pool = self.pairs[kind]
        rows = self._rows(pool, count, rng)
        centres = torch.rand(count, 2, generator=generator, device=self.device)
        grid = grids(windows(centres, generator), 2 * side, generator)
        views, none = cut(pool.images[rows, :1], torch.zeros_like(pool.masks[rows]), grid)
        changed, masks = defaced(views[:, 0], generator, rng)
        both = torch.stack([none, masks], 1)
        types = torch.full((count, 2), UNKNOWN_TYPE, device=self.device)
        return self._views(relit(torch.stack([views[:, 0], changed], 1), generator), both, types, kind)

    def _annotated(
        self, name: str, count: int, side: int, rng: np.random.Generator, generator: torch.Generator
    ) -> Views:
        pool = self.annotated[name]
        rows = torch.cat([rows_of(pool.bad, (count + 1) // 2, rng), rows_of(pool.good, count // 2, rng)]).to(
            self.device
        )
        point = torch.from_numpy(rng.integers(pool.points.shape[1], size=count)).to(self.device)
        grid = grids(windows(pool.points[rows, point], generator), 2 * side, generator)
        views, masks = cut(pool.images[rows, None], pool.masks[rows], grid)
        types = torch.full((count, 1), UNKNOWN_TYPE, device=self.device)
        return self._views(relit(views, generator), masks[:, None], types, name)

    def _views(self, views: Tensor, masks: Tensor, types: Tensor, name: str) -> Views:
        source = torch.full((views.shape[0] * views.shape[1],), self.names.index(name), device=self.device)
        return Views(views.flatten(0, 1), masks.flatten(0, 1), types.flatten(), source)
