"""CLIP's text tower: from token ids or token embeddings, with learnable tokens per layer.

P prompts, S sequence length, W tower width, D joint width.
"""

from __future__ import annotations

from typing import Literal, cast

import torch
from torch import Tensor, nn

from blemish.backbones.config import TextConfig
from blemish.backbones.layers import Block, build_blocks, place_tokens
from blemish.errors import UsageError

__all__ = ["Placement", "TextTower"]

Placement = Literal["insert", "overwrite"]


class TextTower(nn.Module):
    """A transformer over token embeddings that answers with one vector of the joint space for each prompt."""

    def __init__(self, config: TextConfig, joint_width: int) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.token_embedding = nn.Embedding(config.vocabulary_size, width)
        self.position_embedding = nn.Parameter(0.01 * torch.randn(config.context_length, width))
        self.blocks = build_blocks(
            width, config.depth, config.heads, mlp_ratio=config.mlp_ratio, activation=config.activation
        )
        self.ln_final = nn.LayerNorm(width)
        self.projection = nn.Parameter(width**-0.5 * torch.randn(width, joint_width))
        nn.init.normal_(self.token_embedding.weight, std=0.02)

    def embed(self, token_ids: Tensor) -> Tensor:
        """The embeddings [P, S, W] of token ids [P, S], without positions."""
        return self.token_embedding(token_ids).to(self.position_embedding.dtype)

    def encode(self, token_ids: Tensor) -> Tensor:
        """The joint vectors [P, D], not normalised, of token ids [P, S] as the tokenizer makes them."""
        end = token_ids.argmax(dim=-1)  # end of text is the largest id of the vocabulary
        used = int(end.max()) + 1
        return self(self.embed(token_ids[:, :used]), pool_at=end)

    def forward(
        self,
        embeddings: Tensor,
        *,
        pool_at: Tensor,
        layer_tokens: Tensor | None = None,
        placement: Placement = "insert",
        first_block: int = 1,
        carry: float = 0.0,
        causal: bool = True,
        round_tokens_to_half: bool = False,
    ) -> Tensor:
        """The joint vectors [P, D], not normalised, of token embeddings [P, S, W] without positions.

        `pool_at` [P] is the position that is read after the last block; inserted tokens that are still there count.
        `layer_tokens` [d, n, W], or [d, P, n, W] where each prompt has its own (AdaCLIP), stand behind the first position
        of the blocks first_block .. first_block + d - 1 (1-based). "overwrite" replaces positions 1..n there (FAPrompt:
        blocks 2 to 9). "insert" makes the sequence longer at the first of them; the block after the last of them still
        sees what became of the tokens, then they are dropped; with none after it they stay (DAPO). From the second of
        these blocks on, `carry` is the share of the previous output that is kept. `round_tokens_to_half` rounds the
        tokens to float16, and backwards each prompt's gradient before the prompts are summed (FAPrompt's release).
        """
        self._check(embeddings, layer_tokens, placement, first_block)
        inserted = 0 if layer_tokens is None or placement == "overwrite" else layer_tokens.shape[-2]
        last_block = first_block - 1 + (0 if layer_tokens is None else len(layer_tokens))  # 1-based
        if causal:
            embeddings = self._cut(embeddings, pool_at, layer_tokens, placement, last_block)

        x = embeddings + self.position_embedding[: embeddings.shape[1]]  # [P, S, W]
        for number, block in enumerate(self.blocks, start=1):
            if layer_tokens is not None and first_block <= number <= last_block:
                fresh = layer_tokens[number - first_block].expand(len(x), -1, -1)  # [n, W] or [P, n, W] -> [P, n, W]
                if round_tokens_to_half:
                    fresh = fresh.half()  # after the expansion: the gradient is rounded prompt by prompt
                first = number == first_block
                x = place_tokens(x, fresh.to(x.dtype), insert=first and inserted > 0, carry=0.0 if first else carry)
            dropped = inserted if number == last_block + 1 else 0  # behind the first position, after this block
            if number < self.config.depth:
                x = block(x, causal=causal)
                x = torch.cat([x[:, :1], x[:, 1 + dropped :]], dim=1) if dropped else x
            else:  # nothing else of the last block is read
                x = cast(Block, block).at_places(x, torch.where(pool_at > 0, pool_at + dropped, pool_at), causal=causal)
        return self.ln_final(x) @ self.projection  # [P, W] -> [P, D]

    def continuing(
        self, start: Tensor, embeddings: Tensor, *, layer_tokens: Tensor | None = None, first_block: int = 1
    ) -> Tensor:
        """The joint vectors [P, D], not normalised, of causal prompts that share their first s embeddings.

        `start` [s, W] is what they share and `embeddings` [P, n, W] what follows, both without positions; the last
        position is read. As `forward` on start + embeddings with pool_at s + n - 1 and layer tokens overwriting, but
        the start is computed once for all prompts and only the last position in the last block. The layer tokens must
        lie within the start.
        """
        s, n = len(start), embeddings.shape[1]
        self._check(embeddings, layer_tokens, "overwrite", first_block)
        if s + n > self.config.context_length:
            raise UsageError(f"the text tower takes up to {self.config.context_length} embeddings, not {s} + {n}")
        if layer_tokens is not None and s < 1 + layer_tokens.shape[1]:
            raise UsageError(
                f"{layer_tokens.shape[1]} layer tokens do not fit behind the first of {s} shared positions"
            )
        head = (start + self.position_embedding[:s])[None]  # [1, s, W]
        x = embeddings + self.position_embedding[s : s + n]  # [P, n, W]
        mask = torch.ones(n, s + n, dtype=torch.bool, device=x.device).tril(s)
        for number, block in enumerate(self.blocks, start=1):
            if layer_tokens is not None and first_block <= number < first_block + len(layer_tokens):
                head = place_tokens(head, layer_tokens[number - first_block][None].to(head.dtype), insert=False)
            head, x = cast(Block, block).continuing(head, x, mask=mask, last_only=number == self.config.depth)
        return self.ln_final(x[:, -1]) @ self.projection

    def _cut(
        self, embeddings: Tensor, pool_at: Tensor, layer_tokens: Tensor | None, placement: Placement, last_block: int
    ) -> Tensor:
        """The embeddings up to the last position that is read: under the causal mask nothing behind it is seen."""
        used = int(pool_at.max()) + 1
        if layer_tokens is not None:
            n = layer_tokens.shape[-2]
            if placement == "overwrite":
                used = max(used, 1 + n)
            elif last_block >= self.config.depth:  # the inserted tokens are still there when the position is read
                used = max(used - n, 1)
        return embeddings[:, :used]

    def _check(self, embeddings: Tensor, layer_tokens: Tensor | None, placement: Placement, first_block: int) -> None:
        width, depth, context = self.config.width, self.config.depth, self.config.context_length
        if embeddings.ndim != 3 or embeddings.shape[2] != width or embeddings.shape[1] > context:
            raise UsageError(
                f"the text tower takes embeddings [P, up to {context}, {width}], not {list(embeddings.shape)}"
            )
        if placement not in ("insert", "overwrite"):
            raise UsageError(f"placement must be 'insert' or 'overwrite', not {placement!r}")
        if layer_tokens is None:
            return
        if layer_tokens.ndim not in (3, 4) or layer_tokens.shape[-1] != width or not len(layer_tokens):
            raise UsageError(f"layer_tokens must be of shape [d, (P,) n, {width}], not {list(layer_tokens.shape)}")
        if first_block < 1 or first_block - 1 + len(layer_tokens) > depth:
            raise UsageError(
                f"{len(layer_tokens)} layers of tokens from block {first_block} on do not fit into {depth} blocks"
            )
