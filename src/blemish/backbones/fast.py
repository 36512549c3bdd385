"""Faster ways through the towers, which give what the towers' own `forward` gives; the tests compare the two.

What no output needs is left out: of the last block everything but what is read, of prompts that begin alike all beginnings but
one. B batch, N patches, P prompts, S sequence length, W tower width, D joint width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from blemish.backbones.layers import BeforeBlock, Block
from blemish.backbones.processor import linear
from blemish.backbones.vision import Embedding, Tower, VisionFeatures
from blemish.errors import UsageError

if TYPE_CHECKING:
    from blemish.backbones.text import TextTower

__all__ = ["image_features", "shared_start_features", "text_features"]


def image_features(
    tower: Tower,
    embedding: Embedding,
    *,
    levels: Sequence[int] = (),
    value_value_depth: int = 0,
    before_block: BeforeBlock | None = None,
    patches: bool = True,
    ordinary_levels: bool = True,
) -> VisionFeatures:
    """As `Tower.forward`, from what `Tower.embed` gave: both paths share one QKV projection.

    Towers side by side are passed one after the other, so that what a block works on stays in the processor's cache.

    Without `patches` the last block computes of the ordinary path only CLS, unless its level is asked for. Without
    `ordinary_levels` the levels asked for are those of the value-value path alone, and `levels` is empty.
    """
    tower.check(levels, value_value_depth)

    def features_of(one: Tower, tokens: Tensor) -> VisionFeatures:
        depth = one.config.depth
        last_is_read = patches or (ordinary_levels and depth in levels)
        x, v = tokens, None
        kept: dict[int, Tensor] = {}
        kept_value_value: dict[int, Tensor] = {}
        for index in range(depth):
            if before_block is not None:
                x = before_block(index, x)
            if value_value_depth and index == depth - value_value_depth:
                v = x
            cls_only = index + 1 == depth and not last_is_read
            if v is None:
                x = one.at_block(index, first_token if cls_only else Block.__call__, x)
            else:
                x, v = one.at_block(index, dual_first_token if cls_only else dual, x, v)
            if index + 1 in levels:
                kept |= {index + 1: x} if ordinary_levels else {}
                kept_value_value |= {index + 1: x if v is None else v} if value_value_depth else {}
        return VisionFeatures(
            tokens=x if patches else x[:, :1],
            grid=embedding.grid,
            levels=kept,
            value_value=v,
            value_value_levels=kept_value_value,
            trunk_maps=embedding.trunk_maps,
        )

    towers = [tower] if before_block is not None else tower.towers  # tokens are put into all towers' streams at once
    parts = zip(towers, embedding.tokens.chunk(len(towers), dim=-1), strict=True)
    return side_by_side([features_of(one, tokens) for one, tokens in parts])


def text_features(
    tower: TextTower,
    embeddings: Tensor,
    *,
    pool_at: Tensor,
    before_block: BeforeBlock | None = None,
    causal: bool = True,
) -> Tensor:
    """As `TextTower.forward`: of the last block only the positions that are read."""
    tower.check(embeddings.shape)
    x = embeddings + tower.position_embedding[: embeddings.shape[1]]  # [P, S, W]
    for index, block in enumerate(tower.blocks):
        if before_block is not None:
            x = before_block(index, x)
        if index + 1 < tower.config.depth:
            x = block(x, causal=causal)
        else:
            x = at_positions(cast(Block, block), x, pool_at, causal=causal)  # [P, S, W] -> [P, W]
    return tower.ln_final(x) @ tower.projection


def shared_start_features(
    tower: TextTower, start: Tensor, endings: Tensor, *, before_block: BeforeBlock | None = None
) -> Tensor:
    """The joint vectors [P, D] of causal prompts that begin alike, read at their last positions.

    As `TextTower.forward` on start + ending, but the start is computed once for all prompts.

    Args:
        start: What the prompts share, embeddings [s, W] without positions.
        endings: What follows in each, [P, n, W] without positions.
        before_block: Called with each block's index and the start's stream [1, s, W] alone.
    """
    s, n = start.shape[0], endings.shape[1]
    tower.check(torch.Size((endings.shape[0], s + n, endings.shape[2])))
    head = (start + tower.position_embedding[:s])[None]  # [1, s, W]
    x = endings + tower.position_embedding[s : s + n]  # [P, n, W]
    mask = torch.ones(n, s + n, dtype=torch.bool, device=x.device).tril(s)  # what each of the n positions sees
    for index, block in enumerate(tower.blocks):
        if before_block is not None:
            head = before_block(index, head)
        if head.shape[1] != s:
            raise UsageError(f"tokens were put into a start of {s} positions; only overwriting keeps its length")
        head, x = after_start(cast(Block, block), head, x, mask=mask, last_only=index + 1 == tower.config.depth)
    return tower.ln_final(x[:, -1]) @ tower.projection


def side_by_side(seen: Sequence[VisionFeatures]) -> VisionFeatures:
    """The features of several towers as those of one, their channels side by side."""
    if len(seen) == 1:
        return seen[0]

    def joined(read: Callable[[VisionFeatures], Tensor | None]) -> Tensor | None:
        streams = [read(features) for features in seen]
        return None if streams[0] is None else torch.cat(cast("list[Tensor]", streams), dim=-1)

    first = seen[0]
    return replace(
        first,
        tokens=cast(Tensor, joined(lambda features: features.tokens)),
        value_value=joined(lambda features: features.value_value),
        levels={at: torch.cat([features.levels[at] for features in seen], dim=-1) for at in first.levels},
        value_value_levels={
            at: torch.cat([features.value_value_levels[at] for features in seen], dim=-1)
            for at in first.value_value_levels
        },
    )


# one block


def dual(block: Block, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """The ordinary and the value-value stream after this block, each [B, N, W]."""
    query, key, value = block.qkv(x)
    v = v + block.attention.attend(value, value, value)
    x = x + block.attention.attend(query, key, value)
    return x + block.feed_forward(x), v


def first_token(block: Block, x: Tensor) -> Tensor:
    """The first token alone, [B, 1, W], after this block."""
    normalised = block.normalised(block.ln_1, x)
    x = x[:, :1] + block.attention.attend(*_qkv_of(block, normalised[:, :1], normalised))
    return x + block.feed_forward(x)


def dual_first_token(block: Block, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """As `dual`, but of the ordinary stream only the first token, [B, 1, W]."""
    normalised = block.normalised(block.ln_1, x)
    query, key, value = _qkv_of(block, normalised[:, :1], normalised)
    v = v + block.attention.attend(value, value, value)
    x = x[:, :1] + block.attention.attend(query, key, value)
    return x + block.feed_forward(x), v


def at_positions(block: Block, x: Tensor, positions: Tensor, *, causal: bool = False) -> Tensor:
    """One position of each sequence [P, S, W], [P, W] at positions [P], after this block."""
    rows = torch.arange(x.shape[0], device=x.device)
    normalised = block.normalised(block.ln_1, x)
    query, key, value = _qkv_of(block, normalised[rows, positions][:, None], normalised)
    mask = torch.arange(x.shape[1], device=x.device) <= positions[:, None] if causal else None  # [P, S]
    mixed = block.attention.attend(query, key, value, mask=None if mask is None else mask[:, None, None])
    read = x[rows, positions][:, None] + mixed  # [P, 1, W]
    return (read + block.feed_forward(read))[:, 0]


def after_start(block: Block, start: Tensor, x: Tensor, *, mask: Tensor, last_only: bool) -> tuple[Tensor, Tensor]:
    """The start [1, s, W] that causal sequences share, and what follows it in each, [P, n, W], after this block.

    With `last_only` no more than the last position is computed, [P, 1, W], and the start is returned as it came: nothing reads
    it any more.
    """
    attention = block.attention
    start_query, start_key, start_value = block.qkv(start)
    query, key, value = block.qkv(x)
    key = torch.cat([start_key.expand(x.shape[0], -1, -1, -1), key], dim=2)  # [P, heads, s + n, W/heads]
    value = torch.cat([start_value.expand(x.shape[0], -1, -1, -1), value], dim=2)
    if last_only:
        x = x[:, -1:] + attention.attend(query[:, :, -1:], key, value)
        return start, x + block.feed_forward(x)
    x = x + attention.attend(query, key, value, mask=mask)
    start = start + attention.attend(start_query, start_key, start_value, causal=True)
    return start + block.feed_forward(start), x + block.feed_forward(x)


def _qkv_of(block: Block, queried: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Keys and values of normalised tokens [B, N, W], with the queries of these [B, n, W] alone."""
    projection, width = block.attention.in_projection, x.shape[-1]
    query = linear(queried, projection.weight[:width], projection.bias[:width])
    key, value = linear(x, projection.weight[width:], projection.bias[width:]).chunk(2, dim=-1)
    return block.attention.split(query), block.attention.split(key), block.attention.split(value)
