"""The few verbs that every method has: encode images, prepare texts, score, lose.

A method owns prompts, tokens and adapters around a frozen backbone. It takes images as tensors and returns scores; it knows
nothing of files, thresholds or pictures. B batch, N patches, C channels of its features, T defect types, h×w the patch grid.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from blemish.backbones.model import Clip
from blemish.errors import ModelError, UsageError
from blemish.io.codec import to_dict
from blemish.language import Vocabulary, general

__all__ = ["Features", "Losses", "Method", "Scores", "Targets"]


@dataclass(frozen=True)
class Features:
    """What a method reads of images, the only thing that `score` and `loss` see of them; it can be kept and used again.

    whole [B, C] stands for the image, each of `levels` [B, N, C] for its places; grid is (rows, columns), N their product.
    Which tokens, in which space, normalised or not, is the method's own affair.
    """

    whole: Tensor
    levels: tuple[Tensor, ...]
    grid: tuple[int, int]


@dataclass(frozen=True)
class Scores:
    """What a method says of a batch; higher is more anomalous, everything in 0..1.

    image_score [B]; anomaly_map [B, H, W] on the patch grid or finer; type_maps [B, T, h, w] on the patch grid and type_scores
    [B, T] in the order of `types`, the prepared vocabulary's names.
    """

    image_score: Tensor
    anomaly_map: Tensor
    types: tuple[str, ...]
    type_scores: Tensor
    type_maps: Tensor


@dataclass(frozen=True)
class Targets:
    """The truth of a batch: label [B] (0 normal, 1 anomalous), mask [B, S, S] of 0 and 1 at the tower's input size S,
    has_mask [B] (false where nobody drew one: such an image teaches only the image level), type_id [B] (0 normal, 1..T)."""

    label: Tensor
    mask: Tensor
    has_mask: Tensor | None = None
    type_id: Tensor | None = None


@dataclass(frozen=True)
class Losses:
    """The terms of a loss by name, each a scalar, and their weighted total."""

    total: Tensor
    terms: dict[str, Tensor]


class Method(nn.Module, ABC):
    """One published method on one backbone. Texts are prepared once and cached; images come in batches."""

    name: ClassVar[str]
    config_type: ClassVar[type]  # a frozen dataclass with a default for every option
    scoring_options: ClassVar[frozenset[str]] = (
        frozenset()
    )  # those that may differ from what the prompts were trained with
    scores_depend_on_vocabulary: bool = True  # false: names move no score, and a threshold holds for all of them
    peers: str = ""  # the images that all others are compared with, "" for none (see `mutual`)
    recipe: ClassVar[Mapping[str, Any]] = {}  # what its authors train with where it differs from `training.Recipe`

    def __init__(self, backbone: Clip, config: Any) -> None:
        super().__init__()
        self.config = config
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
    def encode(self, images: Tensor) -> Features:
        """The features that `score` needs of normalised images [B, 3, S, S]."""

    def begin(self, images: Tensor) -> Features:
        """The part of `encode` that no training moves: all of it, unless a method trains inside the tower."""
        return self.encode(images)

    def finish(self, begun: Features) -> Features:
        """What `encode` gives, from what `begin` gave; the same again where that is all of it."""
        return begun

    @property
    def worth_keeping(self) -> bool:
        """Whether `begin` does so much that what it gives is kept on the disk while training."""
        return True

    def begin_key(self) -> str:
        """What decides, besides the backbone and the image, what `begin` gives: with equal keys, kept features can be used
        again. It stands for the method and all its options, unless a method knows which of them matter."""
        return json.dumps([self.name, to_dict(self.config)], sort_keys=True)

    @abstractmethod
    def score(self, features: Features) -> Scores:
        """Scores and maps of encoded images; `prepare` must have been called."""

    def loss(self, features: Features, targets: Targets) -> Losses:
        """The training loss of a batch; UsageError where a method has nothing to train."""
        del features, targets
        raise UsageError(f"the method {self.name!r} needs no training")

    def trained_parts(self) -> dict[str, nn.Parameter]:
        """The parameters that training moves, by name: everything but the backbone's."""
        return {name: value for name, value in self.named_parameters() if not name.startswith("backbone.")}

    def fingerprint(self) -> str:
        """16 hex digits that tell this model from others: backbone, its input, method, options and trained parts."""
        digest = hashlib.sha256(self.backbone.fingerprint().encode())
        told = [self.name, to_dict(self.config), to_dict(self.backbone.config.preprocess)]
        digest.update(json.dumps(told, sort_keys=True).encode())
        for name, part in sorted(self.trained_parts().items()):
            digest.update(name.encode() + part.detach().cpu().float().numpy().tobytes())
        return digest.hexdigest()[:16]

    @torch.no_grad()
    def load_trained(self, state: Mapping[str, Tensor]) -> None:
        """Takes the trained parts from a checkpoint; ModelError names the first that is missing, unknown or of another shape."""
        parts = self.trained_parts()
        for name in [*parts, *state]:
            if name not in state or name not in parts:
                what = "lacks" if name not in state else "holds an unknown part,"
                raise ModelError(f"the checkpoint {what} {name} of the method {self.name!r}")
            if state[name].shape != parts[name].shape:
                raise ModelError(
                    f"{name} is {list(state[name].shape)} in the checkpoint, but {list(parts[name].shape)} on this backbone "
                    f"with these options of {self.name!r}"
                )
        for name, parameter in parts.items():
            parameter.copy_(state[name])
