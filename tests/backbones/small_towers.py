"""Small towers with every parameter off its resting value, and slow, obvious twins of their blocks."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from blemish.backbones.config import TextConfig, VisionConfig
from blemish.backbones.layers import Attention, Block
from blemish.backbones.text import TextTower
from blemish.backbones.vision import ImageTower


def disturbed(module: nn.Module, *, seed: int = 0) -> None:
    """Moves every 1-d parameter (biases, norms, class embedding), so that a forgotten one shows."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.ndim <= 1:
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)


def small_image_tower(*, width: int = 32, depth: int = 5, patch_size: int = 8, grid: int = 4) -> ImageTower:
    torch.manual_seed(0)
    tower = ImageTower(
        VisionConfig(
            image_size=grid * patch_size,
            width=width,
            depth=depth,
            heads=4,
            patch_size=patch_size,
            position_grid=grid,
        ),
        joint_width=16,
    )
    disturbed(tower)
    return tower


def small_text_tower(*, depth: int = 4) -> TextTower:
    torch.manual_seed(1)
    config = TextConfig(width=32, depth=depth, heads=4, context_length=20, vocabulary_size=100)
    tower = TextTower(config, joint_width=16)
    disturbed(tower)
    return tower


def images(batch: int = 2, size: int = 32) -> Tensor:
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(2))


def materialised_attention(attention: Attention, x: Tensor, *, value_value: bool) -> Tensor:
    """Attention head by head with the whole softmax matrix; `value_value` uses the values as queries and keys."""
    width = x.shape[-1]
    size = width // attention.heads
    weight, bias = attention.in_projection.weight, attention.in_projection.bias
    query, key, value = (
        x @ weight[start : start + width].T + bias[start : start + width] for start in (0, width, 2 * width)
    )
    if value_value:
        query = key = value
    heads = []
    for head in range(attention.heads):
        part = slice(head * size, (head + 1) * size)
        scores = query[..., part] @ key[..., part].transpose(1, 2) / size**0.5  # [B, N, N]
        heads.append(torch.softmax(scores, dim=-1) @ value[..., part])
    return attention.out_projection(torch.cat(heads, dim=-1))


def plain_block(block: Block, x: Tensor) -> Tensor:
    x = x + materialised_attention(block.attention, block.ln_1(x), value_value=False)
    return x + block.mlp(block.ln_2(x))
