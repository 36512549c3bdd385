"""Zero-shot anomaly detection by an ensemble of written prompts, without training.

Normal and abnormal states are put into words as WinCLIP does (Jeong et al., CVPR 2023, section 4.1); many phrasings are encoded
and averaged into one direction each. Instead of WinCLIP's windows, patch features come from the value-value path (Zhou et al.,
AnomalyCLIP, ICLR 2024; Li et al., CLIP Surgery), which keeps them apart at the cost of one forward pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from blemish.backbones.model import Clip
from blemish.language import Vocabulary
from blemish.methods.base import Features, Method, Scores, Texts
from blemish.methods.naming import direction, phrases, share_out, type_directions
from blemish.methods.patches import value_value_features
from blemish.methods.text_cache import TextCache

__all__ = ["EnsembleConfig", "PromptEnsemble"]


@dataclass(frozen=True)
class EnsembleConfig:
    """Options of the prompt ensemble."""

    object_name: str = "object"  # what stands for the product in the phrases
    temperature: float = 0.07  # of the softmax over states and over types, as in AnomalyCLIP, FAPrompt and DAPO
    top_share: float = 0.005  # 0..1, of the patches, the highest ones whose mean stands for the map in the image score
    global_weight: float = 0.5  # 0..1, of the probability of CLS in the image score; the rest is the map's


@dataclass(frozen=True)
class EnsembleTexts(Texts):
    """The directions that patches are compared with, each of length 1."""

    states: Tensor  # [2, D]: normal, abnormal
    defects: Tensor  # [T, D]


class PromptEnsemble(Method):
    """p(abnormal) = softmax over {normal, abnormal} of cosine / temperature, at every patch and for the image.

    At a patch it is the mean over the backbone's levels, as AnomalyCLIP and DAPO add theirs up; types are read from the last.
    Types share this probability: a type's map is p(abnormal) times the softmax over the vocabulary's types, so that the score
    and its threshold do not depend on which names are asked for.
    """

    name = "ensemble"
    config_type = EnsembleConfig
    scores_depend_on_vocabulary = False

    def __init__(self, backbone: Clip, config: EnsembleConfig | None = None) -> None:
        super().__init__(backbone, config or EnsembleConfig())
        self.config: EnsembleConfig

    def compute_texts(self, vocabulary: Vocabulary, cache: TextCache) -> EnsembleTexts:
        name, key = self.config.object_name, self.text_key()

        def encode_states(states: Sequence[str]) -> Tensor:
            return torch.stack([direction(self.backbone, phrases(state), object_name=name) for state in states])

        return EnsembleTexts(
            vocabulary,
            states=cache.features(["normal", "abnormal"], encode_states, decided_by=key),
            defects=type_directions(self.backbone, vocabulary, object_name=name, cache=cache, decided_by=key),
        )

    def encode(self, images: Tensor, *, compare: bool = False) -> Features:
        return value_value_features(self.backbone, images, compare=compare)

    def score(self, features: Features, texts: Texts) -> Scores:
        assert isinstance(texts, EnsembleTexts)
        levels, temperature = features.levels, self.config.temperature
        image_abnormal = (features.global_feature @ texts.states.T / temperature).softmax(-1)[:, 1]  # [B]
        by_level = [(patches @ texts.states.T / temperature).softmax(-1)[..., 1] for patches in levels]
        abnormal = torch.stack(by_level).mean(0)  # L times [B, N] -> [B, N]
        top = max(1, round(self.config.top_share * int(abnormal.shape[1])))
        highest = abnormal.topk(top, dim=1).values.mean(1)  # [B]
        weight = self.config.global_weight
        image_score = weight * image_abnormal + (1 - weight) * highest
        type_scores, typed = share_out(
            abnormal, levels[-1], types=texts.defects, temperature=temperature, image_score=image_score, top=top
        )
        return Scores(
            image_score=image_score,
            anomaly_map=abnormal.reshape(-1, *features.grid),
            types=texts.types,
            type_scores=type_scores,
            type_maps=typed.reshape(*typed.shape[:2], *features.grid),
        )
