"""The pre-norm transformer block that both towers are built from."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blemish.backbones.config import Activation
from blemish.backbones.processor import FusedActivation, linear

__all__ = [
    "Attention",
    "BeforeBlock",
    "Block",
    "Conv2d",
    "Linear",
    "Mlp",
    "TokenEmbedding",
    "build_blocks",
    "draw",
    "quick_gelu",
    "random_parameter",
    "set_linear_precision",
]

BeforeBlock = Callable[[int, Tensor], Tensor]  # (index of a block from 0, its stream [B, N, W]) -> what it gets instead


class _ShapeOnly:
    """Draws no initial values on the meta device: they would be lost, and torch imports its compiler for them, which takes a
    second."""

    weight: Tensor

    def reset_parameters(self) -> None:
        if not self.weight.is_meta:
            super().reset_parameters()  # type: ignore[misc]


class Linear(_ShapeOnly, nn.Linear):
    def forward(self, x: Tensor, *, activation: FusedActivation = "none") -> Tensor:
        return linear(x, self.weight, self.bias, activation=activation)


class Conv2d(_ShapeOnly, nn.Conv2d):
    pass


class TokenEmbedding(_ShapeOnly, nn.Embedding):
    pass


def random_parameter(*shape: int, std: float) -> nn.Parameter:
    """A parameter of Gaussian values; on the meta device without values."""
    parameter = nn.Parameter(torch.empty(shape))
    draw(parameter, std=std)
    return parameter


@torch.no_grad()
def draw(parameter: Tensor, *, std: float) -> None:
    """Fills a parameter with Gaussian values, unless it has a shape only."""
    if not parameter.is_meta:
        parameter.normal_(std=std)


class Attention(nn.Module):
    """Multi-head self-attention on one fused QKV projection, whose values also serve the value-value path."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_projection = Linear(width, 3 * width)  # rows in the order query, key, value
        self.out_projection = Linear(width, width)

    def qkv(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of [B, N, W], each [B, heads, N, W / heads]."""
        query, key, value = self.in_projection(x).chunk(3, dim=-1)
        return self.split(query), self.split(key), self.split(value)

    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, *, causal: bool = False, mask: Tensor | None = None
    ) -> Tensor:
        """The output projection of softmax(query keyᵀ / √(W / heads)) value, [B, N, W]; `mask` [N, keys] is true where a
        query sees a key."""
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=causal, attn_mask=mask)
        return self.out_projection(mixed.transpose(1, 2).flatten(2))  # [B, heads, N, W/heads] -> [B, N, W]

    def split(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:2], self.heads, -1).transpose(1, 2)  # [B, N, W] -> [B, heads, N, W/heads]


class Mlp(nn.Module):
    """The two-layer network of a block."""

    def __init__(self, width: int, hidden: int, activation: Activation) -> None:
        super().__init__()
        self.activation = activation
        self.fc_in = Linear(width, hidden)
        self.fc_out = Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        if self.activation == "gelu":
            return self.fc_out(self.fc_in(x, activation="gelu"))
        return self.fc_out(quick_gelu(self.fc_in(x)))


def quick_gelu(x: Tensor) -> Tensor:
    """x · sigmoid(1.702 x), in one buffer where no gradient needs the parts: fresh memory costs more than the sums."""
    gate = (1.702 * x).sigmoid_()
    return x * gate if gate.requires_grad else gate.mul_(x)


class Block(nn.Module):
    """One residual block: attention, then the MLP, each behind its layer norm.

    The residual stream keeps its own precision; the linear layers may hold a lower one (`set_linear_precision`).
    """

    def __init__(self, width: int, heads: int, *, mlp_ratio: float, activation: Activation) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = Mlp(width, round(mlp_ratio * width), activation)

    def forward(self, x: Tensor, *, causal: bool = False) -> Tensor:
        x = x + self.attention.attend(*self.qkv(x), causal=causal)
        return x + self.feed_forward(x)

    def value_value(self, x: Tensor) -> Tensor:
        """What this block adds to the value-value path: Out(softmax(V Vᵀ / √d) V) with V the values of LN1(x).

        AnomalyCLIP's DPAM: that path reads the ordinary stream x [B, N, W] and has no MLP.
        """
        _, _, value = self.qkv(x)
        return self.attention.attend(value, value, value)

    def qkv(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.attention.qkv(self.normalised(self.ln_1, x))

    def feed_forward(self, x: Tensor) -> Tensor:
        return self.mlp(self.normalised(self.ln_2, x))

    def normalised(self, norm: nn.LayerNorm, x: Tensor) -> Tensor:
        return norm(x).to(self.mlp.fc_in.weight.dtype)


def build_blocks(width: int, depth: int, heads: int, *, mlp_ratio: float, activation: Activation) -> nn.ModuleList:
    """`depth` blocks with CLIP's initialisation."""
    blocks = [Block(width, heads, mlp_ratio=mlp_ratio, activation=activation) for _ in range(depth)]
    for block in blocks:
        draw(block.attention.in_projection.weight, std=width**-0.5)
        draw(block.attention.out_projection.weight, std=(2 * width * depth) ** -0.5)
        draw(block.mlp.fc_in.weight, std=(2 * width) ** -0.5)
        draw(block.mlp.fc_out.weight, std=(2 * width * depth) ** -0.5)
        for layer in (
            block.attention.in_projection,
            block.attention.out_projection,
            block.mlp.fc_in,
            block.mlp.fc_out,
        ):
            nn.init.zeros_(layer.bias)
    return nn.ModuleList(blocks)


def set_linear_precision(tower: nn.Module, dtype: torch.dtype) -> None:
    """Lets the blocks' linear layers and attention hold and compute in `dtype`, in place.

    Layer norms, embeddings, the stem, the final projection and the residual stream stay as they are: the sums over
    the depth are what bfloat16 cannot hold.
    """
    for module in tower.modules():
        if isinstance(module, Block):
            module.attention.to(dtype)
            module.mlp.to(dtype)
