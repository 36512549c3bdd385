"""What every method can do: encode images, encode texts, score, and give a loss to train with.

A method owns prompts, tokens and adapters around a frozen backbone. It takes images as tensors and returns scores; it knows
nothing of files, thresholds or pictures. B batch, N patches, C channels of its features, T defect types, h×w the patch grid.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import Any, ClassVar, Self, TypeVar

import torch
from torch import Tensor, nn

from blemish.backbones.model import Clip
from blemish.errors import ModelError, UsageError
from blemish.io.codec import from_dict, to_dict
from blemish.language import DefectType, Vocabulary, general
from blemish.methods.naming import phrases
from blemish.methods.text_cache import TextCache

__all__ = ["Features", "Losses", "Method", "Release", "Scores", "Targets", "Texts"]

Data = TypeVar("Data", bound="Features | Texts | Targets")


@dataclass(frozen=True)
class Features:
    """What a method reads of a batch of images, all that `score` and `loss` see of them; it can be kept and used again.

    Which tokens, in which space, normalised or not, is the method's own affair.
    """

    global_feature: Tensor  # [B, C], of the image as a whole
    levels: tuple[Tensor, ...]  # L times [B, N, C], patch features
    grid: tuple[int, int]  # rows and columns of patches, N = rows * columns
    reference_maps: tuple[Tensor, ...] = ()  # [B, C, h, w], what patches are compared by with reference images

    def to(self, device: torch.device) -> Self:
        """The same features on a device."""
        return _on_device(self, device)


@dataclass(frozen=True)
class Texts:
    """A vocabulary as a method knows it; each method has its own subclass with the text features that its scores need."""

    vocabulary: Vocabulary

    @property
    def types(self) -> tuple[str, ...]:
        """The names of the defect types, in the order of the scores."""
        return self.vocabulary.names

    def to(self, device: torch.device) -> Self:
        """The same texts on a device."""
        return _on_device(self, device)


@dataclass(frozen=True)
class Scores:
    """What a method says of a batch; higher is more anomalous, everything in 0..1.

    image_score [B]; anomaly_map [B, H, W] on the patch grid or finer; type_maps [B, T, h, w] on the patch grid and type_scores
    [B, T] in the order of `types`.
    """

    image_score: Tensor
    anomaly_map: Tensor
    types: tuple[str, ...]
    type_scores: Tensor
    type_maps: Tensor
    reasons: Tensor | None = None  # [B, 2], log odds and distance ratio of `results.Reasons`; beside good images only


@dataclass(frozen=True)
class Targets:
    """The truth of a batch: label [B] (0 normal, 1 anomalous), mask [B, S, S] of 0 and 1 at the tower's input size S,
    has_mask [B] (false where nobody drew one: such an image teaches only the image level), type_id [B] (0 normal, 1..T),
    products the data set's word for what each of the B images shows (empty where nobody said)."""

    label: Tensor
    mask: Tensor
    has_mask: Tensor | None = None
    type_id: Tensor | None = None
    products: tuple[str, ...] = ()

    def to(self, device: torch.device) -> Self:
        """The same truth on a device."""
        return _on_device(self, device)


@dataclass(frozen=True)
class Losses:
    """The terms of a loss by name, each a scalar, and their weighted total."""

    total: Tensor
    terms: dict[str, Tensor]


@dataclass(frozen=True)
class Release:
    """What a checkpoint of a method's authors holds, in our names."""

    description: str  # which kind of file it is, in words
    options: dict[str, Any]  # of the method's configuration
    parts: dict[str, Tensor]  # the trained parts by name, float32


