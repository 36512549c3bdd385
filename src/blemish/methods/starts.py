"""What DAPO's trained parts begin as. E prompt groups, W text width, Wv width of the image tower, D joint width."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from blemish.backbones.config import VisionConfig
from blemish.backbones.vision import Tower

__all__ = ["like_words", "start_as_projection", "visual_tokens"]


def like_words(table: Tensor, *shape: int) -> nn.Parameter:
    """Tokens [*shape, W] from the Gaussian that has each dimension's mean and spread in the table of word embeddings."""
    words = table.detach().float()
    return nn.Parameter(words.mean(0) + words.std(0) * torch.randn(*shape, table.shape[1], device=table.device))


def visual_tokens(vision: VisionConfig, depth: int, count: int) -> nn.Parameter | None:
    """Tokens [depth, count, Wv], uniform in ±√(6 / (3 · patch area + width)) (Jia et al., Visual Prompt Tuning, ECCV 2022)."""
    if not count:
        return None
    patch_px = vision.patch_size or vision.image_size // vision.position_grid
    bound = (6 / (3 * patch_px**2 + vision.width)) ** 0.5
    return nn.Parameter((2 * torch.rand(depth, count, vision.width) - 1) * bound)


@torch.no_grad()
def start_as_projection(adapter: nn.Linear, tower: Tower) -> None:
    """Lets an adapter [Wv -> D] do what `tower.project` does, up to the layer norm's division, which places that are
    normalised afterwards do not feel (its bias counts as for a stream of standard deviation 1)."""
    weight, bias = tower.linear_projection()  # [Wv, D], [D]
    adapter.weight.copy_(weight.T)
    adapter.bias.copy_(bias)
