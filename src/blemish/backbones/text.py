"""CLIP's text tower: from token ids or token embeddings, with a method's own tokens between the blocks.

P prompts, S sequence length, W tower width, D joint width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from blemish.backbones import fast
from blemish.backbones.config import TextConfig
from blemish.backbones.layers import BeforeBlock, TokenEmbedding, build_blocks, draw, random_parameter
from blemish.errors import UsageError

__all__ = ["TextTower"]


class TextTower(nn.Module):
    """A transformer over token embeddings that answers with one vector of the joint space for each prompt."""

    def __init__(self, config: TextConfig, joint_width: int) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.token_embedding = TokenEmbedding(config.vocabulary_size, width)
        self.position_embedding = random_parameter(config.context_length, width, std=0.01)
        self.blocks = build_blocks(
            width, config.depth, config.heads, mlp_ratio=config.mlp_ratio, activation=config.activation
        )
        self.ln_final = nn.LayerNorm(width)
        self.projection = random_parameter(width, joint_width, std=width**-0.5)
        draw(self.token_embedding.weight, std=0.02)

    def embed(self, token_ids: Tensor) -> Tensor:
        """The embeddings [P, S, W] of token ids [P, S], without positions."""
        return self.token_embedding(token_ids).to(self.position_embedding.dtype)

    def encode(self, token_ids: Tensor) -> Tensor:
        """The joint vectors [P, D], not normalised, of token ids [P, S] as the tokenizer makes them."""
        end = token_ids.argmax(dim=-1)  # end of text is the largest id of the vocabulary
        used = int(end.max()) + 1  # under the causal mask nothing behind it is seen
        return fast.text_features(self, self.embed(token_ids[:, :used]), pool_at=end)

    def forward(
        self, embeddings: Tensor, *, pool_at: Tensor, before_block: BeforeBlock | None = None, causal: bool = True
    ) -> Tensor:
        """The joint vectors [P, D], not normalised; `fast.text_features` is the same, faster.

        Args:
            embeddings: Token embeddings [P, S, W] without positions.
            pool_at: The position [P] that is read after the last block.
            before_block: Called with each block's index and stream: where a method puts tokens of its own.
            causal: CLIP's own attention; without, every position sees all others.
        """
        self.check(embeddings.shape)
        x = embeddings + self.position_embedding[: embeddings.shape[1]]  # [P, S, W]
        for index, block in enumerate(self.blocks):
            if before_block is not None:
                x = before_block(index, x)
            x = block(x, causal=causal)
        read = x[torch.arange(len(x), device=x.device), pool_at]  # [P, S, W] -> [P, W]
        return self.ln_final(read) @ self.projection  # [P, W] -> [P, D]

    def check(self, shape: torch.Size) -> None:
        """UsageError where the tower does not take embeddings of this shape."""
        width, context = self.config.width, self.config.context_length
        if len(shape) != 3 or shape[2] != width or shape[1] > context:
            raise UsageError(f"the text tower takes embeddings [P, up to {context}, {width}], not {list(shape)}")
