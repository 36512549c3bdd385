"""DAPO: hybrid prompts that name the defect, with progressive tokens in both towers of a frozen CLIP.

Nazer, Zhou, Halilaj, Sadikaj, Staab: "Defect-aware Hybrid Prompt Optimization via Progressive Tuning for Zero-Shot Multi-type
Anomaly Detection and Segmentation", ECCV 2026, arXiv 2512.09446. docs/dapo.md reads the paper beside this file, and lists where
the released code differs from it. Every such difference is an option of `DAPOConfig`.

B batch, N patches, L levels, D joint width, W text width; T defect types, E prompt groups, S positions of a prompt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blemish.backbones.model import Clip
from blemish.backbones.tokenizer import default_tokenizer, tokenize
from blemish.errors import UnknownNameError, UsageError
from blemish.language import DefectType, Vocabulary, general
from blemish.methods.base import Features, Losses, Method, Scores, Targets, Texts
from blemish.methods.starts import like_words, start_as_projection, visual_tokens
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

__all__ = ["DAPO", "VARIANTS", "DAPOConfig", "abnormal_text", "normal_text"]

PLACEHOLDER = "X"  # one token that stands where a learnable one goes
PROMPTS_AT_ONCE = 64  # that are encoded together where no gradient is asked for

Variant = Literal["released", "paper", "clean"]
VARIANTS: dict[str, dict[str, Any]] = {
    "released": {
        "normal_anchor": "flawless object",
        "abnormal_anchor": "anomaly object",
        "words": "name",
        "causal": False,
        "pooling": "released",
        "softmax": "before",
        "align_corners": True,
        "normal_dice": True,
        "global_loss": 1.0,
        "binary_map": "types",
        "binary_types": "asked",
        "image_score": "cls",
        "adapter_start": "random",
    },
}
VARIANTS["paper"] = VARIANTS["released"] | {"normal_anchor": "normal object"}
VARIANTS["clean"] = VARIANTS["paper"] | {
    "causal": True,
    "pooling": "end",
    "align_corners": False,
    "adapter_start": "projection",
    "binary_types": "built-in",
    "image_score": "cls+map",
}


@dataclass(frozen=True, kw_only=True)
class DAPOConfig:
    """Options of DAPO. Those that are None here follow the variant; one that is given wins over it.

    variant: "released", what the authors' code computes and what the golden values check; "paper", its equations where they
    are explicit (the normal anchor) and the code elsewhere; "clean", without what looks unintended: CLIP's causal text
    attention, read at the true end of text, maps that lie where their patches are, adapters that start where CLIP left off, and a
    map that has its say in the image score, which does not depend on the names asked for.

    Prompts. groups: E, averaged before they are normalised. normal_tokens, abnormal_tokens: learnable context of a prompt.
    normal_anchor: "flawless object" (released) or "normal object" (paper). abnormal_anchor: what follows the type's name,
    "anomaly object", or "object" as in the paper's figure. words: a type's prompts say its "name" (released), or "all" its
    wordings, averaged like groups: synonyms and sentence, too. causal: CLIP's own text attention; the release attends both
    ways. pooling: read at the "end" of text, or ("released") as many places before it as tokens were inserted.

    Progressive tokens. alpha: the share that each block keeps of the tokens that the last one put out; 0 is ordinary deep
    prompting. text_tokens, image_tokens: learnable tokens in each of the first text_depth, image_depth blocks (None: all).

    Scores. temperature: of every softmax, a constant: CLIP's own scale plays no part. softmax: "before" or "after" maps are
    enlarged to the input's size. align_corners: how they are enlarged. binary_map: 1 - p(normal) over normal and all "types"
    (released; more names, more anomaly), or over normal and the "average" type, which the types then share. binary_types: whose
    types that are, those "asked" for (released), or the "built-in" vocabulary's whatever is asked for: then names move no score,
    and a threshold holds for all of them; they share out what was found. image_score:
    "cls" (released), or "cls+map", its mean with the map's maximum, which the release leaves out. image_typing: how an image's
    types are scored, see `typed.type_scores`; typing_share: of all places, the most anomalous ones that count there.

    Adapters. adapter_start: "random" (released), or the tower's own last layer norm and "projection", which makes places
    comparable with texts before the first step.

    Losses. local_loss, global_loss: their weights. normal_dice: the dice term of the normal map, which MultiADS has not.
    """

    variant: Variant = "clean"

    groups: int = 10
    normal_tokens: int = 5
    abnormal_tokens: int = 5
    normal_anchor: str | None = None
    abnormal_anchor: str | None = None
    words: Words | None = None
    causal: bool | None = None
    pooling: Literal["released", "end"] | None = None

    alpha: float = 0.01
    text_tokens: int = 4
    image_tokens: int = 4
    text_depth: int | None = None
    image_depth: int | None = None

    temperature: float = 0.07
    softmax: Softmax | None = None
    align_corners: bool | None = None
    binary_map: Literal["types", "average"] | None = None
    binary_types: Literal["asked", "built-in"] | None = None
    image_score: Literal["cls", "cls+map"] | None = None
    image_typing: ImageTyping = "places"
    typing_share: float = 0.005

    adapter_start: Literal["random", "projection"] | None = None

    local_loss: float = 4.0
    global_loss: float | None = None
    normal_dice: bool | None = None

    def __post_init__(self) -> None:
        if self.variant not in VARIANTS:
            raise UnknownNameError("variant", self.variant, VARIANTS)
        for name, value in VARIANTS[self.variant].items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        for name in ("groups", "normal_tokens", "abnormal_tokens"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} must be at least 1, not {getattr(self, name)}")
        if min(self.text_tokens, self.image_tokens) < 0:
            raise UsageError("text_tokens and image_tokens must not be negative")
        if not 0 <= self.alpha <= 1 or not 0 < self.typing_share <= 1 or self.temperature <= 0:
            raise UsageError("alpha lies in 0..1, typing_share in 0..1 without 0, and temperature is above 0")
        if self.causal and self.pooling == "released" and self.text_tokens:
            raise UsageError(
                "with causal attention the released position comes before the end of the type's name; add pooling = 'end'"
            )


@dataclass(frozen=True)
class DAPOTexts(Texts):
    """The texts of normal and of each type, of length 1."""

    states: Tensor  # [1 + T, D]: normal, then the vocabulary's types
    binary: Tensor  # [1 + T', D]: normal, then the types that the anomaly map is made of


class DAPO(Method):
    """Learnable context shared by all types around each type's name in words; tokens in every block of both towers.

    At every place of every level: the softmax over normal and the vocabulary's types. The vocabulary holds no weights, so that
    a new name works at once. The anomaly map is the mean over the levels of 1 - p(normal), the authors' sum divided by L.
    """

    name = "dapo"
    config_type = DAPOConfig
    recipe: ClassVar[Mapping[str, Any]] = {"epochs": 5, "seed": 42}
    scoring_options = frozenset(
        {
            *("temperature", "softmax", "align_corners", "words"),
            *("binary_map", "binary_types", "image_score", "image_typing", "typing_share"),
        }
    )

    def __init__(self, backbone: Clip, config: DAPOConfig | None = None) -> None:
        super().__init__(backbone, config or DAPOConfig())
        self.config: DAPOConfig
        config, shape = self.config, backbone.config
        table = backbone.text.token_embedding.weight
        self.normal_context = like_words(table, config.groups, config.normal_tokens)  # V [E, l, W]
        self.abnormal_context = like_words(table, config.groups, config.abnormal_tokens)  # W [E, l, W]
        text_depth = _depth("text_depth", config.text_depth, shape.text.depth)
        image_depth = _depth("image_depth", config.image_depth, shape.vision.depth)
        self.text_tokens = like_words(table, text_depth, config.text_tokens) if config.text_tokens else None
        self.image_tokens = visual_tokens(shape.vision, image_depth, config.image_tokens)
        self.adapters = nn.ModuleList(nn.Linear(shape.vision.width, shape.joint_width) for _ in shape.levels)
        if config.adapter_start == "projection":
            for adapter in self.adapters:
                start_as_projection(cast(nn.Linear, adapter), backbone.image)
        self.scores_depend_on_vocabulary = config.binary_types == "asked"

    # image side

    def encode(self, images: Tensor) -> Features:
        """CLS in the joint space [B, D] and the adapted places of each level [B, N, D], normalised."""
        return self.encode_trained(self.encode_frozen(images))

    def encode_frozen(self, images: Tensor) -> Features:
        """The patch embedding alone, [B, Wv] and [B, N, Wv]: from the first block on there are trained tokens."""
        embedded, grid = self.backbone.image.embed(images)
        return Features(global_feature=embedded[:, 0], levels=(embedded[:, 1:],), grid=grid)

    def encode_trained(self, frozen: Features) -> Features:
        tower, levels = self.backbone.image, sorted(self.backbone.config.levels)
        seen = tower.continuing(
            torch.cat([frozen.global_feature[:, None], frozen.levels[0]], dim=1),
            frozen.grid,
            levels=levels,
            layer_tokens=cast("Tensor | None", self.image_tokens),
            carry=self.config.alpha,
            patches=levels[-1] == self.backbone.config.vision.depth,
        )
        return Features(
            global_feature=F.normalize(tower.project(seen.tokens[:, 0]), dim=-1),
            levels=tuple(
                F.normalize(adapter(seen.levels[level][:, 1:]), dim=-1)  # [B, 1 + N, Wv] -> [B, N, D]
                for level, adapter in zip(levels, self.adapters, strict=True)
            ),
            grid=seen.grid,
        )

    @property
    def worth_caching(self) -> bool:
        """Where the patch embedding is a network of its own; a ViT's takes less time than reading it from the disk."""
        return self.backbone.config.vision.stem != "patches"

    def frozen_key(self) -> str:
        return "patch embedding"

    # text side

    def embed_prompts(self, texts: Sequence[str], context: Tensor) -> tuple[Tensor, Tensor]:
        """The prompts [P, E, S, W] of texts with E groups of context [E, l, W] before them, and their ends of text [P]."""
        length, tower = context.shape[1], self.backbone.text
        room = self._context_length - 2 - length
        for text in texts:
            if (count := len(default_tokenizer().encode(text))) > room:
                raise UsageError(
                    f"a prompt has room for {room} tokens, and this has {count}: {text[:60]!r}; shorten it"
                )
        placeholders = f"{PLACEHOLDER} " * length
        ids = torch.from_numpy(tokenize([placeholders + text for text in texts], context_length=self._context_length))
        words = tower.embed(ids.to(context.device))[:, None].expand(-1, len(context), -1, -1)  # [P, E, S, W]
        contexts = context.expand(len(texts), -1, -1, -1)
        prompts = torch.cat([words[:, :, :1], contexts, words[:, :, 1 + length :]], dim=2)
        return prompts, ids.argmax(-1).to(context.device)  # the end of text is the largest id

    def encode_prompts(self, prompts: Tensor, ends: Tensor) -> Tensor:
        """The mean over the groups [P, D], not normalised, of prompts [P, E, S, W] that end at [P]."""
        config, tokens = self.config, cast("Tensor | None", self.text_tokens)
        pool_at = ends
        if config.pooling == "end" and tokens is not None and len(tokens) == self.backbone.config.text.depth:
            pool_at = ends + tokens.shape[1]  # they are still there when the position is read
        encoded = self.backbone.text(
            prompts.flatten(0, 1),
            pool_at=pool_at.repeat_interleave(prompts.shape[1]),
            layer_tokens=tokens,
            placement="insert",
            carry=config.alpha,
            causal=bool(config.causal),
        )
        return encoded.reshape(*prompts.shape[:2], -1).mean(1)  # [P E, D] -> [P, D]

    def embed_normal(self) -> Tensor:
        """The normal text [1, D], not normalised: [V1] … [Vl] flawless object"""
        return self.encode_prompts(*self.embed_prompts([normal_text(self.config)], self.normal_context))

    def embed_types(self, types: Sequence[DefectType]) -> Tensor:
        """The types' texts [T, D], not normalised, each the mean over its words: [W1] … [Wl] {word} anomaly object"""
        wordings = [words_of(defect, self.config.words or "name") for defect in types]
        texts = [abnormal_text(word, self.config) for words in wordings for word in words]
        prompts, ends = self.embed_prompts(texts, self.abnormal_context)
        at_once = len(texts) if torch.is_grad_enabled() else max(1, PROMPTS_AT_ONCE // self.config.groups)
        parts = zip(torch.split(prompts, at_once), torch.split(ends, at_once), strict=True)
        encoded = torch.cat([self.encode_prompts(*part) for part in parts])
        return torch.stack([part.mean(0) for part in torch.split(encoded, [len(words) for words in wordings])])

    @classmethod
    def example_prompt(cls, defect: DefectType) -> str:
        config = DAPOConfig()
        context = "".join(f"[W{number}]" for number in range(1, config.abnormal_tokens + 1))
        return f'"{context} {abnormal_text(defect.name, config)}" in {config.groups} contexts'

    def compute_texts(self, vocabulary: Vocabulary, cache: TextCache) -> DAPOTexts:
        key = self.text_key()
        normal = cache.features(["normal"], lambda _: self.embed_normal(), decided_by=key)

        def with_normal(types: Sequence[DefectType]) -> Tensor:
            return F.normalize(torch.cat([normal, cache.features(types, self.embed_types, decided_by=key)]), dim=-1)

        asked = with_normal(vocabulary.types)
        built_in = self.config.binary_types == "built-in"
        return DAPOTexts(vocabulary, asked, binary=with_normal(general().types) if built_in else asked)

    # scores and losses

    def maps(self, features: Features, texts: DAPOTexts, *, size: tuple[int, int] | None = None) -> Tensor:
        """The probabilities of normal and every type [B, L, 1 + T, h, w], on the patch grid or at another size; over the types
        they add up to 1, over all of an image's maps to L."""
        return torch.stack(
            [
                probabilities(logits, softmax=self._softmax, size=size, align_corners=bool(self.config.align_corners))
                for logits in self._logits(features, texts.states)
            ],
            dim=1,
        )

    def image_logits(self, features: Features, texts: Tensor) -> Tensor:
        """The logits [B, 2] of normal and of the average type, from CLS and normalised texts [1 + T, D]."""
        return features.global_feature @ _states(texts).T / self.config.temperature

    def score(self, features: Features, texts: Texts) -> Scores:
        assert isinstance(texts, DAPOTexts)
        config = self.config
        logits = self._logits(features, texts.states)
        binary_texts = texts.binary if config.binary_map == "types" else _states(texts.binary)
        binary = self._logits(features, binary_texts)
        cell_px = self.backbone.config.vision.patch_px
        size = (features.grid[0] * cell_px, features.grid[1] * cell_px)
        abnormal = anomaly_map(binary, softmax=self._softmax, size=size, align_corners=bool(config.align_corners))
        shares = [level[:, 1:].softmax(1) for level in logits]  # of the types alone, [B, T, h, w]
        places = [1 - level.softmax(1)[:, :1] for level in binary]  # [B, 1, h, w]
        typed = torch.stack([place * share for place, share in zip(places, shares, strict=True)]).mean(0)
        image_score = self.image_logits(features, texts.binary).softmax(-1)[:, 1]
        if config.image_score == "cls+map":
            image_score = (image_score + abnormal.flatten(1).amax(1)) / 2
        scores = type_scores(
            typed.flatten(2),
            features.global_feature @ texts.states[1:].T,
            image_score,
            typing=config.image_typing,
            temperature=config.temperature,
            share=config.typing_share,
        )
        return Scores(image_score, abnormal, types=texts.types, type_scores=scores, type_maps=typed)

    def loss(
        self, features: Features, targets: Targets, vocabulary: Vocabulary, *, cache: TextCache | None = None
    ) -> Losses:
        """local_loss · Σ over levels (focal + dice of normal + dice of abnormal) + global_loss · cross-entropy of the image."""
        del cache  # all texts are trained
        config = self.config
        texts = F.normalize(torch.cat([self.embed_normal(), self.embed_types(vocabulary.types)]), dim=-1)
        terms = local_losses(
            self._logits(features, texts),
            targets,
            softmax=self._softmax,
            align_corners=bool(config.align_corners),
        )
        local = terms["focal"] + terms["dice_abnormal"]
        if config.normal_dice:
            local = local + terms["dice_normal"]
        terms["image_cross_entropy"] = F.cross_entropy(self.image_logits(features, texts), targets.label.long())
        return Losses(config.local_loss * local + (config.global_loss or 0.0) * terms["image_cross_entropy"], terms)

    def _logits(self, features: Features, texts: Tensor) -> tuple[Tensor, ...]:
        return level_logits(features.levels, texts, grid=features.grid, temperature=self.config.temperature)

    @property
    def _softmax(self) -> Softmax:
        return self.config.softmax or "before"

    @property
    def _context_length(self) -> int:
        return self.backbone.config.text.context_length


def normal_text(config: DAPOConfig) -> str:
    """What follows the context of the normal prompt."""
    return str(config.normal_anchor)


def abnormal_text(word: str, config: DAPOConfig) -> str:
    """What follows the context of the prompt of a type with this word."""
    return f"{word} {config.abnormal_anchor}"


def _states(texts: Tensor) -> Tensor:
    """Normal and the average type [2, D] of normalised texts [1 + T, D]; the average is normalised again."""
    return torch.stack([texts[0], F.normalize(texts[1:].mean(0), dim=-1)])


def _depth(name: str, wanted: int | None, blocks: int) -> int:
    depth = blocks if wanted is None else wanted
    if not 1 <= depth <= blocks:
        raise UsageError(f"{name} {depth} is outside 1..{blocks}, the blocks of this backbone")
    return depth
