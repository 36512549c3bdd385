"""From a recipe to an optimiser and its rate in every epoch."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

from blemish.training.recipe import Recipe

__all__ = ["optimiser_of", "rate_of_epoch"]

WARM_UP_RATE = 1e-5  # of the first epoch


def optimiser_of(recipe: Recipe, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """The optimiser of a recipe for these parameters."""
    given = list(parameters)
    if recipe.optimiser == "sgd":
        return torch.optim.SGD(given, lr=recipe.rate, momentum=recipe.momentum, weight_decay=recipe.weight_decay)
    kind = torch.optim.AdamW if recipe.optimiser == "adamw" else torch.optim.Adam
    return kind(given, lr=recipe.rate, betas=recipe.betas, eps=1e-8, weight_decay=recipe.weight_decay)


def rate_of_epoch(recipe: Recipe, epoch: int) -> float:
    """The learning rate of an epoch, counted from 1.

    "warm-up and cosine" is that of CoOp's trainer (Dassl): 1e-5 in the first epoch, then rate (1 + cos(π (e - 2) / E)) / 2 of E
    epochs, so that the last one is not at 0.

    Example:
        >>> recipe = Recipe(epochs=50, rate=0.002, schedule="warm-up and cosine")
        >>> [f"{rate_of_epoch(recipe, epoch):.2g}" for epoch in (1, 2, 50)]
        ['1e-05', '0.002', '7.9e-06']
    """
    if recipe.schedule == "constant":
        return recipe.rate
    if epoch == 1:
        return WARM_UP_RATE
    return recipe.rate * (1 + math.cos(math.pi * (epoch - 2) / recipe.epochs)) / 2
