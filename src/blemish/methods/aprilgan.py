"""APRIL-GAN (also cited as VAND): written prompts, one trained linear adapter a level; with good images also their memory.

Chen, Han, Zhang: "APRIL-GAN: A Zero-/Few-Shot Anomaly Classification and Segmentation Method for CVPR 2023 VAND Workshop
Challenge Tracks 1&2", arXiv 2305.17382. docs/aprilgan.md reads the paper beside this file and lists the quirks of the released
code; each is an option of `AprilGANConfig` or not taken over.

B batch, L levels, N patches of a grid h x w, W tower width, D joint width, T defect types, S side of the input in pixels.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blemish.backbones import fast
from blemish.backbones.model import Clip
from blemish.errors import ModelError, UsageError
from blemish.io.codec import to_dict
from blemish.language import Vocabulary
from blemish.methods.base import Features, Losses, Method, Release, Scores, Targets, Texts
from blemish.methods.good_references import GoodReferences, remember
from blemish.methods.losses import dice, focal
from blemish.methods.naming import direction, share_out, type_directions
from blemish.methods.patches import reference_maps
from blemish.methods.products import Underscores, product_words
from blemish.methods.text_cache import TextCache
from blemish.methods.typed import anomaly_map, enlarge_maps

__all__ = ["AprilGAN", "AprilGANConfig", "AprilGANTexts", "phrases"]

RELEASED = "trainable_linearlayer.fc."  # what stands before the adapters' names in the authors' files
State = Literal["normal", "abnormal"]
FARTHEST = 2  # the largest distance, 1 - cosine
TYPING_SHARE = 0.005  # of the most anomalous patches, whose types stand for the image's


@dataclass(frozen=True, kw_only=True)
class AprilGANConfig:
    """Options of APRIL-GAN; the defaults are the paper's and, where it is silent, the released code's."""

    object_name: str = ""  # the product in the prompts; "" for the data set's word, and "object" where there is none
    underscores: Underscores = "keep"  # of that word: as released, or as "blank"
    temperature: float = 0.01  # of both softmaxes
    # of both towers; the release has exact GELU on weights that OpenAI trained with QuickGELU, for every input but 336 px
    activation: Literal["backbone", "gelu", "quick_gelu"] = "backbone"
    align_corners: bool = (
        True  # where maps are enlarged: the centres of the outer patches lie on the border of the image
    )

    few_shot_levels: tuple[int, ...] | None = (
        None  # blocks (1-based) whose patches are compared; None: the adapters' levels
    )
    # How the map's maximum enters the few-shot image score: "fixed" divides it by the largest possible value. "test-set" scales
    # it from 0 to 1 over the images that are scored together, as the release does over all test images of a product: then an
    # image's score depends on the others, and numbers on a test set use what no inspection has.
    map_scale: Literal["fixed", "test-set"] = "fixed"

    def __post_init__(self) -> None:
        if self.temperature <= 0:
            raise UsageError(f"temperature is above 0, not {self.temperature}")


@dataclass(frozen=True)
class AprilGANTexts(Texts):
    """The directions that patches are compared with, each of length 1."""

    states: Tensor  # [2, D]: normal, abnormal
    defects: Tensor  # [T, D]


class AprilGAN(Method):
    """At every patch of every level the softmax over normal and abnormal, after a linear layer into the joint space.

    Texts are frozen and only the adapters are trained, so that what the image tower gives can be kept. The zero-shot image score
    is CLIP's own, which training does not move.

    Features: the global feature [B, D], of length 1; as levels the patch tokens [B, N, W] of the adapters' blocks, then those of
    other few-shot levels.
    """

    name = "aprilgan"
    config_type = AprilGANConfig
    recipe: ClassVar[Mapping[str, Any]] = {"epochs": 3, "batch_size": 8}
    scoring_options = frozenset(
        {"object_name", "underscores", "temperature", "align_corners", "few_shot_levels", "map_scale"}
    )
    scores_depend_on_vocabulary = False
    has_own_memory = True

    def __init__(self, backbone: Clip, config: AprilGANConfig | None = None) -> None:
        config = config or AprilGANConfig()
        if config.activation != "backbone":
            backbone = backbone.with_activation(config.activation)
        super().__init__(backbone, config)
        self.config: AprilGANConfig
        shape = backbone.config
        self.levels = shape.levels  # the i-th adapter belongs to the i-th of them
        self.few_shot_levels = self.levels if config.few_shot_levels is None else tuple(config.few_shot_levels)
        if not self.few_shot_levels or not all(1 <= level <= shape.vision.depth for level in self.few_shot_levels):
            raise UsageError(f"few_shot_levels {list(self.few_shot_levels)} are outside 1..{shape.vision.depth}")
        self.adapters = nn.ModuleList(nn.Linear(shape.vision.width, shape.joint_width) for _ in self.levels)
        self.memory: GoodReferences | None = None

    def for_product(self, name: str) -> AprilGAN:
        if self.config.object_name:
            return self
        return self._with(replace(self.config, object_name=name), self.memory)

    def with_references(self, batches: Iterable[Tensor]) -> AprilGAN:
        def encode(batch: Tensor) -> list[Tensor]:
            return self.compared(self.encode(batch))

        with torch.inference_mode():
            memory = remember(batches, encode, size_px=self.backbone.config.preprocess.size, method=self.name)
        return self._with(self.config, memory)

    def _with(self, config: AprilGANConfig, memory: GoodReferences | None) -> AprilGAN:
        other = AprilGAN(self.backbone, config)
        other.adapters = self.adapters
        other.memory = memory
        other.good_references = memory.identity if memory else ""
        return other.train(self.training)

    # texts

    def text_key(self) -> tuple[str, torch.device]:
        """Nothing in the texts is trained."""
        decided_by = json.dumps([self.name, to_dict(self.config), self.backbone.fingerprint()], sort_keys=True)
        return decided_by, self.backbone.logit_scale.device

    def compute_texts(self, vocabulary: Vocabulary, cache: TextCache) -> AprilGANTexts:
        defects = type_directions(
            self.backbone,
            vocabulary,
            object_name=self._words(self.config.object_name),
            cache=cache,
            decided_by=self.text_key(),
        )
        return AprilGANTexts(vocabulary, self.state_directions([self.config.object_name], cache)[0], defects)

    def state_directions(self, products: Sequence[str], cache: TextCache) -> Tensor:
        """The directions of normal and abnormal for each of P products, [P, 2, D]."""

        def encode(missing: Sequence[tuple[State, str]]) -> Tensor:
            return torch.stack(
                [direction(self.backbone, phrases(state), object_name=product) for state, product in missing]
            )

        states: tuple[State, ...] = ("normal", "abnormal")
        asked = [(state, self._words(product)) for product in products for state in states]
        return cache.features(asked, encode, decided_by=self.text_key()).reshape(len(products), 2, -1)

    def _words(self, product: str) -> str:
        return product_words(product, underscores=self.config.underscores)

    # images

    def frozen_key(self) -> str:
        return f"aprilgan {self.config.activation} {self._encoded}"

    @property
    def _encoded(self) -> tuple[int, ...]:
        """The blocks whose tokens are the levels of the features: the adapters', then others that are compared."""
        return (*self.levels, *sorted(set(self.few_shot_levels) - set(self.levels)))

    def encode(self, images: Tensor, *, compare: bool = False) -> Features:
        tower, depth = self.backbone.image, self.backbone.config.vision.depth
        levels = sorted(self._encoded)
        encoded = fast.image_features(tower, tower.embed(images), levels=levels, patches=depth in levels)
        return Features(
            global_feature=F.normalize(tower.project(encoded.tokens[:, 0]), dim=-1),
            levels=tuple(encoded.levels[level][:, 1:] for level in self._encoded),
            grid=encoded.grid,
            reference_maps=reference_maps(encoded, self.levels) if compare else (),
        )

    def adapted(self, features: Features) -> list[Tensor]:
        """The patches of each level in the joint space, [B, N, D] of length 1."""
        levels = features.levels[: len(self.levels)]
        return [F.normalize(adapter(level), dim=-1) for adapter, level in zip(self.adapters, levels, strict=True)]

    def compared(self, features: Features) -> list[Tensor]:
        """The patch tokens of the few-shot levels, [B, N, W] each."""
        return [features.levels[self._encoded.index(level)] for level in self.few_shot_levels]

    def logits(self, adapted: Sequence[Tensor], states: Tensor, grid: tuple[int, int]) -> list[Tensor]:
        """cosine / temperature of the patches with normal and abnormal, [B, 2, h, w] a level; states [2, D] or [B, 2, D]."""
        states = states.expand(len(adapted[0]), -1, -1)
        return [
            (torch.einsum("bnd,bsd->bsn", patches, states) / self.config.temperature).reshape(len(patches), 2, *grid)
            for patches in adapted
        ]

    # scores

    def score(self, features: Features, texts: Texts) -> Scores:
        assert isinstance(texts, AprilGANTexts)
        adapted = self.adapted(features)
        logits = self.logits(adapted, texts.states, features.grid)
        corners, size = self.config.align_corners, self._size(features.grid)
        full_map = anomaly_map(logits, softmax="after", size=size, align_corners=corners)  # [B, S, S], mean over levels
        grid_map = torch.stack([level.softmax(1)[:, 1] for level in logits]).mean(0)  # [B, h, w]
        image_score = (features.global_feature @ texts.states.T / self.config.temperature).softmax(-1)[:, 1]
        if self.memory is not None:
            distances = self.distance_map(features)
            full_map = self._combined(full_map, enlarge_maps(distances[:, None], size, align_corners=corners)[:, 0])
            grid_map = self._combined(grid_map, distances)
            image_score = (image_score + self.scaled(full_map.amax((1, 2)))) / 2
        type_scores, typed = share_out(
            grid_map.flatten(1),
            adapted[-1],
            types=texts.defects,
            temperature=self.config.temperature,
            image_score=image_score,
            top=max(1, round(TYPING_SHARE * int(grid_map[0].numel()))),
        )
        return Scores(
            image_score=image_score,
            anomaly_map=full_map,
            types=texts.types,
            type_scores=type_scores,
            type_maps=typed.reshape(*typed.shape[:2], *features.grid),
        )

    def distance_map(self, features: Features) -> Tensor:
        """The sum over the few-shot levels of 1 - cosine with the nearest good patch, [B, h, w]."""
        assert self.memory is not None
        distances = [self.memory.distances(number, level) for number, level in enumerate(self.compared(features))]
        return torch.stack(distances).sum(0).reshape(-1, *features.grid)

    def _combined(self, mean: Tensor, distances: Tensor) -> Tensor:
        """The sum over levels of probability and distance, divided by the largest that it can be."""
        levels = len(self.levels)
        return (levels * mean + distances) / (levels + FARTHEST * len(self.few_shot_levels))

    def scaled(self, maxima: Tensor) -> Tensor:
        """The maxima [B] of the maps as a part of the image score."""
        if self.config.map_scale == "fixed":
            return maxima
        return (maxima - maxima.min()) / (maxima.max() - maxima.min()).clamp_min(torch.finfo(maxima.dtype).tiny)

    def _size(self, grid: tuple[int, int]) -> tuple[int, int]:
        patch_px = self.backbone.config.vision.patch_px
        return grid[0] * patch_px, grid[1] * patch_px

    # training

    def loss(
        self, features: Features, targets: Targets, vocabulary: Vocabulary, *, cache: TextCache | None = None
    ) -> Losses:
        """The sum over levels of focal + dice of abnormal, with the prompts of each image's own product."""
        del vocabulary
        by_level = self.level_losses(features, targets, cache=cache or TextCache())
        terms = {name: values.sum() for name, values in by_level.items()}
        return Losses(terms["focal"] + terms["dice_abnormal"], terms)

    def level_losses(self, features: Features, targets: Targets, *, cache: TextCache) -> dict[str, Tensor]:
        """The losses "focal" and "dice_abnormal" of each level, [L], over the images of the batch that have a mask."""
        count = len(targets.label)
        products = (
            targets.products if targets.products and not self.config.object_name else [self.config.object_name] * count
        )
        names = list(dict.fromkeys(products))
        with torch.no_grad():
            directions = self.state_directions(names, cache)  # [P, 2, D]
        states = directions[[names.index(product) for product in products]]  # [B, 2, D]
        logits, mask = self.logits(self.adapted(features), states, features.grid), targets.mask > 0.5
        if targets.has_mask is not None:
            logits, mask = [level[targets.has_mask] for level in logits], mask[targets.has_mask]
        if not len(mask):
            nothing = torch.stack([level.sum() for level in logits])
            return {"focal": nothing, "dice_abnormal": nothing}
        size, corners = (mask.shape[-2], mask.shape[-1]), self.config.align_corners
        both = [enlarge_maps(level, size, align_corners=corners).softmax(1) for level in logits]  # [B, 2, S, S] each
        return {
            "focal": torch.stack([focal(level, mask) for level in both]),
            "dice_abnormal": torch.stack([dice(level[:, 1], mask) for level in both]),
        }

    @classmethod
    def from_release(cls, state: Mapping[str, Tensor]) -> Release | None:
        levels = sum(name.startswith(RELEASED) and name.endswith(".weight") for name in state)
        if not levels:
            return None
        wanted = {f"{RELEASED}{i}.{part}": f"adapters.{i}.{part}" for i in range(levels) for part in ("weight", "bias")}
        for name in [*wanted, *state]:
            if name not in state or name not in wanted:
                what = "lacks" if name not in state else "holds an unknown part,"
                raise ModelError(f"expected APRIL-GAN's adapters of {levels} levels, but the file {what} {name}")
        joint, width = state[f"{RELEASED}0.weight"].shape
        return Release(
            description=f"APRIL-GAN's adapters of {levels} levels, from width {width} to {joint}, trained on exact GELU",
            options={"activation": "gelu"},
            parts={ours: state[theirs].float() for theirs, ours in wanted.items()},
        )


def phrases(state: State) -> list[str]:
    """Every phrasing of a state, with {} where the product's name goes."""
    data = _data()
    return [template.replace("{}", text) for text in data[state] for template in data["templates"]]


@cache
def _data() -> dict[str, list[str]]:
    return tomllib.loads((resources.files(__package__) / "aprilgan.toml").read_text(encoding="utf-8"))
