"""CoOp as a zero-shot anomaly detector: learned context before the words "normal …" and "anomalous …" on a frozen CLIP.

Zhou, Yang, Loy, Liu: "Learning to Prompt for Vision-Language Models", IJCV 2022, arXiv 2109.01134. An image classifier, which
later papers print as a baseline of anomaly detection without releasing how; docs/coop.md says what is CoOp's and what is ours.

B batch, N patches, D joint width, W text width, n context tokens.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Self

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
from blemish.methods.patches import reference_maps, value_value_features
from blemish.methods.products import product_words
from blemish.methods.prompting import NamePosition, Template, embed_words, template_of
from blemish.methods.smoothing import smooth_enlarge
from blemish.methods.text_cache import TextCache
from blemish.methods.typed import level_logits, local_losses

__all__ = ["CoOp", "CoOpConfig", "CoOpTexts", "read_context"]

INITIAL_STD = 0.02  # of the context where no words start it
FROZEN = ("token_prefix", "token_suffix")  # of a checkpoint; they follow from the names
STATES = ("normal", "abnormal")


@dataclass(frozen=True, kw_only=True)
class CoOpConfig:
    """Options of CoOp as a detector.

    Prompts. context_tokens: n. class_specific: normal and abnormal have a context each; otherwise they share one, and the prompts
    differ in one word. start: words that the context starts from, as many tokens as context_tokens; "" starts from noise.
    name_position: the name stands at the "end", in the "middle" of the context, or at its "front". normal_word and abnormal_word
    stand before object_name, the product ("_" becomes a blank); "" for the data set's word, and "object" where there is none.

    Scores. temperature: of all softmaxes; None is the backbone's own, 1 / exp(logit_scale). maps: patch features of "plain" CLIP,
    as the papers that print CoOp describe it, or of AnomalyCLIP's "value-value" path, which are trained with pixel losses, too.
    position_interpolation: of the image tower's positions. smoothing: the Gaussian's sigma in patches. typing_share: the share of
    highest patches that decides the types' scores.

    Losses. local_loss: the weight of the pixel losses; without effect on "plain" maps, which have none.
    """

    context_tokens: int = 16
    class_specific: bool = False
    start: str = ""
    name_position: NamePosition = "end"
    object_name: str = ""
    normal_word: str = "normal"
    abnormal_word: str = "anomalous"

    temperature: float | None = None
    maps: Literal["plain", "value-value"] = "plain"
    position_interpolation: Interpolation = "bilinear"
    smoothing: float = 0.0
    typing_share: float = 0.005

    local_loss: float = 1.0

    def __post_init__(self) -> None:
        if self.context_tokens < 1:
            raise UsageError(f"context_tokens must be at least 1, not {self.context_tokens}")
        if self.temperature is not None and self.temperature <= 0:
            raise UsageError("temperature is above 0")
        if self.smoothing < 0 or not 0 < self.typing_share <= 1 or self.local_loss < 0:
            raise UsageError("typing_share lies in 0..1 without 0; smoothing and local_loss must not be negative")


@dataclass(frozen=True)
class CoOpTexts(Texts):
    """The directions that features are compared with, each of length 1."""

    states: Tensor  # [2, D]: normal, abnormal
    defects: Tensor  # [T, D]: the vocabulary's types, from written prompts


class CoOp(Method):
    """p(abnormal) = softmax over {normal, abnormal} of cosine / temperature, of the image (CLS) and of each patch."""

    name = "coop"
    config_type: ClassVar[type] = CoOpConfig
    scoring_options = frozenset({"object_name", "temperature", "smoothing", "typing_share"})
    scores_depend_on_vocabulary = False
    recipe: ClassVar[Mapping[str, Any]] = {
        "epochs": 15,
        "optimiser": "sgd",
        "rate": 0.002,
        "momentum": 0.9,
        "weight_decay": 5e-4,
        "schedule": "warm-up and cosine",
    }

    def __init__(self, backbone: Clip, config: CoOpConfig | None = None) -> None:
        super().__init__(backbone, config or self.config_type())
        self.config: CoOpConfig
        config = self.config
        shape = (config.context_tokens, backbone.config.text.width)
        if config.start:
            start = embed_words(backbone.text, config.start)
            if start.shape != shape:
                raise UsageError(
                    f"the context starts from {config.start!r}, {len(start)} tokens, so context_tokens is {len(start)}, "
                    f'not {config.context_tokens}; or start = ""'
                )
        else:
            start = INITIAL_STD * torch.randn(shape)
        if config.class_specific:
            start = torch.stack([start, start if config.start else INITIAL_STD * torch.randn(shape)])
        self.context = nn.Parameter(start.clone())  # [n, W] or [2, n, W]

    @classmethod
    def from_release(cls, state: Mapping[str, Tensor]) -> Release | None:
        """What a checkpoint of the authors' trainer holds; None where it is not one of CoOp.

        Where the name stands is not in such a file; "end" is the default there, too.

        Args:
            state: Its tensors, with or without the prefix `prompt_learner.`

        Raises:
            ModelError: Its context is of other classes than normal and abnormal.
        """
        return read_context(state, others=(), method="CoOp")

    def for_product(self, name: str) -> Self:
        if self.config.object_name:
            return self
        other = copy.copy(self)  # the trained parts are shared
        other.config = replace(self.config, object_name=name)
        return other

    # image side

    def frozen_key(self) -> str:
        if self.config.maps == "value-value":  # the same features as FAPrompt's, kept once for both
            return f"faprompt last True {self.config.position_interpolation}"
        return f"coop plain {self.config.position_interpolation}"

    def encode(self, images: Tensor, *, compare: bool = False) -> Features:
        """CLS [B, D] and the patch features [B, N, D] in the joint space, each of length 1."""
        config, tower, levels = self.config, self.backbone.image, self.backbone.config.levels
        interpolation = config.position_interpolation
        if config.maps == "value-value":
            return value_value_features(
                self.backbone, images, all_levels=False, interpolation=interpolation, compare=compare
            )
        embedding = tower.embed(images, interpolation=interpolation)
        seen = fast.image_features(tower, embedding, levels=levels if compare and tower.trunk is None else ())
        projected = F.normalize(tower.project(seen.tokens), dim=-1)
        maps = reference_maps(seen, levels) if compare else ()
        return Features(projected[:, 0], (projected[:, 1:],), seen.grid, reference_maps=maps)

    # text side

    def template(self, product: str = "") -> Template:
        """The prompts of normal and abnormal with placeholders."""
        config = self.config
        name = product_words(config.object_name or product, underscores="blank")
        names = [f"{word} {name}".replace("_", " ") for word in (config.normal_word, config.abnormal_word)]
        return template_of(self.backbone.text, names, context_tokens=config.context_tokens)

    def embed_prompts(self, shift: Tensor | None = None, *, product: str = "") -> Tensor:
        """The prompts [2, 77, W] of normal and abnormal before the text tower, without positions; [B, 2, 77, W] with a shift
        [B, W] of each image's context."""
        context = self.context if self.config.class_specific else self.context.expand(2, -1, -1)  # [2, n, W]
        if shift is not None:
            context = context + shift[:, None, None]  # [B, 2, n, W]
        return self.template(product).filled(context, position=self.config.name_position)

    def embed_states(self, shift: Tensor | None = None, *, product: str = "") -> Tensor:
        """Normal and abnormal in the joint space [2, D], not normalised; [B, 2, D] with a shift [B, W]."""
        prompts, ends = self.embed_prompts(shift, product=product), self.template(product).ends
        seen = prompts[..., : int(ends.max()) + 1, :].flatten(0, -3)  # under the causal mask nothing else is
        encoded = fast.text_features(self.backbone.text, seen, pool_at=ends.repeat(len(seen) // 2))
        return encoded.reshape(*prompts.shape[:-2], -1)

    def states(self, features: Features, texts: CoOpTexts) -> Tensor:
        """Normal and abnormal [2, D], or [B, 2, D] of each image, of length 1."""
        del features  # no image changes them
        return texts.states

    def states_for(self, images: Tensor, *, product: str = "") -> Tensor:
        """As `states`, [B, 2, D] for images with global features [B, D], computed anew."""
        return F.normalize(self.embed_states(product=product), dim=-1).expand(len(images), -1, -1)

    def compute_texts(self, vocabulary: Vocabulary, cache: TextCache) -> CoOpTexts:
        key = self.text_key()

        def encode_states(states: Sequence[str]) -> Tensor:
            both = dict(zip(STATES, F.normalize(self.embed_states(), dim=-1), strict=True))
            return torch.stack([both[state] for state in states])

        name = product_words(self.config.object_name, underscores="blank")
        return CoOpTexts(
            vocabulary,
            states=cache.features(STATES, encode_states, decided_by=key),
            defects=type_directions(self.backbone, vocabulary, object_name=name, cache=cache, decided_by=key),
        )

    # scores and losses

    @property
    def temperature(self) -> float:
        """Of all softmaxes."""
        given = self.config.temperature
        return float((-self.backbone.logit_scale).exp()) if given is None else given

    def image_logits(self, features: Features, states: Tensor) -> Tensor:
        """The logits [B, 2] of the images with states [2, D] or [B, 2, D]."""
        return (features.global_feature[:, None] @ states.mT)[:, 0] / self.temperature

    def patch_logits(self, features: Features, states: Tensor) -> Tensor:
        """The logits [B, 2, h, w] of the patches with states [2, D] or [B, 2, D]."""
        (logits,) = level_logits(features.levels, states, grid=features.grid, temperature=self.temperature)
        return logits

    def score(self, features: Features, texts: Texts) -> Scores:
        assert isinstance(texts, CoOpTexts)
        config, states = self.config, self.states(features, texts)
        abnormal = self.patch_logits(features, states).softmax(1)[:, 1]  # [B, h, w]
        image_score = self.image_logits(features, states).softmax(-1)[:, 1]
        type_scores, typed = share_out(
            abnormal.flatten(1),
            features.levels[-1],
            types=texts.defects,
            temperature=self.temperature,
            image_score=image_score,
            top=max(1, round(config.typing_share * int(abnormal[0].numel()))),
        )
        cell_px = self.backbone.config.vision.patch_px
        return Scores(
            image_score=image_score,
            anomaly_map=smooth_enlarge(abnormal, cell_px=cell_px, sigma_cells=config.smoothing),
            types=texts.types,
            type_scores=type_scores,
            type_maps=typed.reshape(*typed.shape[:2], *features.grid),
        )

    def loss(
        self, features: Features, targets: Targets, vocabulary: Vocabulary, *, cache: TextCache | None = None
    ) -> Losses:
        """Cross-entropy of the image; on value-value maps also local_loss · (focal + dice of abnormal + dice of normal)."""
        del vocabulary, cache  # its prompts know normal and abnormal only
        states = self._states_of(features, targets.products)
        terms = {"image_cross_entropy": F.cross_entropy(self.image_logits(features, states), targets.label.long())}
        total = terms["image_cross_entropy"]
        if self.config.maps == "value-value":
            binary = replace(targets, type_id=None)
            local = local_losses([self.patch_logits(features, states)], binary, softmax="before", align_corners=False)
            total = total + self.config.local_loss * sum(local.values())
            terms |= local
        return Losses(total, terms)

    def _states_of(self, features: Features, products: Sequence[str]) -> Tensor:
        """Normal and abnormal [B, 2, D] of each image, in the words of its own product."""
        images = features.global_feature
        names = list(products) or [""] * len(images)
        states: dict[int, Tensor] = {}
        for name in dict.fromkeys(names):
            rows = [row for row, product in enumerate(names) if product == name]
            states |= zip(rows, self.states_for(images[rows], product=name), strict=True)
        return torch.stack([states[row] for row in range(len(images))])


def read_context(state: Mapping[str, Tensor], *, others: Sequence[str], method: str) -> Release | None:
    """What a checkpoint of a context and these other tensors holds; None where it holds others or lacks one of them."""
    plain = {name.removeprefix("prompt_learner."): tensor for name, tensor in state.items()}
    if {"ctx", *others} != plain.keys() - set(FROZEN):
        return None
    context = plain["ctx"].float()
    if context.ndim not in (2, 3) or (context.ndim == 3 and len(context) != 2):
        raise ModelError(
            f"expected a context [tokens, width], or [2, tokens, width] for normal and abnormal, found {list(context.shape)}"
        )
    options = {"context_tokens": context.shape[-2], "class_specific": context.ndim == 3, "start": ""}
    parts = {"context": context, **{name: plain[name].float() for name in others}}
    return Release(f"{method} prompts for a text tower of width {context.shape[-1]}", options, parts)
