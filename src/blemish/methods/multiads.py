"""MultiADS: ensembles of written prompts for normal and every defect type, one linear adapter a level. The baseline of DAPO.

Sadikaj, Zhou, Halilaj, Schmid, Staab, Plant: "MultiADS: Defect-aware Supervision for Multi-type Anomaly Detection and
Segmentation in Zero-Shot Learning", ICCV 2025, arXiv 2504.06740. docs/dapo.md says where we follow the released code.

B batch, N patches, D joint width, T defect types.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blemish.backbones import fast
from blemish.backbones.model import Clip
from blemish.errors import UsageError
from blemish.io.codec import to_dict
from blemish.language import DefectType, Vocabulary
from blemish.methods.base import Features, Losses, Method, Scores, Targets, Texts
from blemish.methods.naming import direction
from blemish.methods.patches import reference_maps
from blemish.methods.text_cache import TextCache
from blemish.methods.typed import (
    ImageTyping,
    Softmax,
    Words,
    anomaly_map,
    level_logits,
    local_losses,
    probabilities,
    type_scores,
    words_of,
)

__all__ = ["MultiADS", "MultiADSConfig", "phrases"]

HIGHEST = 3  # patches that make the released image score


@dataclass(frozen=True, kw_only=True)
class MultiADSConfig:
    """Options of MultiADS; the defaults are the released code's."""

    object_name: str = "object"  # the product in the phrases; the authors give each product its own
    words: Words = "name"  # a type's phrases say its "name", or "all" its wordings: synonyms and sentence, too

    temperature: float = 0.01  # of the softmax over the classes, above 0
    softmax: Softmax = "after"  # the softmax comes "before" or "after" the logits are enlarged to the input's size
    align_corners: bool = True  # enlarge_maps with the outer patches' centres on the border
    # top3: the mean of the map's three highest values (in the release scaled to 0..1 over the test set); global: 1 - p(normal)
    # of CLS; global+map: its mean with the map's maximum (the authors' script with filtered texts)
    image_score: Literal["top3", "global+map", "global"] = "top3"
    image_typing: ImageTyping = "places"  # how an image's types are scored, see `typed.type_scores`
    typing_share: float = 0.005  # 0..1, of all patches, the most anomalous ones that count there

    dice: bool = True  # beside focal; the authors' multi-type script trains with focal alone

    def __post_init__(self) -> None:
        if self.temperature <= 0 or not 0 < self.typing_share <= 1:
            raise UsageError("temperature is above 0, and typing_share lies in 0..1 without 0")
        if not self.object_name.strip():
            raise UsageError("object_name must not be empty")


@dataclass(frozen=True)
class MultiADSTexts(Texts):
    """The texts of normal and of each type, of length 1."""

    states: Tensor  # [1 + T, D]: normal, then the vocabulary's types


