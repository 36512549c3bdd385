"""What a training step sees: which pictures, and how they are cropped, turned, lit and coloured."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from recipes.embedded.config import BACKBONE, Recipe
from recipes.embedded.samples import Samples

GREY, SHUFFLED = 0.15, 0.2  # shares of pictures that lose their colours, or swap them
MASK_LEFT = 0.4  # of a resized mask's pixel: thin lines would not survive a half


@dataclass(frozen=True)
class View:
    """images [B, 3, n, n] as the backbone takes them, masks bool [B, n, n], types [B], materials [B]."""

    images: Tensor
    masks: Tensor
    types: Tensor
    materials: tuple[str, ...]

    def to(self, device: torch.device) -> View:
        """The same there, where the training goes on; cropping and colouring stay on the processor."""
        return View(self.images.to(device), self.masks.to(device), self.types.to(device), self.materials)


def chosen(samples: Samples, recipe: Recipe, rng: np.random.Generator, *, progress: float) -> NDArray[np.int64]:
    """Indices [B] of pictures, by pairs of one scene, whose defects are strong enough for this part (0..1) of the local stage."""
    floor = recipe.easy_contrast * max(0.0, 1 - progress / recipe.easy_share)
    strong = np.where(samples.types > 0, samples.contrasts, 1.0) >= floor
    if not recipe.paired:
        return np.sort(rng.choice(np.flatnonzero(strong), size=recipe.batch))
    pairs = np.sort(rng.choice(np.flatnonzero(strong.reshape(-1, 2).all(1)), size=recipe.batch // 2))
    return (2 * pairs[:, None] + np.arange(2)).ravel()


def view(samples: Samples, indices: NDArray[np.int64], recipe: Recipe, rng: np.random.Generator) -> View:
    """These pictures, each pair in another crop; one size and one turn for the batch."""
    batch = samples.batch(indices)
    x = torch.from_numpy(batch.images).permute(0, 3, 1, 2).float() / 255
    m = torch.from_numpy(batch.masks)
    turns, flip = int(rng.integers(4)), bool(rng.random() < 0.5)
    x, m = torch.rot90(x, turns, (2, 3)), torch.rot90(m, turns, (1, 2))
    if flip:
        x, m = x.flip(3), m.flip(2)
    x, m = _cropped(x, m, recipe, rng)
    x = recoloured(x, rng)
    mean, std = (torch.tensor(value)[:, None, None] for value in (BACKBONE.preprocess.mean, BACKBONE.preprocess.std))
    return View((x - mean) / std, m, torch.from_numpy(batch.types), batch.materials)


def _cropped(x: Tensor, m: Tensor, recipe: Recipe, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Squares of `zoom` to the whole of the side, all at one of the sizes."""
    whole, side = x.shape[-1], int(rng.choice(recipe.sides))
    images, masks = [], []
    for index in range(len(x)):
        size = round(whole * rng.uniform(recipe.zoom, 1.0)) if rng.random() < 0.7 else whole
        top, left = (int(rng.integers(whole - size + 1)) for _ in range(2))
        rows, columns = slice(top, top + size), slice(left, left + size)
        images.append(_resized(x[index, :, rows, columns], side))
        masks.append(_resized(m[index, None, rows, columns].float(), side)[0] > MASK_LEFT)
    return torch.stack(images), torch.stack(masks)


def _resized(x: Tensor, side: int) -> Tensor:
    if x.shape[-1] == side:
        return x
    return F.interpolate(x[None], (side, side), mode="bilinear", antialias=True, align_corners=False)[0]


def recoloured(x: Tensor, rng: np.random.Generator) -> Tensor:
    """Images [B, 3, n, n] in 0..1 in other light; some without their colours, or with them swapped."""
    count = len(x)
    for index in range(count):
        kind = rng.random()
        if kind < GREY:
            x[index] = x[index].mean(0, keepdim=True)
        elif kind < GREY + SHUFFLED:
            x[index] = x[index, torch.from_numpy(rng.permutation(3))]
    gain = torch.from_numpy(rng.uniform(0.7, 1.3, (count, 1, 1, 1)).astype(np.float32))
    offset = torch.from_numpy(rng.uniform(-0.12, 0.12, (count, 1, 1, 1)).astype(np.float32))
    return ((x - 0.5) * gain + 0.5 + offset).clamp(0, 1)
