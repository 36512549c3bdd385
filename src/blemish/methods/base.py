"""The few verbs that every method has: encode images, prepare texts, score, lose.

A method owns prompts, tokens and adapters around a frozen backbone. It takes images as tensors and returns scores; it knows
nothing of files, thresholds or pictures. B batch, N patches, D joint width, T defect types, h×w the patch grid.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from blemish.clip.model import Clip
from blemish.clip.vision import VisionFeatures
from blemish.errors import UsageError
from blemish.vocabulary import Vocabulary, general

__all__ = ["Losses", "Method", "Scores", "Targets"]


@dataclass(frozen=True)
class Scores:
    """What a method says of a batch; higher is more anomalous, everything in 0..1.

    image_score [B]; anomaly_map [B, h, w] at model resolution; type_maps [B, T, h, w] and type_scores [B, T] in the order of
    `types`, the prepared vocabulary's names.
    """

    image_score: Tensor
    anomaly_map: Tensor
    types: tuple[str, ...]
    type_scores: Tensor
    type_maps: Tensor


@dataclass(frozen=True)
class Targets:
    """The truth of a batch: label [B] (0 normal, 1 anomalous), mask [B, H, W] in 0..1, type_id [B] (0 normal, 1..T)."""

    label: Tensor
    mask: Tensor
    type_id: Tensor | None = None


@dataclass(frozen=True)
class Losses:
    """The terms of a loss by name, each a scalar, and their weighted total."""

    total: Tensor
    terms: dict[str, Tensor]


class Method(nn.Module, ABC):
    """One published method on one backbone. Texts are prepared once and cached; images come in batches."""

    name: ClassVar[str]

    def __init__(self, backbone: Clip) -> None:
        super().__init__()
        self.backbone = backbone.requires_grad_(False).eval()
        self.vocabulary = general()

    @property
    def types(self) -> tuple[str, ...]:
        return self.vocabulary.names

    def prepare(self, vocabulary: Vocabulary | None = None) -> None:
        """Takes a vocabulary (the built-in one by default) and computes what no image changes."""
        self.vocabulary = vocabulary or general()
        with torch.inference_mode():
            self.prepare_texts()

    @abstractmethod
    def prepare_texts(self) -> None:
        """Computes and keeps the text features of `self.vocabulary`."""

    @abstractmethod
    def encode(self, images: Tensor) -> VisionFeatures:
        """The features that `score` needs of normalised images [B, 3, S, S]."""

    @abstractmethod
    def score(self, features: VisionFeatures) -> Scores:
        """Scores and maps of encoded images; `prepare` must have been called."""

    def loss(self, features: VisionFeatures, targets: Targets) -> Losses:
        """The training loss of a batch; UsageError where a method has nothing to train."""
        del features, targets
        raise UsageError(f"the method {self.name!r} needs no training")
