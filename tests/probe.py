"""Methods that train in a moment, on a backbone that runs in a moment, and images to train them on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from blemish.backbones.config import BackboneConfig
from blemish.backbones.model import Clip
from blemish.data.samples import DataSet, Split
from blemish.errors import ImageError
from blemish.images import Picture
from blemish.language import Vocabulary
from blemish.methods import METHODS
from blemish.methods.base import Features, Losses, Method, Scores, Targets, Texts
from blemish.methods.text_cache import TextCache

SIZE, GRID = 32, 4
TINY = BackboneConfig.from_dict(
    {
        "name": "tiny",
        "joint_width": 16,
        "vision": {
            "image_size": SIZE,
            "width": 32,
            "depth": 2,
            "heads": 2,
            "patch_size": 8,
            "position_grid": GRID,
        },
        "text": {"width": 16, "depth": 2, "heads": 2},
    }
)


@dataclass(frozen=True)
class ProbeConfig:
    """Options of the probe. noise: added to the features while training, as dropout would."""

    noise: float = 0.01
    weight: float = 1.0


class Probe(Method):
    """A learned direction tells abnormal places from normal ones; another one that only some losses reach stays unused."""

    name: ClassVar[str] = "probe"
    config_type: ClassVar[type] = ProbeConfig
    encoded: ClassVar[int] = 0  # images that went through the tower

    def __init__(self, backbone: Clip, config: ProbeConfig) -> None:
        super().__init__(backbone, config)
        self.direction = nn.Parameter(torch.randn(backbone.config.joint_width))
        self.bias = nn.Parameter(torch.zeros(()))
        self.unused = nn.Parameter(torch.ones(3))

    def compute_texts(self, vocabulary: Vocabulary, cache: TextCache) -> Texts:
        del cache
        return Texts(vocabulary)

    def frozen_key(self) -> str:
        return "probe"

    def encode(self, images: Tensor) -> Features:
        type(self).encoded += len(images)
        seen = self.backbone.image(images)
        tokens = F.normalize(self.backbone.image.project(seen.tokens), dim=-1)
        return Features(tokens[:, 0], (tokens[:, 1:],), seen.grid)

    def score(self, features: Features, texts: Texts) -> Scores:
        maps = self._logits(features.levels[0]).sigmoid()
        types = torch.full((len(maps), len(texts.types)), 0.5)
        return Scores(maps.amax(1), maps.unflatten(1, features.grid), texts.types, types, types[..., None, None])

    def loss(
        self, features: Features, targets: Targets, vocabulary: Vocabulary, *, cache: TextCache | None = None
    ) -> Losses:
        del vocabulary, cache
        places = features.levels[0]
        logits = self._logits(places + self.config.noise * torch.randn_like(places)).float()
        truth = F.adaptive_max_pool2d(targets.mask[:, None], features.grid).flatten(1)
        terms = {
            "places": F.binary_cross_entropy_with_logits(logits, truth),
            "image": F.binary_cross_entropy_with_logits(logits.amax(1), targets.label.float()),
        }
        return Losses(terms["places"] + self.config.weight * terms["image"], terms)

    def _logits(self, places: Tensor) -> Tensor:
        return 4 * (places @ self.direction) + self.bias


class InsideProbe(Probe):
    """The same with a trained part before the tower: its features cannot be kept."""

    name: ClassVar[str] = "inside"

    def __init__(self, backbone: Clip, config: ProbeConfig) -> None:
        super().__init__(backbone, config)
        self.shade = nn.Parameter(torch.zeros(3, 1, 1))

    @property
    def worth_caching(self) -> bool:
        return False

    def encode_frozen(self, images: Tensor) -> Features:
        return Features(images.flatten(1), (), (images.shape[2], images.shape[3]))

    def encode_trained(self, frozen: Features) -> Features:
        return super().encode(frozen.global_feature.unflatten(1, (3, *frozen.grid)) + self.shade)

    def encode(self, images: Tensor) -> Features:
        return self.encode_trained(self.encode_frozen(images))


@dataclass(frozen=True, eq=False)
class ArraySample:
    """A sample in memory."""

    name: str
    image: NDArray[np.uint8]
    truth: NDArray[np.bool_] | None
    anomalous: bool
    split: Split = "train"
    product: str = "thing"
    defect_type: str = ""
    readable: bool = True

    @property
    def folder(self) -> str:
        return self.defect_type or "good"

    @property
    def has_mask(self) -> bool:
        return self.truth is not None

    def digest(self) -> str:
        return hashlib.sha256(self.image.tobytes()).hexdigest()

    def picture(self) -> Picture:
        if not self.readable:
            raise ImageError(self.name, "is damaged")
        return Picture(self.image, self.name)

    def mask(self) -> NDArray[np.bool_] | None:
        return self.truth


def register() -> None:
    """Makes the probes known by name."""
    METHODS.own |= {"probe": "probe:Probe", "inside": "probe:InsideProbe"}


def tiny_clip() -> Clip:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return Clip(TINY)


def samples(count: int, *, seed: int = 0, split: Split = "train") -> list[ArraySample]:
    """Grey noise; every other image has a bright square and is anomalous."""
    rng = np.random.default_rng(seed)
    made = []
    for number in range(count):
        image = rng.integers(90, 110, (40, 48, 3)).astype(np.uint8)
        mask = np.zeros((40, 48), bool)
        if number % 2:
            y, x = rng.integers(0, 24, 2)
            mask[y : y + 16, x : x + 16] = True
            image[mask] = 250
        kind = ("", "spot")[number % 2]
        made.append(ArraySample(f"{seed}/{number:03d}", image, mask, bool(number % 2), split, defect_type=kind))
    return made


def data_set(count: int = 11, *, seed: int = 0, change: Callable[[ArraySample], ArraySample] | None = None) -> DataSet:
    made = samples(count, seed=seed)
    return DataSet("squares", tuple(map(change, made) if change else made), "image+pixel", variant=f"seed {seed}")


def without_mask(sample: ArraySample) -> ArraySample:
    return replace(sample, truth=None) if sample.anomalous else sample
