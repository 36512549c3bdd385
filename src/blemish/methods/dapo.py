"""DAPO: hybrid prompts that name the defect, with progressive tokens in both towers of a frozen CLIP.

Nazer, Zhou, Halilaj, Sadikaj, Staab: "Defect-aware Hybrid Prompt Optimization via Progressive Tuning for Zero-Shot Multi-type
Anomaly Detection and Segmentation", ECCV 2026, arXiv 2512.09446. docs/dapo.md reads the paper beside this file, and lists where
the released code differs from it. Every such difference is an option of `DAPOConfig`. (1) and (2) are the paper's equations; the
numbers from (3) on are ours, for the steps below.

symbol   shape        here                what it is
W^e      [E, l, W]    abnormal_context    context tokens of the abnormal prompts, shared by all types
V^e      [E, l, W]    normal_context      context tokens of the normal prompt
P_i      [d, n, W]    text_tokens, image_tokens   fresh tokens before block i of a tower
α                     alpha               the share of the last block's output that the tokens keep
D, τ                  a type's name, the temperature

(1) abnormal prompt: [W^e_1] … [W^e_l] D anomaly object
(2) normal prompt: [V^e_1] … [V^e_l] normal object
(3) progressive tokens: before block 0 insert P_0; before block i the tokens t become α t + (1 - α) P_i
(4) text t_k: the mean over the E groups of their joint vectors, then unit length
(5) patch feature: a linear adapter for each level, then unit length
(6) p_m(k) at a patch of level m: softmax over k of cosine(patch, t_k) / τ, k = 0 normal, 1..T the types
(7) anomaly map: the mean over levels of Σ_k≥1 p_m(k)
(8) image score: softmax over {t_0, average of the types} of cosine(CLS, ·) / τ
(9) loss: 4 Σ_m (focal + dice of normal + dice of abnormal) + cross-entropy of (8)

B batch, N patches, L levels, D joint width, W text width, Wv width of the image tower; T defect types, E prompt groups, S
positions of a prompt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blemish.backbones import fast
from blemish.backbones.config import VisionConfig
from blemish.backbones.layers import BeforeBlock
from blemish.backbones.model import Clip
from blemish.backbones.tokenizer import default_tokenizer, tokenize
from blemish.backbones.vision import Embedding, Tower
from blemish.errors import UnknownNameError, UsageError
from blemish.io.codec import from_dict, to_dict
from blemish.language import DefectType, Vocabulary, general
from blemish.methods.base import Features, Losses, Method, Release, Scores, Targets, Texts
from blemish.methods.patches import reference_maps
from blemish.methods.text_cache import TextCache
from blemish.methods.tokens import inserted_tokens
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

__all__ = ["DAPO", "VARIANTS", "DAPOConfig", "DAPOTexts", "abnormal_text", "normal_text"]

PLACEHOLDER = "X"  # one token that stands where a learnable one goes
PROMPTS_AT_ONCE = 64  # that are encoded together where no gradient is asked for


@dataclass(frozen=True, kw_only=True)
class DAPOConfig:
    """Options of DAPO; the defaults are those of the variant "clean", and `VARIANTS` holds all three."""

    variant: Literal["released", "paper", "clean"] = "clean"  # which of `VARIANTS` these options began as; a name alone

    # of the prompts, (1), (2) and (4) say
    groups: int = 10  # E, from 1
    normal_tokens: int = 5  # l of the normal prompt, from 1
    abnormal_tokens: int = 5  # l of the abnormal prompts, from 1
    normal_anchor: str = "normal object"  # what stands for normal; "flawless object" in the release
    abnormal_anchor: str = "anomaly object"  # what follows a type's name; "object" in the paper's figure
    words: Words = "name"  # a type's prompts say its "name", or "all" its wordings, averaged like groups
    causal: bool = True  # CLIP's own text attention; false: both ways, as in the release
    pooling: Literal["released", "end"] = "end"  # read at the end of text, or as far before it as tokens were inserted

    # of the progressive tokens, (3) says
    alpha: float = 0.01  # 0..1; 0 is ordinary deep prompting
    text_tokens: int = 4  # n in each block of the text tower, 0 for none
    image_tokens: int = 4  # n in each block of the image tower, 0 for none
    text_depth: int | None = None  # blocks with fresh tokens, from the first; None: all
    image_depth: int | None = None  # the same of the image tower

    # of the scores, (6) to (8) say
    temperature: float = 0.07  # τ, above 0; a constant: CLIP's own scale plays no part
    softmax: Softmax = "before"  # the softmax comes "before" or "after" maps are enlarged to the input's size
    align_corners: bool = False  # enlarge_maps with the outer patches' centres on the border
    binary_map: Literal["types", "average"] = "types"  # (7) against every type, or against their average
    binary_types: Literal["asked", "built-in"] = "built-in"  # whose types (7) and (8) use: then names move no score
    image_score: Literal["cls", "cls+map"] = "cls+map"  # (8) alone, or its mean with the map's maximum
    image_typing: ImageTyping = "places"  # how an image's types are scored, see `typed.type_scores`
    typing_share: float = 0.005  # 0..1, of all patches, the most anomalous ones that count there

    # of the adapters, (5) says
    adapter_start: Literal["random", "projection"] = "projection"  # at random, or as the tower's own projection

    # of the losses, (9) says
    local_loss: float = 4.0  # weight
    global_loss: float = 1.0  # weight
    normal_dice: bool = True  # the dice term of the normal map, which MultiADS has not

    def __post_init__(self) -> None:
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


RELEASED = DAPOConfig(
    variant="released",
    normal_anchor="flawless object",
    causal=False,
    pooling="released",
    align_corners=True,
    binary_types="asked",
    image_score="cls",
    adapter_start="random",
)
VARIANTS = {
    "released": RELEASED,  # what the authors' code computes and the golden values check
    "paper": replace(RELEASED, variant="paper", normal_anchor="normal object"),  # its equations where they are explicit
    "clean": DAPOConfig(),  # without what looks unintended
}


@dataclass(frozen=True)
class DAPOTexts(Texts):
    """The texts of normal and of each type, of length 1."""

    states: Tensor  # [1 + T, D]: normal, then the vocabulary's types
    binary: Tensor  # [1 + T', D]: normal, then the types that the anomaly map is made of


class DAPO(Method):
    """Learnable context shared by all types around each type's name in words; tokens in every block of both towers.

    The vocabulary holds no weights, so that a new name works at once. The anomaly map is the authors' sum divided by L.
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
        self.normal_context = _like_words(table, config.groups, config.normal_tokens)  # V [E, l, W]
        self.abnormal_context = _like_words(table, config.groups, config.abnormal_tokens)  # W [E, l, W]
        text_depth = _depth("text_depth", config.text_depth, shape.text.depth)
        image_depth = _depth("image_depth", config.image_depth, shape.vision.depth)
        self.text_tokens = _like_words(table, text_depth, config.text_tokens) if config.text_tokens else None
        self.image_tokens = _visual_tokens(shape.vision, image_depth, config.image_tokens)
        self.adapters = nn.ModuleList(nn.Linear(shape.vision.width, shape.joint_width) for _ in shape.levels)
        if config.adapter_start == "projection":
            for adapter in self.adapters:
                _start_as_projection(cast(nn.Linear, adapter), backbone.image)
        self.scores_depend_on_vocabulary = config.binary_types == "asked"

    @classmethod
    def config_from(cls, options: Mapping[str, Any]) -> DAPOConfig:
        """The configuration of the variant that the options name ("clean" where they name none), with the other options."""
        variant = options.get("variant", DAPOConfig.variant)
        if variant not in VARIANTS:
            raise UnknownNameError("variant", str(variant), VARIANTS)
        return from_dict(DAPOConfig, {**to_dict(VARIANTS[variant]), **options})

    @classmethod
    def from_release(cls, state: Mapping[str, Tensor]) -> Release | None:
        """Trained parts under the names of the authors' classes; what nothing uses is left behind."""
        prompts, tokens = "prompt_learner.learnable_", "visual_prompt.learnable_visual_tokens"
        if f"{prompts}normal_tokens" not in state:
            return None
        renamed = {
            "normal_context": state[f"{prompts}normal_tokens"],
            "abnormal_context": state[f"{prompts}abnormal_tokens"],
            "text_tokens": torch.stack([state[key] for key in _numbered(state, f"{prompts}layer_tokens.")]),
            "image_tokens": state[tokens],
        }
        for index, weight in enumerate(_numbered(state, "adapter.fc.", ending=".weight")):
            renamed[f"adapters.{index}.weight"] = state[weight]
            renamed[f"adapters.{index}.bias"] = state[weight.removesuffix("weight") + "bias"]
        options = to_dict(RELEASED) | {
            "groups": len(renamed["normal_context"]),
            "normal_tokens": renamed["normal_context"].shape[1],
            "abnormal_tokens": renamed["abnormal_context"].shape[1],
            "text_tokens": renamed["text_tokens"].shape[1],
            "image_tokens": renamed["image_tokens"].shape[1],
            "text_depth": len(renamed["text_tokens"]),
            "image_depth": len(renamed["image_tokens"]),
        }
        return Release("DAPO prompts", options, {name: part.float() for name, part in renamed.items()})

    # image side

    def encode(self, images: Tensor, *, compare: bool = False) -> Features:
        """CLS in the joint space [B, D] and the adapted patches of each level [B, N, D], normalised."""
        embedding = self.backbone.image.embed(images)
        return self._features(embedding, compare=compare)

    def encode_frozen(self, images: Tensor) -> Features:
        """The patch embedding alone, [B, Wv] and [B, N, Wv]: from the first block on there are trained tokens."""
        embedding = self.backbone.image.embed(images)
        return Features(embedding.tokens[:, 0], (embedding.tokens[:, 1:],), embedding.grid)

    def encode_trained(self, frozen: Features) -> Features:
        tokens = torch.cat([frozen.global_feature[:, None], frozen.levels[0]], dim=1)
        return self._features(Embedding(tokens=tokens, grid=frozen.grid))

    def _features(self, embedding: Embedding, *, compare: bool = False) -> Features:
        tower, levels = self.backbone.image, sorted(self.backbone.config.levels)
        tokens = cast("Tensor | None", self.image_tokens)
        seen = fast.image_features(
            tower,
            embedding,
            levels=levels,
            before_block=progressive(tokens, self.config.alpha),
            patches=levels[-1] == self.backbone.config.vision.depth,
        )
        inserted = 0 if tokens is None else tokens.shape[1]
        return Features(
            global_feature=F.normalize(tower.project(seen.tokens[:, 0]), dim=-1),
            levels=tuple(
                F.normalize(
                    adapter(seen.levels[level][:, 1 + inserted :]), dim=-1
                )  # (5): [B, 1 + n + N, Wv] -> [B, N, D]
                for level, adapter in zip(levels, self.adapters, strict=True)
            ),
            grid=seen.grid,
            reference_maps=reference_maps(seen, tuple(levels), inserted=inserted) if compare else (),
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
        context_length = tower.config.context_length
        room = context_length - 2 - length
        for text in texts:
            if (count := len(default_tokenizer().encode(text))) > room:
                raise UsageError(
                    f"a prompt has room for {room} tokens, and this has {count}: {text[:60]!r}; shorten it"
                )
        placeholders = f"{PLACEHOLDER} " * length
        ids = torch.from_numpy(tokenize([placeholders + text for text in texts], context_length=context_length))
        words = tower.embed(ids.to(context.device))[:, None].expand(-1, len(context), -1, -1)  # [P, E, S, W]
        contexts = context.expand(len(texts), -1, -1, -1)
        prompts = torch.cat([words[:, :, :1], contexts, words[:, :, 1 + length :]], dim=2)
        return prompts, ids.argmax(-1).to(context.device)  # the end of text is the largest id

    def encode_prompts(self, prompts: Tensor, ends: Tensor) -> Tensor:
        """(4): the mean over the groups [P, D], not normalised, of prompts [P, E, S, W] that end at [P]."""
        config, tokens, depth = self.config, cast("Tensor | None", self.text_tokens), self.backbone.config.text.depth
        pool_at = ends
        if tokens is not None and (len(tokens) == depth - 1 or (len(tokens) == depth and config.pooling == "end")):
            pool_at = ends + tokens.shape[1]  # the tokens are still there after the last block
        if config.causal:
            prompts = prompts[:, :, : int(ends.max()) + 1]  # nothing behind the end is seen
        encoded = fast.text_features(
            self.backbone.text,
            prompts.flatten(0, 1),
            pool_at=pool_at.repeat_interleave(prompts.shape[1]),
            before_block=progressive(tokens, config.alpha, drop=True),
            causal=config.causal,
        )
        return encoded.reshape(*prompts.shape[:2], -1).mean(1)  # [P E, D] -> [P, D]

    def embed_normal(self) -> Tensor:
        """The normal text [1, D], equation (2), not normalised."""
        return self.encode_prompts(*self.embed_prompts([normal_text(self.config)], self.normal_context))

    def embed_types(self, types: Sequence[DefectType]) -> Tensor:
        """The types' texts [T, D], equation (1), not normalised, each the mean over its words."""
        wordings = [words_of(defect, self.config.words) for defect in types]
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
        """(6): the probabilities of normal and every type [B, L, 1 + T, h, w], on the patch grid or at another size; over the
        types they add up to 1, over all of an image's maps to L."""
        return torch.stack(
            [
                probabilities(logits, softmax=self.config.softmax, size=size, align_corners=self.config.align_corners)
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
        binary = self._logits(features, texts.binary if config.binary_map == "types" else _states(texts.binary))
        patch_px = self.backbone.config.vision.patch_px
        size = (features.grid[0] * patch_px, features.grid[1] * patch_px)
        abnormal = anomaly_map(binary, softmax=config.softmax, size=size, align_corners=config.align_corners)  # (7)
        shares = [level[:, 1:].softmax(1) for level in logits]  # of the types alone, [B, T, h, w]
        abnormal_patches = [1 - level.softmax(1)[:, :1] for level in binary]  # [B, 1, h, w]
        typed = torch.stack([p * share for p, share in zip(abnormal_patches, shares, strict=True)]).mean(0)
        image_score = self.image_logits(features, texts.binary).softmax(-1)[:, 1]  # (8)
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
        """(9): local_loss · Σ over levels (focal + dice of normal + dice of abnormal) + global_loss · cross-entropy of CLS."""
        del cache  # all texts are trained
        config = self.config
        texts = F.normalize(torch.cat([self.embed_normal(), self.embed_types(vocabulary.types)]), dim=-1)
        logits = self._logits(features, texts)
        terms = local_losses(logits, targets, softmax=config.softmax, align_corners=config.align_corners)
        local = terms["focal"] + terms["dice_abnormal"]
        if config.normal_dice:
            local = local + terms["dice_normal"]
        terms["image_cross_entropy"] = F.cross_entropy(self.image_logits(features, texts), targets.label.long())
        return Losses(config.local_loss * local + config.global_loss * terms["image_cross_entropy"], terms)

    def _logits(self, features: Features, texts: Tensor) -> tuple[Tensor, ...]:
        return level_logits(features.levels, texts, grid=features.grid, temperature=self.config.temperature)


def progressive(tokens: Tensor | None, alpha: float, *, drop: bool = False) -> BeforeBlock | None:
    """(3) for fresh tokens [d, n, W]; with `drop` (the text tower) block d is the last that sees them."""
    return inserted_tokens(tokens, alpha=alpha, drop=drop)


def normal_text(config: DAPOConfig) -> str:
    """What follows the context of the normal prompt."""
    return config.normal_anchor


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


def _numbered(state: Mapping[str, Tensor], start: str, *, ending: str = "") -> list[str]:
    """The names start0ending, start1ending, … that a state has."""
    names: list[str] = []
    while (name := f"{start}{len(names)}{ending}") in state:
        names.append(name)
    return names


# what the trained parts begin as


def _like_words(table: Tensor, *shape: int) -> nn.Parameter:
    """Tokens [*shape, W] from the Gaussian that has each dimension's mean and spread in the table of word embeddings."""
    words = table.detach().float()
    return nn.Parameter(words.mean(0) + words.std(0) * torch.randn(*shape, table.shape[1], device=table.device))


def _visual_tokens(vision: VisionConfig, depth: int, count: int) -> nn.Parameter | None:
    """Tokens [depth, count, Wv], uniform in ±√(6 / (3 · patch area + width)) (Jia et al., Visual Prompt Tuning, ECCV 2022)."""
    if not count:
        return None
    patch_px = vision.patch_size or vision.image_size // vision.position_grid
    bound = (6 / (3 * patch_px**2 + vision.width)) ** 0.5
    return nn.Parameter((2 * torch.rand(depth, count, vision.width) - 1) * bound)


@torch.no_grad()
def _start_as_projection(adapter: nn.Linear, tower: Tower) -> None:
    """Lets an adapter [Wv -> D] do what `tower.project` does, up to the layer norm's division, which patches that are
    normalised afterwards do not feel (its bias counts as for a stream of standard deviation 1)."""
    weight, bias = tower.linear_projection()  # [Wv, D], [D]
    adapter.weight.copy_(weight.T)
    adapter.bias.copy_(bias)
