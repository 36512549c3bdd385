"""Names for what a binary method found: at every patch, its anomaly probability shared out among the defect types.

For methods whose prompts know only normal and abnormal. The words of each type are put into the frozen text tower, and the
share of a type at a patch is the softmax over types of cosine / temperature. So the names that a user asks for never move a
score. B batch, N patches, D joint width, T defect types.
"""

from __future__ import annotations

import tomllib
from collections.abc import Hashable, Sequence
from functools import cache
from importlib import resources

import torch
import torch.nn.functional as F
from torch import Tensor

from blemish.backbones.model import Clip
from blemish.backbones.tokenizer import tokenize
from blemish.language import DefectType, Vocabulary
from blemish.methods.text_cache import TextCache

__all__ = ["direction", "phrases", "share_out", "type_directions"]


def share_out(
    abnormal: Tensor, patches: Tensor, *, types: Tensor, temperature: float, image_score: Tensor, top: int
) -> tuple[Tensor, Tensor]:
    """Scores [B, T] and maps [B, T, N] of types whose directions are [T, D].

    abnormal [B, N] is the anomaly probability of patches [B, N, D], normalised. A map is abnormal times the type's share; the
    scores are the maps' means over the `top` most abnormal patches, scaled to add up to image_score [B].
    """
    share = (patches @ types.T / temperature).softmax(-1)  # [B, N, T]
    maps = (abnormal[..., None] * share).transpose(1, 2)  # [B, T, N]
    highest = abnormal.topk(top, dim=1).indices  # [B, top]
    strongest = maps.gather(2, highest[:, None].expand(-1, maps.shape[1], -1)).mean(2)  # [B, T]
    return strongest / strongest.sum(1, keepdim=True).clamp_min(1e-9) * image_score[:, None], maps


def type_directions(
    clip: Clip, vocabulary: Vocabulary, *, object_name: str = "object", cache: TextCache, decided_by: Hashable
) -> Tensor:
    """The directions [T, D] of a vocabulary's types, each from all its words in many phrasings, by way of the cache."""

    def encode(types: Sequence[DefectType]) -> Tensor:
        return torch.stack([direction(clip, phrases("typed", defect), object_name=object_name) for defect in types])

    return cache.features(vocabulary.types, encode, decided_by=decided_by)


def direction(clip: Clip, texts: Sequence[str], *, object_name: str = "object") -> Tensor:
    """The mean direction [D] of many phrasings with {} for the object: each encoded and normalised, averaged, normalised."""
    ids = torch.from_numpy(tokenize([text.replace("{}", object_name) for text in texts]))
    encoded = F.normalize(clip.text.encode(ids.to(clip.text.projection.device)), dim=-1)
    return F.normalize(encoded.mean(0), dim=-1)


def phrases(state: str, defect: DefectType | None = None) -> list[str]:
    """Every phrasing of a state ("normal", "abnormal", or "typed" with a defect), with {} where the object's name goes."""
    data = _data()
    states, templates = data[state], data["templates"]
    if defect is not None:
        states = [text.replace("{defect}", word) for text in states for word in defect.words]
        templates = data["typed_templates"]
    return [template.replace("{}", text) for template in templates for text in states]


@cache
def _data() -> dict[str, list[str]]:
    return tomllib.loads((resources.files(__package__) / "phrases.toml").read_text(encoding="utf-8"))