class Method(nn.Module, ABC):
    """One published method on one backbone: images and texts are encoded, then scored together.

    It holds no vocabulary, so that one method serves several vocabularies at once.
    """

    name: ClassVar[str]
    config_type: ClassVar[type]  # a frozen dataclass with a default for every option
    scoring_options: ClassVar[frozenset[str]] = frozenset()  # those that may differ from the prompts' training
    scores_depend_on_vocabulary: bool = True  # false: names move no score, and a threshold holds for all of them
    references: str = ""  # the images that all others are compared with, "" for none (`referenced.among_peers`)
    good_references: str = ""  # the good images in its memory, "" for none
    has_own_memory: ClassVar[bool] = False  # a published few-shot part: `with_references`. Others: `referenced`
    own_thresholds: Mapping[str, float] = MappingProxyType({})  # "image", "review", "pixel": instead of a model card's
    recipe: ClassVar[Mapping[str, Any]] = {}  # what its authors train with where it differs from `training.Recipe`

    def __init__(self, backbone: Clip, config: Any) -> None:
        super().__init__()
        self.config = config
        self.backbone = backbone.requires_grad_(False).eval()

    @classmethod
    def config_from(cls, options: Mapping[str, Any]) -> Any:
        """The configuration with these options; UsageError names one that is unknown or unfit."""
        return from_dict(cls.config_type, options)

    @classmethod
    def from_release(cls, state: Mapping[str, Tensor]) -> Release | None:
        """What a checkpoint of the authors' code holds, None where it is not one of this method's.

        ModelError where it is one, but of shapes that cannot be.
        """
        del state
        return None

    def encode_texts(self, vocabulary: Vocabulary | None = None, *, cache: TextCache | None = None) -> Texts:
        """What `score` needs of a vocabulary, computed once for all images.

        Args:
            vocabulary: The defect types; None for the built-in vocabulary.
            cache: Where text features are kept from one call to the next, for every method and vocabulary.
        """
        with torch.inference_mode():
            return self.compute_texts(vocabulary or general(), cache or TextCache())

    @classmethod
    def example_prompt(cls, defect: DefectType) -> str:
        """How the default options put a defect into words, in one line for a person; by default those of `naming`."""
        texts = phrases("typed", defect)
        return f'{len(texts)} phrases, as "{texts[len(texts) // 2].replace("{}", "object")}"'

    @abstractmethod
    def compute_texts(self, vocabulary: Vocabulary, cache: TextCache) -> Texts:
        """As `encode_texts`, with what is not in the cache."""

    @abstractmethod
    def encode(self, images: Tensor, *, compare: bool = False) -> Features:
        """The features that `score` needs of normalised images [B, 3, S, S]; with `compare` they hold reference maps, too."""

    def encode_frozen(self, images: Tensor) -> Features:
        """The part of `encode` that no training moves: all of it, unless a method trains inside the tower."""
        return self.encode(images)

    def encode_trained(self, frozen: Features) -> Features:
        """What `encode` gives, from what `encode_frozen` gave; the same again where that is all of it."""
        return frozen

    @property
    def worth_caching(self) -> bool:
        """Whether `encode_frozen` does so much that what it gives is kept on the disk while training."""
        return True

    def frozen_key(self) -> str:
        """What decides, besides the backbone and the image, what `encode_frozen` gives: with equal keys, kept features can
        be used again. It stands for the method and all its options, unless a method knows which of them matter."""
        return json.dumps([self.name, to_dict(self.config)], sort_keys=True)

    def text_key(self) -> tuple[str, torch.device]:
        """What decides text features, besides the words; the key of a `TextCache`."""
        return self.fingerprint(), self.backbone.logit_scale.device

    @abstractmethod
    def score(self, features: Features, texts: Texts) -> Scores:
        """Scores and maps of encoded images; `texts` come from this method's `encode_texts`."""

    def for_product(self, name: str) -> Method:
        """The method for images of a product, as the data set calls it; itself where prompts do not speak of the product."""
        del name
        return self

    def with_references(self, batches: Iterable[Tensor]) -> Method:
        """The method with a memory of good images of the product.

        Args:
            batches: Normalised images [b, 3, S, S], as `encode` takes them.

        Raises:
            UsageError: The method has no such memory, or the images do not suit it.
        """
        del batches
        raise UsageError(f"the method {self.name!r} has no memory of good images of its own")

    def remarks(self) -> tuple[str, ...]:
        """Lines worth telling the user about this method on this backbone."""
        return ()

    def loss(
        self, features: Features, targets: Targets, vocabulary: Vocabulary, *, cache: TextCache | None = None
    ) -> Losses:
        """The training loss of a batch.

        Args:
            features: What `encode` gives of the images.
            targets: Their truth; `type_id` counts from 1 in the vocabulary.
            vocabulary: The defect types of the training data.
            cache: Where features of texts that are not trained are kept from one step to the next.

        Raises:
            UsageError: The method has nothing to train.
        """
        del features, targets, vocabulary, cache
        raise UsageError(f"the method {self.name!r} needs no training")

    @classmethod
    def is_trained(cls) -> bool:
        """Whether there is something to train: a method without a loss works as it is."""
        return cls.loss is not Method.loss

    def trained_parts(self) -> dict[str, nn.Parameter]:
        """The parameters that training moves, by name: everything but the backbone's."""
        return {name: value for name, value in self.named_parameters() if not name.startswith("backbone.")}

    def fingerprint(self) -> str:
        """16 hex digits that tell this model from others: backbone, its input, method, options and trained parts."""
        digest = hashlib.sha256(self.backbone.fingerprint().encode())
        decisive = [self.name, to_dict(self.config), to_dict(self.backbone.config.preprocess)]
        digest.update(json.dumps(decisive, sort_keys=True).encode())
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


def _on_device(data: Data, device: torch.device) -> Data:
    """A dataclass with its tensors, and its tuples of tensors, on a device."""
    moved: dict[str, Any] = {}
    for field in fields(data):
        value = getattr(data, field.name)
        if isinstance(value, Tensor):
            moved[field.name] = value.to(device)
        elif isinstance(value, tuple) and all(isinstance(part, Tensor) for part in value):
            moved[field.name] = tuple(part.to(device) for part in value)
    return replace(data, **moved)
