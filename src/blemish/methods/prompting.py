"""Prompts whose first words are learned: context vectors in the places of placeholders, before, within or after a name.

Zhou, Yang, Loy, Liu: "Learning to Prompt for Vision-Language Models", IJCV 2022, arXiv 2109.01134.
P prompts, n context vectors, S sequence length, W text width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from blemish.backbones.text import TextTower
from blemish.backbones.tokenizer import default_tokenizer, tokenize
from blemish.errors import UsageError

__all__ = ["NamePosition", "Template", "embed_words", "template_of"]

NamePosition = Literal["end", "middle", "front"]
PLACEHOLDER = "X"  # one token


@dataclass(frozen=True)
class Template:
    """Prompts with placeholders for the context: "X X … X name."."""

    ids: Tensor  # [P, 77], token ids: start, placeholders, name, full stop, end, zeros
    embedded: Tensor  # [P, 77, W], their embeddings without positions
    ends: Tensor  # [P], the positions of the ends of text
    name_lengths: tuple[int, ...]  # tokens of each name, without the full stop

    def filled(self, context: Tensor, *, position: NamePosition = "end") -> Tensor:
        """The prompts [..., P, 77, W] with context [..., P, n, W] in the placeholders' places; the ends stay where they are."""
        n, leading = context.shape[-2], context.shape[:-3]
        prompts = []
        for row, length in enumerate(self.name_lengths):
            parts = torch.split(self.embedded[row], [1 + n, length, self.embedded.shape[1] - 1 - n - length])
            start, name, rest = (part.expand(*leading, -1, -1) for part in parts)
            start, own = start[..., :1, :], context[..., row, :, :]
            before = {"end": n, "middle": n // 2, "front": 0}[position]  # context vectors before the name
            prompts.append(torch.cat([start, own[..., :before, :], name, own[..., before:, :], rest], dim=-2))
        return torch.stack(prompts, dim=-3)


def template_of(tower: TextTower, names: Sequence[str], *, context_tokens: int) -> Template:
    """The template of these names; UsageError where one is too long beside the context."""
    lengths = tuple(len(default_tokenizer().encode(name)) for name in names)
    room = tower.config.context_length - 3 - context_tokens  # start, full stop and end
    for name, length in zip(names, lengths, strict=True):
        if length > room:
            raise UsageError(
                f"beside {context_tokens} context tokens a prompt has room for {max(room, 0)}, and {name!r} has {length}; "
                "shorten it, or take less context"
            )
    texts = [f"{PLACEHOLDER} " * context_tokens + f"{name}." for name in names]
    ids = torch.from_numpy(tokenize(texts, context_length=tower.config.context_length))
    ids = ids.to(tower.token_embedding.weight.device)
    return Template(ids, tower.embed(ids).detach(), ids.argmax(-1), lengths)


def embed_words(tower: TextTower, text: str) -> Tensor:
    """The embeddings [n, W] of a text's tokens, without start and end."""
    ids = torch.tensor([default_tokenizer().encode(text)], device=tower.token_embedding.weight.device)
    return tower.embed(ids)[0].detach()
