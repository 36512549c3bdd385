"""A method whose words look at an image as usual, while its patches are compared at a larger size.

The words' transformer costs with the square of the patches; the trunk that patches are compared by does not. So images can be
compared at twice the size for a fraction of what the words would cost there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import replace

import torch.nn.functional as F
from torch import Tensor

from blemish.backbones.efficientnet import COMPARED
from blemish.errors import UsageError
from blemish.language import Vocabulary
from blemish.methods.base import Features, Method, Scores, Texts
from blemish.methods.text_cache import TextCache

__all__ = ["Closer"]


class Closer(Method):
    """The other method's scores, with reference maps of a larger input.

    Args:
        inner: The other method; its backbone has a trunk.
        input_px: Side of the images that it takes; they are reduced for the words.

    Raises:
        UsageError: The backbone has no trunk, or does not take that size.
    """

    config_type = type(None)

    def __init__(self, inner: Method, input_px: int) -> None:
        if inner.backbone.image.trunk is None:
            raise UsageError(f"the backbone {inner.backbone.config.name!r} has no trunk to compare larger images by")
        super().__init__(inner.backbone.at_input(input_px), inner.config)
        self.inner = inner
        self.name = inner.name  # type: ignore[misc]  # the other one's
        self.scores_depend_on_vocabulary = inner.scores_depend_on_vocabulary

    def compute_texts(self, vocabulary: Vocabulary, cache: TextCache) -> Texts:
        return self.inner.compute_texts(vocabulary, cache)

    def fingerprint(self) -> str:
        decisive = f"{self.inner.fingerprint()} compared at {self.backbone.config.preprocess.size} px"
        return hashlib.sha256(decisive.encode()).hexdigest()[:16]

    def remarks(self) -> tuple[str, ...]:
        return self.inner.remarks()

    def for_product(self, name: str) -> Method:
        inner = self.inner.for_product(name)
        return self if inner is self.inner else Closer(inner, self.backbone.config.preprocess.size)

    def with_references(self, batches: Iterable[Tensor]) -> Method:
        return self.inner.with_references(batches)

    def encode(self, images: Tensor, *, compare: bool = False) -> Features:
        size, trunk = self.inner.backbone.config.preprocess.size, self.backbone.image.trunk
        reduced = F.interpolate(images, (size, size), mode="bicubic", antialias=True, align_corners=False)
        features = self.inner.encode(reduced)
        if not compare:
            return features
        assert trunk is not None
        maps = trunk(images)
        return replace(features, reference_maps=tuple(maps[level].float().contiguous() for level in COMPARED))

    def score(self, features: Features, texts: Texts) -> Scores:
        return self.inner.score(features, texts)
