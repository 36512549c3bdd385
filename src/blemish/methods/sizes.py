"""A method that looks at each image at two sizes, and answers with the mean of the log odds of both.

What is large in the image is judged better in a small input, which the training knew, and what is small in a large one: of the
same weights at 224 and 448 px neither is better everywhere, their mean errs less (docs/model-judge.md).

B batch, N patches of a grid h x w, C channels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from blemish.errors import UsageError
from blemish.language import Vocabulary
from blemish.methods.base import Features, Method, Scores, Texts
from blemish.methods.text_cache import TextCache

__all__ = ["TwoSizes"]

SURE = 1e-6  # as near as a probability comes to 0 or 1 before it becomes log odds


@dataclass(frozen=True, kw_only=True)
class FeaturesOfSizes(Features):
    """The features at the large size, and those at the small one."""

    small: Features

    def to(self, device: torch.device) -> Self:
        return replace(super().to(device), small=self.small.to(device))


class TwoSizes(Method):
    """One method with the same weights at a large and a small input size.

    Args:
        large: The method; its backbone says the size that images come in.
        small: The same on the same backbone at a smaller size.
    """

    def __init__(self, large: Method, small: Method) -> None:
        super().__init__(large.backbone, large.config)
        if small.backbone.config.preprocess.size >= large.backbone.config.preprocess.size:
            raise UsageError("of two input sizes the second must be larger than the first")
        self.name = large.name  # type: ignore[misc]  # it depends on the method
        self.large, self.small = large, small
        self.small_px = small.backbone.config.preprocess.size
        self.scores_depend_on_vocabulary = large.scores_depend_on_vocabulary
        self.good_references = large.good_references

    def compute_texts(self, vocabulary: Vocabulary, cache: TextCache) -> Texts:
        return self.large.compute_texts(vocabulary, cache)  # texts know no image size

    def text_key(self) -> tuple[str, torch.device]:
        return self.large.text_key()

    def encode(self, images: Tensor, *, compare: bool = False) -> FeaturesOfSizes:
        side = (self.small_px, self.small_px)
        reduced = F.interpolate(images, side, mode="bicubic", antialias=True, align_corners=False)
        own = self.large.encode(images, compare=compare)
        return FeaturesOfSizes(
            own.global_feature, own.levels, own.grid, own.reference_maps, small=self.small.encode(reduced)
        )

    def score(self, features: Features, texts: Texts) -> Scores:
        assert isinstance(features, FeaturesOfSizes)
        large, small = self.large.score(features, texts), self.small.score(features.small, texts)
        anomaly_map = _mean(large.anomaly_map, _on_grid(small.anomaly_map[:, None], large.anomaly_map)[:, 0])
        image_score = _mean(large.image_score, small.image_score)
        shares = _shares(large.type_maps, large.anomaly_map) + _shares(
            small.type_maps, small.anomaly_map, large.type_maps
        )
        on_types = _on_grid(anomaly_map[:, None], large.type_maps)
        of_image = large.type_scores / large.image_score[:, None].clamp_min(SURE)
        of_image = of_image + small.type_scores / small.image_score[:, None].clamp_min(SURE)
        return Scores(
            image_score=image_score,
            anomaly_map=anomaly_map,
            types=large.types,
            type_scores=(image_score[:, None] * of_image / 2).clamp(0, 1),
            type_maps=(on_types * shares / 2).clamp(0, 1),
        )

    def for_product(self, name: str) -> Method:
        return TwoSizes(self.large.for_product(name), self.small.for_product(name))

    def with_references(self, batches: Iterable[Tensor]) -> Method:
        del batches
        raise UsageError(f"the memory of {self.name!r} takes one input size: give one with --input-px")

    def remarks(self) -> tuple[str, ...]:
        return self.large.remarks()

    def fingerprint(self) -> str:
        return hashlib.sha256(f"{self.small.fingerprint()}+{self.large.fingerprint()}".encode()).hexdigest()[:16]


def _mean(first: Tensor, second: Tensor) -> Tensor:
    """Probabilities whose log odds are the mean of these two."""
    return ((first.clamp(SURE, 1 - SURE).logit() + second.clamp(SURE, 1 - SURE).logit()) / 2).sigmoid()


def _shares(type_maps: Tensor, anomaly_map: Tensor, like: Tensor | None = None) -> Tensor:
    """What of the anomaly each type is, [B, T, h, w], on the grid of `like`."""
    shares = type_maps / _on_grid(anomaly_map[:, None], type_maps).clamp_min(SURE)
    return shares if like is None else _on_grid(shares, like)


def _on_grid(maps: Tensor, like: Tensor) -> Tensor:
    """Maps [B, C, h, w] on the grid of other maps [..., h', w']."""
    grid = like.shape[-2:]
    if maps.shape[-2:] == grid:
        return maps
    return F.interpolate(maps, tuple(grid), mode="bilinear", align_corners=False)