class MultiADS(Method):
    """At every patch of every level: the softmax over normal and the vocabulary's types of cosine / temperature.

    Texts are frozen; only the adapters are trained, so that what the image tower sees can be kept.
    """

    name = "multiads"
    config_type = MultiADSConfig
    recipe: ClassVar[Mapping[str, Any]] = {"epochs": 10, "batch_size": 4, "seed": 42}
    scoring_options = frozenset(
        {
            "image_score",
            "image_typing",
            "typing_share",
            "temperature",
            "softmax",
            "align_corners",
            "words",
            "object_name",
        }
    )

    def __init__(self, backbone: Clip, config: MultiADSConfig | None = None) -> None:
        super().__init__(backbone, config or MultiADSConfig())
        self.config: MultiADSConfig
        shape = backbone.config
        self.adapters = nn.ModuleList(nn.Linear(shape.vision.width, shape.joint_width) for _ in shape.levels)

    def frozen_key(self) -> str:
        # the same features as APRIL-GAN's, kept once for both; no option decides what the tower sees
        return f"aprilgan backbone {tuple(sorted(self.backbone.config.levels))}"

    def encode(self, images: Tensor, *, compare: bool = False) -> Features:
        """CLS in the joint space [B, D], normalised, and the raw patches of each level [B, N, Wv]."""
        tower, levels = self.backbone.image, sorted(self.backbone.config.levels)
        last = levels[-1] == self.backbone.config.vision.depth
        seen = fast.image_features(tower, tower.embed(images), levels=levels, patches=last)
        return Features(
            global_feature=F.normalize(tower.project(seen.tokens[:, 0]), dim=-1),
            levels=tuple(seen.levels[level][:, 1:] for level in levels),
            grid=seen.grid,
            reference_maps=reference_maps(seen, tuple(levels)) if compare else (),
        )

    def text_key(self) -> tuple[str, torch.device]:
        """Nothing in the texts is trained."""
        decided_by = json.dumps([self.name, to_dict(self.config), self.backbone.fingerprint()], sort_keys=True)
        return decided_by, self.backbone.logit_scale.device

    @classmethod
    def example_prompt(cls, defect: DefectType) -> str:
        texts = phrases("typed", words_of(defect, MultiADSConfig().words))
        return f'{len(texts)} phrases, as "{texts[len(texts) // 2].replace("{}", "object")}"'

    def compute_texts(self, vocabulary: Vocabulary, cache: TextCache) -> MultiADSTexts:
        key = self.text_key()
        normal = cache.features(["normal"], lambda _: self._encode(phrases("normal")), decided_by=key)
        types = cache.features(vocabulary.types, self._encode_types, decided_by=key)
        return MultiADSTexts(vocabulary, torch.cat([normal, types]))

    def maps(self, features: Features, texts: MultiADSTexts, *, size: tuple[int, int] | None = None) -> Tensor:
        """The probabilities of normal and every type [B, L, 1 + T, h, w], on the patch grid or at another size."""
        config = self.config
        return torch.stack(
            [
                probabilities(logits, softmax=config.softmax, size=size, align_corners=config.align_corners)
                for logits in self._logits(features, texts.states)
            ],
            dim=1,
        )

    def score(self, features: Features, texts: Texts) -> Scores:
        assert isinstance(texts, MultiADSTexts)
        config = self.config
        logits = self._logits(features, texts.states)
        typed = torch.stack([level.softmax(1)[:, 1:] for level in logits]).mean(
            0
        )  # L times [B, C, h, w] -> [B, T, h, w]
        cell_px = self.backbone.config.vision.patch_px
        size = (features.grid[0] * cell_px, features.grid[1] * cell_px)
        abnormal = anomaly_map(
            logits, softmax=config.softmax, size=size, align_corners=config.align_corners
        )  # [B, S, S]
        cosines = features.global_feature @ texts.states.T  # [B, 1 + T]
        image_score = self._image_score(abnormal.flatten(1), cosines)
        scores = type_scores(
            typed.flatten(2),
            cosines[:, 1:],
            image_score,
            typing=config.image_typing,
            temperature=config.temperature,
            share=config.typing_share,
        )
        return Scores(image_score, abnormal, types=texts.types, type_scores=scores, type_maps=typed)

    def loss(
        self, features: Features, targets: Targets, vocabulary: Vocabulary, *, cache: TextCache | None = None
    ) -> Losses:
        """The mean over levels of (focal + dice of abnormal) / 2, or of focal alone."""
        config, count = self.config, len(features.levels)
        with torch.no_grad():
            texts = self.compute_texts(vocabulary, cache or TextCache())
        losses = local_losses(
            self._logits(features, texts.states),
            targets,
            softmax=config.softmax,
            align_corners=config.align_corners,
        )
        terms = {"focal": losses["focal"] / count}
        if not config.dice:
            return Losses(terms["focal"], terms)
        terms["dice_abnormal"] = losses["dice_abnormal"] / count
        return Losses((terms["focal"] + terms["dice_abnormal"]) / 2, terms)

    def _image_score(self, abnormal: Tensor, cosines: Tensor) -> Tensor:
        """The image score [B] from the anomaly map's pixels [B, S S] and the cosines of CLS with all texts [B, 1 + T]."""
        if self.config.image_score == "top3":
            return abnormal.topk(HIGHEST, dim=1).values.mean(1)
        score = 1 - (cosines / self.config.temperature).softmax(1)[:, 0]
        return score if self.config.image_score == "global" else (score + abnormal.amax(1)) / 2

    def _logits(self, features: Features, texts: Tensor) -> tuple[Tensor, ...]:
        patches = [
            F.normalize(adapter(level), dim=-1) for adapter, level in zip(self.adapters, features.levels, strict=True)
        ]
        return level_logits(patches, texts, grid=features.grid, temperature=self.config.temperature)

    def _encode_types(self, types: Sequence[DefectType]) -> Tensor:
        return torch.cat([self._encode(phrases("typed", words_of(defect, self.config.words))) for defect in types])

    def _encode(self, texts: Sequence[str]) -> Tensor:
        return direction(self.backbone, texts, object_name=self.config.object_name)[None]  # [1, D]


def phrases(state: Literal["normal", "typed"], words: Sequence[str] = ()) -> list[str]:
    """Every phrasing of normal, or of a type with these words, in every template; {} stands where the product's name goes."""
    data = _data()
    states = data[state]
    if state == "typed":
        states = [text.replace("{defect}", word) for text in states for word in words]
    return [template.replace("{}", text) for template in data["templates"] for text in states]


@cache
def _data() -> dict[str, list[str]]:
    return tomllib.loads((resources.files(__package__) / "multiads.toml").read_text(encoding="utf-8"))
