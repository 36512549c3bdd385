"""The pre-norm transformer block that both towers are built from."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blemish.backbones.config import Activation
from blemish.errors import UsageError

__all__ = ["Attention", "Block", "Mlp", "build_blocks", "place_tokens", "quick_gelu", "set_linear_precision"]


class Attention(nn.Module):
    """Multi-head self-attention on one fused QKV projection, whose values also serve the value-value path."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_projection = nn.Linear(width, 3 * width)  # rows in the order query, key, value
        self.out_projection = nn.Linear(width, width)

    def qkv(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of [B, N, W], each [B, heads, N, W / heads]."""
        query, key, value = self.in_projection(x).chunk(3, dim=-1)
        return self._split(query), self._split(key), self._split(value)

    def qkv_of(self, queried: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As `qkv`, but with the queries of these tokens [B, n, W] alone."""
        width = x.shape[-1]
        weight, bias = self.in_projection.weight, self.in_projection.bias
        query = F.linear(queried, weight[:width], bias[:width])
        key, value = F.linear(x, weight[width:], bias[width:]).chunk(2, dim=-1)
        return self._split(query), self._split(key), self._split(value)

    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, *, causal: bool = False, mask: Tensor | None = None
    ) -> Tensor:
        """The output projection of softmax(query keyᵀ / √(W / heads)) value, [B, N, W]; `mask` [N, keys] is true where a
        query sees a key."""
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=causal, attn_mask=mask)
        return self.out_projection(mixed.transpose(1, 2).flatten(2))  # [B, heads, N, W/heads] -> [B, N, W]

    def _split(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:2], self.heads, -1).transpose(1, 2)  # [B, N, W] -> [B, heads, N, W/heads]


class Mlp(nn.Module):
    """The two-layer network of a block."""

    def __init__(self, width: int, hidden: int, activation: Activation) -> None:
        super().__init__()
        self.activation = activation
        self.fc_in = nn.Linear(width, hidden)
        self.fc_out = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc_in(x)
        return self.fc_out(quick_gelu(x) if self.activation == "quick_gelu" else F.gelu(x))


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
        x = x + self.attention.attend(*self.attention.qkv(self._normalised(self.ln_1, x)), causal=causal)
        return self._feed_forward(x)

    def dual(self, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """The ordinary stream and the value-value stream after this block, each [B, N, W].

        The value-value stream (AnomalyCLIP's DPAM) has no MLP and reads the ordinary stream:
        v' = v + Out(softmax(V Vᵀ / √d) V) with V the values of LN1(x).
        """
        query, key, value = self.attention.qkv(self._normalised(self.ln_1, x))
        v = v + self.attention.attend(value, value, value)
        x = x + self.attention.attend(query, key, value)
        return self._feed_forward(x), v

    def first_token(self, x: Tensor, v: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """As `forward` or `dual`, but of the ordinary stream only the first token, [B, 1, W]."""
        normalised = self._normalised(self.ln_1, x)
        query, key, value = self.attention.qkv_of(normalised[:, :1], normalised)
        if v is not None:
            v = v + self.attention.attend(value, value, value)
        x = x[:, :1] + self.attention.attend(query, key, value)
        return self._feed_forward(x), v

    def at_places(self, x: Tensor, places: Tensor, *, causal: bool = False) -> Tensor:
        """As `forward` on sequences [P, S, W], but only at one place of each: [P, W] at places [P]."""
        rows = torch.arange(len(x), device=x.device)
        normalised = self._normalised(self.ln_1, x)
        query, key, value = self.attention.qkv_of(normalised[rows, places][:, None], normalised)
        seen = torch.arange(x.shape[1], device=x.device) <= places[:, None] if causal else None  # [P, S]
        mask = None if seen is None else seen[:, None, None]  # over heads and the one query
        read = x[rows, places][:, None] + self.attention.attend(query, key, value, mask=mask)  # [P, 1, W]
        return self._feed_forward(read)[:, 0]

    def continuing(self, start: Tensor, x: Tensor, *, mask: Tensor, last_only: bool) -> tuple[Tensor, Tensor]:
        """Causal sequences [P, n, W] that all begin with the one `start` [1, s, W], after this block, and that start.

        `mask` [n, s + n] says what each of the n positions sees. With `last_only` no more than the last position is
        computed, [P, 1, W], and the start is returned as it came: nothing reads it any more.
        """
        start_query, start_key, start_value = self.attention.qkv(self._normalised(self.ln_1, start))
        query, key, value = self.attention.qkv(self._normalised(self.ln_1, x))
        key = torch.cat([start_key.expand(len(x), -1, -1, -1), key], dim=2)  # [P, heads, s + n, W/heads]
        value = torch.cat([start_value.expand(len(x), -1, -1, -1), value], dim=2)
        if last_only:
            return start, self._feed_forward(x[:, -1:] + self.attention.attend(query[:, :, -1:], key, value))
        x = x + self.attention.attend(query, key, value, mask=mask)
        start = start + self.attention.attend(start_query, start_key, start_value, causal=True)
        return self._feed_forward(start), self._feed_forward(x)

    def _feed_forward(self, x: Tensor) -> Tensor:
        return x + self.mlp(self._normalised(self.ln_2, x))

    def _normalised(self, norm: nn.LayerNorm, x: Tensor) -> Tensor:
        return norm(x).to(self.mlp.fc_in.weight.dtype)


def build_blocks(width: int, depth: int, heads: int, *, mlp_ratio: float, activation: Activation) -> nn.ModuleList:
    """`depth` blocks with CLIP's initialisation."""
    blocks = [Block(width, heads, mlp_ratio=mlp_ratio, activation=activation) for _ in range(depth)]
    for block in blocks:
        nn.init.normal_(block.attention.in_projection.weight, std=width**-0.5)
        nn.init.normal_(block.attention.out_projection.weight, std=(2 * width * depth) ** -0.5)
        nn.init.normal_(block.mlp.fc_in.weight, std=(2 * width) ** -0.5)
        nn.init.normal_(block.mlp.fc_out.weight, std=(2 * width * depth) ** -0.5)
        for linear in (
            block.attention.in_projection,
            block.attention.out_projection,
            block.mlp.fc_in,
            block.mlp.fc_out,
        ):
            nn.init.zeros_(linear.bias)
    return nn.ModuleList(blocks)


def place_tokens(x: Tensor, fresh: Tensor, *, insert: bool, carry: float = 0.0) -> Tensor:
    """The sequence [B, N, W] with tokens [B, n, W] behind its first position.

    `insert` makes the sequence longer by n; otherwise positions 1..n are overwritten, and `carry` (0..1) is the share
    of what stood there that is kept (DAPO's progressive tokens).
    """
    n = fresh.shape[1]
    if insert:
        return torch.cat([x[:, :1], fresh, x[:, 1:]], dim=1)
    if x.shape[1] < 1 + n:
        raise UsageError(f"{n} layer tokens do not fit into a sequence of {x.shape[1]} tokens")
    if carry:
        fresh = carry * x[:, 1 : 1 + n] + (1 - carry) * fresh
    return torch.cat([x[:, :1], fresh, x[:, 1 + n :]], dim=1)


def set_linear_precision(tower: nn.Module, dtype: torch.dtype) -> None:
    """Lets the blocks' linear layers and attention hold and compute in `dtype`, in place.

    Layer norms, embeddings, the stem, the final projection and the residual stream stay as they are: the sums over
    the depth are what bfloat16 cannot hold.
    """
    for module in tower.modules():
        if isinstance(module, Block):
            module.attention.to(dtype)
            module.mlp.to(dtype)
