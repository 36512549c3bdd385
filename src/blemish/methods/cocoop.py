"""CoCoOp as a zero-shot anomaly detector: CoOp's shared context, shifted for each image by a small network.

Zhou, Yang, Loy, Liu: "Conditional Prompt Learning for Vision-Language Models", CVPR 2022, arXiv 2203.05557. docs/coop.md says
what is CoCoOp's and what is ours. B batch, D joint width, W text width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from blemish.backbones.model import Clip
from blemish.language import Vocabulary
from blemish.methods.base import Features, Release
from blemish.methods.coop import CoOp, CoOpConfig, CoOpTexts, read_context
from blemish.methods.naming import type_directions
from blemish.methods.products import product_words
from blemish.methods.text_cache import TextCache

__all__ = ["CoCoOp", "CoCoOpConfig", "MetaNetwork"]

HIDDEN_SHARE = 16  # the hidden layer is so many times narrower than the joint space


@dataclass(frozen=True, kw_only=True)
class CoCoOpConfig(CoOpConfig):
    """Options of CoCoOp as a detector: those of CoOp, with the authors' shorter context that starts from words."""

    context_tokens: int = 4
    start: str = "a photo of a"


class CoCoOp(CoOp):
    """As CoOp, but each image has its own two texts: a network turns its global feature into a shift of the whole context."""

    name = "cocoop"
    config_type: ClassVar[type] = CoCoOpConfig

    def __init__(self, backbone: Clip, config: CoCoOpConfig | None = None) -> None:
        super().__init__(backbone, config)
        self.meta_net = MetaNetwork(backbone.config.joint_width, backbone.config.text.width)

    @classmethod
    def from_release(cls, state: Mapping[str, Tensor]) -> Release | None:
        """What a checkpoint of the authors' trainer holds; None where it is not one of CoCoOp.

        Args:
            state: Its tensors, with or without the prefix `prompt_learner.`

        Raises:
            ModelError: Its context is of other classes than normal and abnormal.
        """
        names = [f"meta_net.{layer}.{part}" for layer in ("linear1", "linear2") for part in ("weight", "bias")]
        return read_context(state, others=names, method="CoCoOp")

    def states(self, features: Features, texts: CoOpTexts) -> Tensor:
        del texts  # each image has its own
        return self.states_for(features.global_feature)

    def states_for(self, images: Tensor, *, product: str = "") -> Tensor:
        return F.normalize(self.embed_states(self.meta_net(images), product=product), dim=-1)

    def compute_texts(self, vocabulary: Vocabulary, cache: TextCache) -> CoOpTexts:
        name = product_words(self.config.object_name, underscores="blank")
        defects = type_directions(self.backbone, vocabulary, object_name=name, cache=cache, decided_by=self.text_key())
        return CoOpTexts(vocabulary, states=defects[:0], defects=defects)


class MetaNetwork(nn.Module):
    """Two linear layers with a ReLU between: features [B, D] of length 1 -> shifts of the context [B, W]."""

    def __init__(self, joint_width: int, text_width: int) -> None:
        super().__init__()
        hidden = max(1, joint_width // HIDDEN_SHARE)
        self.linear1 = nn.Linear(joint_width, hidden)
        self.linear2 = nn.Linear(hidden, text_width)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear2(self.linear1(x).relu())
