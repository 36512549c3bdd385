"""AnomalyCLIP: two prompts that name no product, one for normal and one for abnormal, on a frozen CLIP.

Zhou, Pang, Tian, He, Chen: "AnomalyCLIP: Object-agnostic Prompt Learning for Zero-shot Anomaly Detection", ICLR 2024,
arXiv 2310.18961. docs/anomalyclip.md reads the paper beside this file, and lists where the released code differs from it; every
such difference is an option of `AnomalyCLIPConfig`.

B batch, N patches, L levels, D joint width, W text width, E context tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blemish.backbones import fast
from blemish.backbones.model import Clip
from blemish.backbones.vision import Interpolation
from blemish.errors import ModelError, UsageError
from blemish.language import Vocabulary
from blemish.methods.base import Features, Losses, Method, Release, Scores, Targets, Texts
from blemish.methods.naming import share_out, type_directions
from blemish.methods.patches import value_value_features
from blemish.methods.prompting import Template, template_of
from blemish.methods.smoothing import smooth_enlarge
from blemish.methods.text_cache import TextCache
from blemish.methods.tokens import inserted_tokens, overwriting_tokens
from blemish.methods.typed import level_logits, local_losses

__all__ = ["AnomalyCLIP", "AnomalyCLIPConfig", "AnomalyCLIPTexts"]

INITIAL_STD = 0.02  # of all learned tokens
CONTEXTS = {"normal_context": "ctx_pos", "abnormal_context": "ctx_neg"}  # our names: the release's
DEEP = "compound_prompts_text."
UNUSED = (
    "compound_prompt_projections.",
    "token_prefix_",
    "token_suffix_",
    "tokenized_prompts_",
)  # by the release, or frozen


@dataclass(frozen=True, kw_only=True)
class AnomalyCLIPConfig:
    """Options of AnomalyCLIP; the defaults are what the authors trained and evaluated.

    Prompts. context_tokens: E, learned, for each of the two prompts. deep_tokens: learned tokens in each of deep_blocks (first
    and last text block, 1-based; None: the backbone's, 2 to 9 of 12). placement: they "overwrite" the positions behind the
    start of text (released), or are "insert"ed there, as the paper's text has it. round_deep_tokens: to float16, as the release
    does.

    Features. levels: the "last" block's patch features (the released weights, see docs/anomalyclip.md), or all of the
    "backbone"'s levels. cls_norm: whether CLS passes the tower's last layer norm. position_interpolation: of the image tower's
    positions.

    Scores. temperature: of both softmaxes. smoothing: the Gaussian's sigma in patches (4 px of 14 px patches). image_score:
    "cls" (released), or "cls+map", its mean with the map's maximum. typing_share: the share of highest patches that decides the
    types' scores.

    Losses. local_loss: the weight of the pixel losses beside the cross-entropy of the image.
    """

    context_tokens: int = 12
    deep_tokens: int = 4
    deep_blocks: tuple[int, int] | None = None
    placement: Literal["overwrite", "insert"] = "overwrite"
    round_deep_tokens: bool = False
    object_name: str = "object"
    abnormal_word: str = "damaged"

    levels: Literal["last", "backbone"] = "last"
    cls_norm: bool = False
    position_interpolation: Interpolation = "bilinear"

    temperature: float = 0.07
    smoothing: float = 4 / 14
    image_score: Literal["cls", "cls+map"] = "cls"
    typing_share: float = 0.005

    local_loss: float = 4.0

    def __post_init__(self) -> None:
        if self.context_tokens < 1 or self.deep_tokens < 0:
            raise UsageError("context_tokens must be at least 1, and deep_tokens must not be negative")
        if self.temperature <= 0 or self.smoothing < 0 or not 0 < self.typing_share <= 1 or self.local_loss < 0:
            raise UsageError(
                "temperature is above 0, typing_share in 0..1 without 0; smoothing and local_loss must not be negative"
            )


@dataclass(frozen=True)
class AnomalyCLIPTexts(Texts):
    """The directions that features are compared with, each of length 1."""

    states: Tensor  # [2, D]: normal, abnormal
    defects: Tensor  # [T, D]: the vocabulary's types, from written prompts


class AnomalyCLIP(Method):
    """p(abnormal) = softmax over {normal, abnormal} of cosine / temperature, of each patch and of the image.

    The texts are "[V1] … [VE] object." and "[W1] … [WE] damaged object." with learned V and W, and learned tokens in some blocks
    of the text tower, the same for both. With several levels the map is their mean (the authors' sum divided by L).
    """

    name = "anomalyclip"
    config_type = AnomalyCLIPConfig
    scoring_options = frozenset({"temperature", "smoothing", "image_score", "typing_share"})
    scores_depend_on_vocabulary = False
    recipe: ClassVar[Mapping[str, Any]] = {"epochs": 15}

    def __init__(self, backbone: Clip, config: AnomalyCLIPConfig | None = None) -> None:
        super().__init__(backbone, config or AnomalyCLIPConfig())
        self.config: AnomalyCLIPConfig
        config, text = self.config, backbone.config.text
        first, last = config.deep_blocks or backbone.config.deep_text_blocks
        if not 1 <= first <= last <= text.depth:
            raise UsageError(f"deep_blocks {[first, last]} are outside 1..{text.depth}")
        self.deep_blocks = (first, last)
        self.normal_context = _tokens(config.context_tokens, text.width)  # V
        self.abnormal_context = _tokens(config.context_tokens, text.width)  # W
        deep = config.deep_tokens
        self.deep_tokens = _tokens(last - first + 1, deep, text.width) if deep else None

    @classmethod
    def from_release(cls, state: Mapping[str, Tensor]) -> Release | None:
        """What a checkpoint of the authors' code holds; None where it is not one of AnomalyCLIP.

        Frozen buffers and the projections that the authors' code never uses are left behind.

        Args:
            state: Its tensors, with or without the prefix `prompt_learner.`

        Raises:
            ModelError: It lacks a part, or the parts do not fit together.
        """
        plain = {name.removeprefix("prompt_learner."): tensor for name, tensor in state.items()}
        deep = [name for name in plain if name.startswith(DEEP)]
        expected = [*CONTEXTS.values(), *(f"{DEEP}{index}" for index in range(len(deep)))]
        foreign = [name for name in plain if not name.startswith((*CONTEXTS.values(), DEEP, *UNUSED))]
        if foreign or not all(name in plain for name in CONTEXTS.values()):
            return None
        normal, abnormal = (plain[name].float() for name in CONTEXTS.values())
        if normal.shape != abnormal.shape or normal.ndim != 4 or normal.shape[:2] != (1, 1):
            raise ModelError(
                "expected ctx_pos and ctx_neg of AnomalyCLIP, both [1, 1, tokens, width], found "
                f"{list(normal.shape)} and {list(abnormal.shape)}"
            )
        if lacking := [name for name in expected if name not in plain]:
            raise ModelError(f"the prompts of AnomalyCLIP lack {', '.join(lacking)}")
        parts = {"normal_context": normal[0, 0], "abnormal_context": abnormal[0, 0]}
        options: dict[str, Any] = {"context_tokens": normal.shape[2], "deep_tokens": 0, "round_deep_tokens": True}
        if deep:
            matrices = [plain[f"{DEEP}{index}"].float() for index in range(len(deep))]
            if {tuple(matrix.shape) for matrix in matrices} != {(len(matrices[0]), normal.shape[3])}:
                raise ModelError(f"expected {DEEP}0 to {len(deep) - 1} of one shape, [tokens, {normal.shape[3]}]")
            parts["deep_tokens"] = torch.stack(matrices)
            options |= {"deep_tokens": len(matrices[0]), "deep_blocks": (2, 1 + len(deep))}
        return Release(f"AnomalyCLIP prompts for a text tower of width {normal.shape[3]}", options, parts)

    def frozen_key(self) -> str:
        config = self.config  # the same features as FAPrompt's, kept once for both
        return f"faprompt {config.levels} {config.cls_norm} {config.position_interpolation}"

    def encode(self, images: Tensor, *, compare: bool = False) -> Features:
        """CLS [B, D] and the value-value patch features [B, N, D] in the joint space, each of length 1."""
        config = self.config
        return value_value_features(
            self.backbone,
            images,
            all_levels=config.levels == "backbone",
            cls_norm=config.cls_norm,
            interpolation=config.position_interpolation,
            compare=compare,
        )

    def template(self) -> Template:
        """The prompts of normal and abnormal with placeholders."""
        config = self.config
        names = [config.object_name, f"{config.abnormal_word} {config.object_name}"]
        return template_of(self.backbone.text, names, context_tokens=config.context_tokens)

    def embed_prompts(self) -> Tensor:
        """The prompts [2, 77, W] of normal and abnormal before the text tower, without positions."""
        return self.template().filled(torch.stack([self.normal_context, self.abnormal_context]))

    def embed_states(self) -> Tensor:
        """Normal and abnormal [2, D] in the joint space, not normalised."""
        config, ends, first = self.config, self.template().ends, self.deep_blocks[0] - 1
        deep, rounded = cast("Tensor | None", self.deep_tokens), config.round_deep_tokens
        if config.placement == "insert":  # to the end, where they move what is read
            used, pool_at = int(ends.max()) + 1, ends + config.deep_tokens
            before_block = inserted_tokens(deep, first=first, round_to_half=rounded)
        else:
            used, pool_at = max(int(ends.max()), config.deep_tokens) + 1, ends
            before_block = overwriting_tokens(deep, first=first, round_to_half=rounded)
        prompts = self.embed_prompts()[:, :used]  # under the causal mask nothing else is seen
        return fast.text_features(self.backbone.text, prompts, pool_at=pool_at, before_block=before_block)

    def compute_texts(self, vocabulary: Vocabulary, cache: TextCache) -> AnomalyCLIPTexts:
        key = self.text_key()

        def encode_states(states: Sequence[str]) -> Tensor:
            both = dict(zip(("normal", "abnormal"), F.normalize(self.embed_states(), dim=-1), strict=True))
            return torch.stack([both[state] for state in states])

        return AnomalyCLIPTexts(
            vocabulary,
            states=cache.features(["normal", "abnormal"], encode_states, decided_by=key),
            defects=type_directions(
                self.backbone, vocabulary, object_name=self.config.object_name, cache=cache, decided_by=key
            ),
        )

    def image_logits(self, features: Features, states: Tensor) -> Tensor:
        """The logits [B, 2] of the image with the states [2, D]."""
        return features.global_feature @ states.T / self.config.temperature

    def score(self, features: Features, texts: Texts) -> Scores:
        assert isinstance(texts, AnomalyCLIPTexts)
        config = self.config
        by_level = self._level_logits(features, texts.states)
        abnormal = torch.stack([logits.softmax(1)[:, 1] for logits in by_level]).mean(0)  # [B, h, w]
        anomaly_map = smooth_enlarge(
            abnormal, cell_px=self.backbone.config.vision.patch_px, sigma_cells=config.smoothing
        )
        image_score = self.image_logits(features, texts.states).softmax(-1)[:, 1]
        if config.image_score == "cls+map":
            image_score = (image_score + anomaly_map.flatten(1).amax(1)) / 2
        type_scores, typed = share_out(
            abnormal.flatten(1),
            features.levels[-1],
            types=texts.defects,
            temperature=config.temperature,
            image_score=image_score,
            top=max(1, round(config.typing_share * int(abnormal[0].numel()))),
        )
        return Scores(
            image_score=image_score,
            anomaly_map=anomaly_map,
            types=texts.types,
            type_scores=type_scores,
            type_maps=typed.reshape(*typed.shape[:2], *features.grid),
        )

    def loss(
        self, features: Features, targets: Targets, vocabulary: Vocabulary, *, cache: TextCache | None = None
    ) -> Losses:
        """local_loss · Σ over levels (focal + dice of abnormal + dice of normal) + cross-entropy of the image."""
        del vocabulary, cache  # its prompts know normal and abnormal only
        states = F.normalize(self.embed_states(), dim=-1)
        terms = local_losses(
            self._level_logits(features, states), replace(targets, type_id=None), softmax="before", align_corners=False
        )
        local = sum(terms.values(), torch.zeros(()))
        terms["image_cross_entropy"] = F.cross_entropy(self.image_logits(features, states), targets.label.long())
        return Losses(self.config.local_loss * local + terms["image_cross_entropy"], terms)

    def _level_logits(self, features: Features, states: Tensor) -> tuple[Tensor, ...]:
        return level_logits(features.levels, states, grid=features.grid, temperature=self.config.temperature)


def _tokens(*shape: int) -> nn.Parameter:
    return nn.Parameter(INITIAL_STD * torch.randn(*shape))
