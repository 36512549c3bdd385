"""AdaCLIP: tokens of its own for every image, beside learned ones, in the first blocks of both towers of a frozen CLIP.

Cao, Zhang, Frittoli, Cheng, Shen, Boracchi: "AdaCLIP: Adapting CLIP with Hybrid Learnable Prompts for Zero-Shot Anomaly
Detection", ECCV 2024, arXiv 2407.15795. docs/adaclip.md reads the paper beside this file, and lists where the released code
differs from it; every such difference is an option of `AdaCLIPConfig`.

B batch, N patches, D joint width, Wv and W widths of the image and the text tower, J blocks with tokens, n tokens a block,
M sentences.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blemish.backbones import fast
from blemish.backbones.model import Clip
from blemish.backbones.tokenizer import tokenize
from blemish.backbones.vision import Embedding, Interpolation
from blemish.errors import UsageError
from blemish.language import Vocabulary
from blemish.methods.adaclip_release import read_release
from blemish.methods.base import Features, Losses, Method, Release, Scores, Targets, Texts
from blemish.methods.fusion import Fused, Fusion, fuse
from blemish.methods.losses import dice, focal
from blemish.methods.naming import share_out, type_directions
from blemish.methods.patches import reference_maps
from blemish.methods.products import product_words
from blemish.methods.smoothing import smooth_enlarge
from blemish.methods.text_cache import TextCache
from blemish.methods.tokens import inserted_tokens, overwriting_tokens
from blemish.methods.typed import enlarge_maps, level_logits

__all__ = ["AdaCLIP", "AdaCLIPConfig", "AdaCLIPTexts", "sentences"]

INITIAL_STD = 0.02  # of all learned tokens
NORMAL_STATES = (
    *("{}", "flawless {}", "perfect {}", "unblemished {}"),
    *("{} without flaw", "{} without defect", "{} without damage"),
)
ABNORMAL_STATES = ("damaged {}", "broken {}", "{} with flaw", "{} with defect", "{} with damage")
TEMPLATES = (
    "a bad photo of a {}.",
    "a low resolution photo of the {}.",
    "a bad photo of the {}.",
    "a cropped photo of the {}.",
)


@dataclass(frozen=True, kw_only=True)
class AdaCLIPConfig:
    """Options of AdaCLIP; the defaults are the release's where it does not contradict itself.

    Prompts. tokens: n in each of the first `blocks` blocks, J (of the text tower from the second on). kinds: "static" learned
    tokens, "dynamic" ones that linear layers make of the image's global feature, or "both". branches: the towers that get them.
    round_tokens: to float16, as the release does. object_name: the product, which the sentences name; "" for the
    data set's word, and "object" where there is none (a "-" becomes a blank).
    activation: of both towers, "gelu" as the release computes OpenAI's weights, or the backbone's own.
    position_interpolation: of the image tower's positions.

    Scores. temperature: of all softmaxes (1 / 100). fusion: see `fusion.fuse`; "none" takes CLS alone. clusters: K.
    fusion_weight: the share of the fused feature in the image's feature. fusion_seed: of k-means. fusion_draws: every "image"
    starts from the seed, so that no score depends on the other images; or one "stream" over all of them, as in the release.
    smoothing: the Gaussian's sigma in patches (4 px of 14 px patches). typing_share: the share of highest patches that decides
    the types' scores.

    Losses. dice: over each image, or over the "rows" of a map as if each were an image (released, by a slip).
    """

    tokens: int = 5
    blocks: int = 4
    kinds: Literal["static", "dynamic", "both"] = "both"
    branches: Literal["image", "text", "both"] = "both"
    round_tokens: bool = False
    object_name: str = ""
    activation: Literal["gelu", "quick_gelu", "backbone"] = "gelu"
    position_interpolation: Interpolation = "bicubic"

    temperature: float = 0.01
    fusion: Fusion = "released"
    clusters: int = 20
    fusion_weight: float = 0.2
    fusion_seed: int = 111
    fusion_draws: Literal["image", "stream"] = "image"
    align_corners: bool = True  # where maps are enlarged: the centres of the outer patches lie on the border (released)
    smoothing: float = 4 / 14
    typing_share: float = 0.005

    dice: Literal["image", "rows"] = "image"

    def __post_init__(self) -> None:
        for name in ("tokens", "blocks", "clusters"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.temperature <= 0 or self.smoothing < 0 or not 0 < self.typing_share <= 1:
            raise UsageError(
                "temperature is above 0, typing_share in 0..1 without 0, and smoothing must not be negative"
            )
        if not 0 <= self.fusion_weight <= 1 or not 0 <= self.fusion_seed < 2**32:
            raise UsageError("fusion_weight lies in 0..1, and fusion_seed in 0..2^32 - 1")


@dataclass(frozen=True)
class AdaCLIPTexts(Texts):
    """The sentences, which are encoded anew for every image, and the types."""

    sentences: Tensor  # [M, S, W], embeddings of normal and abnormal sentences, without positions
    ends: Tensor  # [M], the positions of the ends of text
    states: Tensor  # [2, D], normal and abnormal where no image changes them (without text tokens), of length 1; else [0, D]
    defects: Tensor  # [T, D], of length 1, from written prompts without tokens


class AdaCLIP(Method):
    """Two passes through the image tower: the first one's global feature becomes the tokens of the second and of the texts.

    Logits are cosines / temperature of projected patch features of several levels with normal and abnormal; their mean over the
    levels gives the map. The image's feature is CLS, mixed with what the most abnormal patches have in common.
    """

    name = "adaclip"
    config_type = AdaCLIPConfig
    scoring_options = frozenset(
        {
            *("object_name", "temperature", "align_corners", "smoothing", "typing_share"),
            *("fusion", "clusters", "fusion_weight", "fusion_seed", "fusion_draws"),
        }
    )
    scores_depend_on_vocabulary = False
    recipe: ClassVar[Mapping[str, Any]] = {
        "epochs": 5,
        "batch_size": 1,
        "optimiser": "adamw",
        "rate": 0.01,
        "weight_decay": 0.01,
    }

    def __init__(self, backbone: Clip, config: AdaCLIPConfig | None = None) -> None:
        config = config or AdaCLIPConfig()
        if config.activation != "backbone":
            backbone = backbone.with_activation(config.activation)
        super().__init__(backbone, config)
        self.config: AdaCLIPConfig
        shape = backbone.config
        joint, wide, width, n = shape.joint_width, shape.vision.width, shape.text.width, config.tokens
        in_image, in_text = config.branches != "text", config.branches != "image"
        if not 1 <= config.blocks <= min(shape.vision.depth, shape.text.depth) or (in_text and config.blocks < 2):
            raise UsageError(
                f"blocks {config.blocks} is outside {2 if in_text else 1}..{min(shape.vision.depth, shape.text.depth)}"
            )
        static, dynamic = config.kinds != "dynamic", config.kinds != "static"
        self.image_tokens = _tokens(config.blocks, n, wide) if in_image and static else None
        self.text_tokens = _tokens(config.blocks - 1, n, width) if in_text and static else None
        self.to_image_tokens = nn.Linear(joint, n * wide) if in_image and dynamic else None
        self.to_text_tokens = nn.Linear(joint, n * width) if in_text and dynamic else None
        self.patch_layers = nn.ModuleList(nn.Linear(wide, joint) for _ in shape.levels)
        self.image_layer = nn.Linear(joint, joint)
        self._stream = np.random.RandomState(config.fusion_seed)

    @classmethod
    def from_release(cls, state: Mapping[str, Tensor]) -> Release | None:
        """What a checkpoint of the authors' code holds; None where it is not one of AdaCLIP.

        The number of clusters is not in such a file, and the first block's static text tokens, which the release never uses, are
        left behind.

        Args:
            state: Its tensors, with or without the prefix `clip_model.`

        Raises:
            ModelError: It lacks a part, or the parts do not fit together.
        """
        return read_release(state)

    def for_product(self, name: str) -> AdaCLIP:
        if self.config.object_name:
            return self
        other = copy.copy(self)  # the trained parts are shared
        other.config = replace(self.config, object_name=name)
        return other

    # image side

    def encode(self, images: Tensor, *, compare: bool = False) -> Features:
        """CLS of the second pass and the first pass's global feature [B, 2 D]; the levels' projected patches [B, N, D]."""
        embedding, first = self._first_pass(images)
        return self._second_pass(embedding, first, compare=compare)

    def encode_frozen(self, images: Tensor) -> Features:
        """The patch embedding [B, N, Wv], and with CLS's embedding the first pass's global feature [B, Wv + D]."""
        embedding, first = self._first_pass(images)
        return Features(torch.cat([embedding.tokens[:, 0], first], dim=1), (embedding.tokens[:, 1:],), embedding.grid)

    def encode_trained(self, frozen: Features) -> Features:
        shape = self.backbone.config
        cls, first = torch.split(frozen.global_feature, [shape.vision.width, shape.joint_width], dim=1)
        tokens = torch.cat([cls[:, None], frozen.levels[0]], dim=1)
        return self._second_pass(Embedding(tokens=tokens, grid=frozen.grid), first)

    def _first_pass(self, images: Tensor) -> tuple[Embedding, Tensor]:
        tower = self.backbone.image
        embedding = tower.embed(images, interpolation=self.config.position_interpolation)
        return embedding, tower.project(fast.image_features(tower, embedding, patches=False).tokens[:, 0])

    def _second_pass(self, embedding: Embedding, first: Tensor, *, compare: bool = False) -> Features:
        tower, levels = self.backbone.image, sorted(self.backbone.config.levels)
        tokens = self.image_layer_tokens(first)
        seen = fast.image_features(
            tower,
            embedding,
            levels=levels,
            before_block=inserted_tokens(tokens),
            patches=levels[-1] == self.backbone.config.vision.depth,
        )
        inserted = 0 if tokens is None else tokens.shape[-2]
        image = F.normalize(self.image_layer(tower.project(seen.tokens[:, 0])), dim=-1)
        return Features(
            global_feature=torch.cat([image, first], dim=1),
            levels=tuple(
                F.normalize(layer(seen.levels[level][:, 1 + inserted :]), dim=-1)
                for level, layer in zip(levels, self.patch_layers, strict=True)
            ),
            grid=seen.grid,
            reference_maps=reference_maps(seen, tuple(levels), inserted=inserted) if compare else (),
        )

    def frozen_key(self) -> str:
        return f"adaclip {self.config.activation} {self.config.position_interpolation}"

    def image_layer_tokens(self, first: Tensor) -> Tensor | None:
        """The tokens [J, B, n, Wv] of the image tower for images with the first pass's features [B, D]."""
        config, static = self.config, cast("Tensor | None", self.image_tokens)
        tokens = _hybrid(static, self.to_image_tokens, first, blocks=config.blocks, tokens=config.tokens)
        return tokens.half().to(first.dtype) if tokens is not None and config.round_tokens else tokens

    # text side

    def embed_sentences(self, product: str = "") -> tuple[Tensor, Tensor]:
        """The sentences' embeddings [M, S, W] up to the longest one's end, and the positions of their ends [M]."""
        tower, last_token = self.backbone.text, self.config.tokens  # which the tokens overwrite
        ids = torch.from_numpy(tokenize(sentences(self.config.object_name or product)))
        ids = ids.to(tower.token_embedding.weight.device)
        ends = ids.argmax(-1)  # the end of text is the largest id
        return tower.embed(ids[:, : max(int(ends.max()), last_token) + 1]), ends

    def encode_sentences(self, sentences: Tensor, ends: Tensor, first: Tensor) -> Tensor:
        """The sentences [B, M, D], not normalised, with the tokens of images whose first pass's features are [B, D]."""
        config, static = self.config, cast("Tensor | None", self.text_tokens)
        tokens = _hybrid(static, self.to_text_tokens, first, blocks=config.blocks - 1, tokens=config.tokens)
        count, images = len(sentences), len(first)
        if tokens is not None:
            tokens = tokens.repeat_interleave(count, dim=1)  # [J - 1, B, n, W] -> [J - 1, B M, n, W]
        encoded = fast.text_features(
            self.backbone.text,
            sentences.repeat(images, 1, 1),
            pool_at=ends.repeat(images),
            before_block=overwriting_tokens(tokens, first=1, round_to_half=config.round_tokens),
        )
        return encoded.reshape(images, count, -1)

    def states(self, features: Features, texts: AdaCLIPTexts) -> Tensor:
        """Normal and abnormal [B, 2, D] for each image, of length 1."""
        images = len(features.global_feature)
        if len(texts.states):
            return texts.states.expand(images, -1, -1)
        return _states(self.encode_sentences(texts.sentences, texts.ends, self._first(features)))

    def compute_texts(self, vocabulary: Vocabulary, cache: TextCache) -> AdaCLIPTexts:
        key, joint = self.text_key(), self.backbone.config.joint_width
        embedded, ends = self.embed_sentences()

        def encode_states(states: Sequence[str]) -> Tensor:
            encoded = _states(self.encode_sentences(embedded, ends, embedded.new_zeros(1, joint)))[0]
            both = dict(zip(("normal", "abnormal"), encoded, strict=True))
            return torch.stack([both[state] for state in states])

        if self.to_text_tokens is None:  # no image changes them
            states = cache.features(["normal", "abnormal"], encode_states, decided_by=key)
        else:
            states = embedded.new_zeros(0, joint)
        name = _plain(product_words(self.config.object_name, underscores="keep"))
        defects = type_directions(self.backbone, vocabulary, object_name=name, cache=cache, decided_by=key)
        return AdaCLIPTexts(vocabulary, embedded, ends, states, defects)

    # scores and losses

    def level_logits(self, features: Features, states: Tensor) -> tuple[Tensor, ...]:
        """The logits [B, 2, h, w] of each level with the images' states [B, 2, D]."""
        return level_logits(features.levels, states, grid=features.grid, temperature=self.config.temperature)

    def fused(self, features: Features, logits: Tensor) -> Fused | None:
        """What the most abnormal patches have in common, from the mean logits [B, 2, h, w]; None without fusion."""
        config = self.config
        if config.fusion == "none":
            return None
        return fuse(
            features.levels,
            logits.softmax(1)[:, 1].flatten(1),
            clusters=config.clusters,
            fusion=config.fusion,
            generator=self._generator,
        )

    def image_probabilities(self, features: Features, states: Tensor, fused: Fused | None) -> Tensor:
        """The probabilities of normal and abnormal [B, 2] of the images."""
        feature = features.global_feature[:, : self.backbone.config.joint_width]
        if fused is not None:
            weight = self.config.fusion_weight
            feature = F.normalize(weight * fused.features + (1 - weight) * feature, dim=-1)
        return (torch.einsum("bd,bsd->bs", feature, states) / self.config.temperature).softmax(-1)

    def score(self, features: Features, texts: Texts) -> Scores:
        assert isinstance(texts, AdaCLIPTexts)
        config, cell_px = self.config, self.backbone.config.vision.patch_px
        states = self.states(features, texts)
        logits = torch.stack(self.level_logits(features, states)).mean(0)  # [B, 2, h, w]
        image_score = self.image_probabilities(features, states, self.fused(features, logits))[:, 1]
        size = (features.grid[0] * cell_px, features.grid[1] * cell_px)
        enlarged = enlarge_maps(logits, size, align_corners=config.align_corners).softmax(1)[:, 1]  # [B, H, W]
        abnormal = logits.softmax(1)[:, 1].flatten(1)  # [B, N]
        type_scores, typed = share_out(
            abnormal,
            features.levels[-1],
            types=texts.defects,
            temperature=config.temperature,
            image_score=image_score,
            top=max(1, round(config.typing_share * int(abnormal.shape[1]))),
        )
        return Scores(
            image_score=image_score,
            anomaly_map=smooth_enlarge(enlarged, cell_px=1, sigma_cells=config.smoothing * cell_px),
            types=texts.types,
            type_scores=type_scores,
            type_maps=typed.reshape(*typed.shape[:2], *features.grid),
        )

    def loss(
        self, features: Features, targets: Targets, vocabulary: Vocabulary, *, cache: TextCache | None = None
    ) -> Losses:
        """Focal of the image + Σ over levels (focal + dice of abnormal + dice of normal)."""
        del vocabulary, cache  # its prompts know normal and abnormal only
        states = self._states_of(features, targets.products)
        by_level = self.level_logits(features, states)
        terms = self._pixel_terms(by_level, targets)
        logits = torch.stack(by_level).mean(0)
        probabilities = self.image_probabilities(features, states, self.fused(features, logits))
        terms["image_focal"] = focal(probabilities[..., None, None], targets.label[:, None, None])
        return Losses(sum(terms.values(), torch.zeros(())), terms)

    def _states_of(self, features: Features, products: Sequence[str]) -> Tensor:
        """Normal and abnormal [B, 2, D] of each image, in the words of its own product."""
        first = self._first(features)
        names = list(products) or [""] * len(first)
        states: dict[int, Tensor] = {}
        for name in dict.fromkeys(names):
            rows = [row for row, product in enumerate(names) if product == name]
            encoded = _states(self.encode_sentences(*self.embed_sentences(name), first[rows]))
            states |= zip(rows, encoded, strict=True)
        return torch.stack([states[row] for row in range(len(first))])

    def _pixel_terms(self, by_level: Sequence[Tensor], targets: Targets) -> dict[str, Tensor]:
        """Sums over the levels of focal and both dice terms, over the images of the batch that have a mask."""
        mask = targets.mask
        if targets.has_mask is not None:
            by_level, mask = [logits[targets.has_mask] for logits in by_level], mask[targets.has_mask]
        terms = {name: by_level[0].sum() * 0 for name in ("focal", "dice_abnormal", "dice_normal")}
        if not len(mask):
            return terms
        counted = 0 if self.config.dice == "image" else 1  # the last axis that numbers what dice is taken of
        for logits in by_level:
            size, corners = (mask.shape[-2], mask.shape[-1]), self.config.align_corners
            both = enlarge_maps(logits, size, align_corners=corners).softmax(1)  # [B, 2, S, S]
            normal, abnormal, truth = (maps.flatten(0, counted) for maps in (both[:, 0], both[:, 1], mask))
            terms["focal"] = terms["focal"] + focal(both, mask > 0.5)
            terms["dice_abnormal"] = terms["dice_abnormal"] + dice(abnormal, truth)
            terms["dice_normal"] = terms["dice_normal"] + dice(normal, 1 - truth)
        return terms

    def _first(self, features: Features) -> Tensor:
        return features.global_feature[:, self.backbone.config.joint_width :]

    def _generator(self) -> np.random.RandomState:
        if self.config.fusion_draws == "stream":
            return self._stream
        return np.random.RandomState(self.config.fusion_seed)


