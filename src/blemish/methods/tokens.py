"""Learnable tokens between the blocks of a frozen tower: what happens to a stream before each block.

d blocks with tokens of their own, n tokens in each, W tower width; B images or prompts, N positions of a stream.
"""

from __future__ import annotations

import torch
from torch import Tensor

from blemish.backbones.layers import BeforeBlock
from blemish.errors import UsageError

__all__ = ["inserted_tokens", "overwriting_tokens"]


def inserted_tokens(
    tokens: Tensor | None, *, alpha: float = 0.0, first: int = 0, drop: bool = False, round_to_half: bool = False
) -> BeforeBlock | None:
    """Tokens [d, n, W], or [d, B, n, W] of each image or prompt, behind the first position.

    Those of block `first` (from 0) are inserted; before the next d - 1 blocks the tokens become
    alpha · (what the last block made of them) + (1 - alpha) · fresh ones. Later blocks take them as they are; with `drop` only
    one more block sees them. `round_to_half` is that of `overwriting_tokens`.
    """
    if tokens is None:
        return None
    last, n = first + len(tokens), tokens.shape[-2]  # the first block without fresh tokens

    def before_block(index: int, x: Tensor) -> Tensor:
        if first <= index < last:
            fresh = tokens[index - first].expand(x.shape[0], -1, -1)  # [(B,) n, W] -> [B, n, W]
            fresh = (fresh.half() if round_to_half else fresh).to(x.dtype)
            if index == first:
                return torch.cat([x[:, :1], fresh, x[:, 1:]], dim=1)
            if alpha:
                fresh = alpha * x[:, 1 : 1 + n] + (1 - alpha) * fresh
            return torch.cat([x[:, :1], fresh, x[:, 1 + n :]], dim=1)
        return torch.cat([x[:, :1], x[:, 1 + n :]], dim=1) if drop and index == last + 1 else x

    return before_block


def overwriting_tokens(tokens: Tensor | None, *, first: int, round_to_half: bool = False) -> BeforeBlock | None:
    """Tokens [d, n, W], or [d, B, n, W] of each image or prompt, in place of positions 1 to n.

    Args:
        tokens: Of the block `first` (from 0) and those after it; None for none.
        first: The first block that has tokens.
        round_to_half: To float16, as AnomalyCLIP's release and those after it do; backwards, each prompt's gradient is rounded
            before the prompts are summed.
    """
    if tokens is None:
        return None
    n = tokens.shape[-2]

    def before_block(index: int, x: Tensor) -> Tensor:
        if not first <= index < first + len(tokens):
            return x
        if x.shape[1] < 1 + n:
            raise UsageError(f"{n} tokens do not fit into a prompt of {x.shape[1]} tokens")
        fresh = tokens[index - first].expand(x.shape[0], -1, -1)
        if round_to_half:
            fresh = fresh.half()  # after the expansion: the gradient is rounded prompt by prompt
        return torch.cat([x[:, :1], fresh.to(x.dtype), x[:, 1 + n :]], dim=1)

    return before_block