def sentences(product: str) -> list[str]:
    """28 sentences of normal states of a product, then 20 of abnormal ones: state by state, templates within a state."""
    name = _plain(product_words(product, underscores="keep"))
    states = [state.replace("{}", name) for state in (*NORMAL_STATES, *ABNORMAL_STATES)]
    return [template.replace("{}", state) for state in states for template in TEMPLATES]


def _states(encoded: Tensor) -> Tensor:
    """Normal and abnormal [B, 2, D] of length 1 from sentences [B, M, D]."""
    normal = len(NORMAL_STATES) * len(TEMPLATES)
    unit = F.normalize(encoded, dim=-1)
    return F.normalize(torch.stack([unit[:, :normal].mean(1), unit[:, normal:].mean(1)], dim=1), dim=-1)


def _hybrid(
    static: Tensor | None, layer: nn.Linear | None, first: Tensor, *, blocks: int, tokens: int
) -> Tensor | None:
    """Static tokens [J, n, W] and those that the layer makes of features [B, D], added: [J, B, n, W]; None without either."""
    if layer is None:
        return None if static is None else static[:, None].expand(-1, len(first), -1, -1)
    dynamic = layer(first).reshape(1, len(first), tokens, -1)
    return dynamic.expand(blocks, -1, -1, -1) if static is None else static[:, None] + dynamic


def _plain(object_name: str) -> str:
    return object_name.replace("-", " ")


def _tokens(*shape: int) -> nn.Parameter:
    return nn.Parameter(INITIAL_STD * torch.randn(*shape))
