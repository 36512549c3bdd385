"""Another method's words, read beside what other images of the same product look like: good ones, or unlabelled peers.

The words say how much a patch looks like a defect; good images say how such a patch of this product usually looks, and what
the words usually say of it. For a patch with appearance a, the words' log odds w and the distance d to good patches, the
likelihood ratio of defect against good is

    p(w | defect, a) / p(w | good, a) · p(d | defect, a) / p(d | good, a)

"Good, a" are the most alike good patches: they say what w and d usually are there. Of defects is known only that w and d are
higher, so the ratio rises with both. Each counts by how far it exceeds what is usual, in the unit of what good images reach at
their highest patches, every one compared with the others alone: evidence that says much of good images, too, counts little.

(1) words: f(w) - mean of f over the alike patches; f(w) = s · log(1 + exp(w / s)): log odds far below 0 say nothing
(2) distance: log d - share · mean over the alike patches of the log distance that good patches near them have; the share is how
    much of good patches' log distances that explains (r² between two halves of the good images)
(3) each in robust standard deviations from the median of good images' highest patches; the score of a patch is their sum, the
    words weighted
(4) an image's score is the mean over its highest patches; scores of images and patches are z, again (3) of the sum, and become
    probabilities whose log odds are 2 · asinh((z - middle) / 2): 0.5 at `middle`, and far beyond it still apart

Good images: the alike patches are the nearest of all entries, d is to the nearest. Unlabelled peers, some of which have defects,
perhaps the same: the nearest patches of a share of the images, one of each, d is their mean (MuSc, Li et al., ICLR 2024).

B batch, R images, M entries of the memory, N patches of a grid h x w, k alike patches, T types.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from blemish.errors import UsageError
from blemish.io.codec import to_dict
from blemish.language import Vocabulary
from blemish.methods.appearance import Projection, entry_vectors, image_vectors, on_grid
from blemish.methods.base import Features, Method, Scores, Texts
from blemish.methods.left_out import nearest_without
from blemish.methods.nearest import Entries, Nearest
from blemish.methods.reference_memory import MEMORY_SCHEMA, ReferenceMemory
from blemish.methods.remembering import (
    ALIKE,
    SURE,
    check_reference_memory,
    compare_images,
    digest_of,
    log_odds,
    remember_images,
)
from blemish.methods.text_cache import TextCache

__all__ = ["LEAST_PEERS", "ReferencedConfig", "ReferencedScoring", "among_peers"]

# At 3, 2 and 3 robust standard deviations of good images, whatever the method: the same for all of them
REFERENCED_THRESHOLDS = {"image": 0.5, "review": 0.277, "pixel": 0.5}
LEAST = 1e-6
LEAST_PEERS = 5
MOST_FOLDS = 20  # into which a memory is dealt to score its own images
FEWEST_TO_LEAVE_OUT = 4
LEAST_COUNTED = 2  # peers, so that one with the same defect does not hide it
FEW = 5  # images whose spread a prior weighs as much as
# Spread of good images' highest patches, by how far these lie from the median patch.
WORDS_PRIOR, DISTANCE_PRIOR = 0.4, 0.12


@dataclass(frozen=True)
class ReferencedConfig:
    """Options of referenced scoring; docs/references-measured.md says what chose them."""

    softness: float = 2.0  # above 0: s of (1)
    words_weight: float = 0.7  # from 0, of the words beside the distance in (3)
    top_share: float = 0.005  # 0..1 without 0, of the patches, those that stand for the image
    peer_share: float = 0.1  # 0..1 without 0, of unlabelled images, those that a patch is compared with
    middle: float = 3.0  # standard deviations from good images at which the probability is 0.5

    def __post_init__(self) -> None:
        if not (self.softness > 0 and self.words_weight >= 0):
            raise UsageError("the softness is above 0, and the words' weight at least 0")
        if not (0 < self.top_share <= 1 and 0 < self.peer_share <= 1):
            raise UsageError("shares lie above 0 and up to 1")


@dataclass(frozen=True, kw_only=True)
class ReferencedFeatures(Features):
    """The other method's features, and the alike patches of each patch."""

    inner: Features
    distances: Tensor  # [B, N, k]
    numbers: Tensor  # [B, N, k], of entries
    patch_grid: tuple[int, int]  # of the N patches that were compared


class Scale(NamedTuple):
    """What good images reach at their highest patches: (3)."""

    median: Tensor
    spread: Tensor

    @classmethod
    def of(cls, patches: Tensor, *, top_share: float, prior: float, unlabelled: bool = False) -> Scale:
        """That of values [R, N] of R images. Of few images, the spread is drawn towards the prior.

        Of unlabelled ones, two in five may have defects: what is above the middle of the others says nothing.
        """
        tops = highest(patches, top_share)
        if unlabelled:  # quantiles 0.1 and 0.4 of Gaussian numbers lie 1.282 and 0.253 deviations below the median
            own = (tops.quantile(0.4) - tops.quantile(0.1)) / (1.282 - 0.253)
            median = tops.quantile(0.4) + 0.253 * own
        else:
            own = (tops.quantile(0.75) - tops.quantile(0.25)) / 1.349
            median = tops.median()
        usual = prior * (median - patches.median()).clamp_min(LEAST)
        spread = ((len(tops) * own**2 + FEW * usual**2) / (len(tops) + FEW)).sqrt()
        return cls(median, spread.clamp_min(LEAST))

    def __call__(self, values: Tensor) -> Tensor:
        return (values - self.median) / self.spread


@dataclass(frozen=True)
class Usual:
    """What is usual among the images of a memory, with one vocabulary's words."""

    log_odds: Tensor  # [M], the words' at each entry
    shares: Tensor  # [M, T], each type's share of all types there
    words: Scale
    distance: Scale
    both: Scale  # of their sum


class ReferencedScoring(Method):
    """Another method whose words are read beside a memory of images of the product.

    Args:
        inner: The other method.
        memory: What `remember_images` made with it.
        config: Options.
        unlabelled: The images are not known to be good; every patch of them is an entry.

    Raises:
        UsageError: The memory is of another model, or of images of another size.
    """

    config_type = ReferencedConfig
    own_thresholds = REFERENCED_THRESHOLDS

    def __init__(
        self,
        inner: Method,
        memory: ReferenceMemory,
        config: ReferencedConfig | None = None,
        *,
        unlabelled: bool = False,
    ) -> None:
        super().__init__(inner.backbone, config or ReferencedConfig())
        self.config: ReferencedConfig
        check_reference_memory(memory, inner)
        self.inner, self.unlabelled = inner, unlabelled
        self.name = f"{inner.name}+{'peers' if unlabelled else 'references'}"  # type: ignore[misc]  # the other one's
        self.scores_depend_on_vocabulary = inner.scores_depend_on_vocabulary
        if unlabelled:
            self.references = memory.identity
        else:
            self.good_references = memory.identity.replace("images", "good images", 1)
        counted = max(LEAST_COUNTED, round(self.config.peer_share * memory.images)) if unlabelled else ALIKE
        self.bank = Bank.of(memory, inner.backbone.logit_scale.device, counted=counted, unlabelled=unlabelled)
        self._numbers = {digest: number for number, digest in enumerate(memory.digests)}
        self._usual: list[tuple[Texts, Usual]] = []

    @property
    def word_grid(self) -> tuple[int, int]:
        """Rows and columns of the words' patches."""
        return self.bank.word_grid

    def compute_texts(self, vocabulary: Vocabulary, cache: TextCache) -> Texts:
        return self.inner.compute_texts(vocabulary, cache)

    def fingerprint(self) -> str:
        """Of the method and all options; which the images are, `good_references` or `references` say."""
        decisive = [self.inner.fingerprint(), to_dict(self.config), MEMORY_SCHEMA, self.unlabelled]
        return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:16]

    def remarks(self) -> tuple[str, ...]:
        return self.inner.remarks()

    def encode(self, images: Tensor, *, compare: bool = False) -> ReferencedFeatures:
        features, bank = self.inner.encode(images, compare=True), self.bank
        found = [
            bank.alike(own, without=self._numbers.get(digest_of(image)))
            for own, image in zip(bank.projection(features.reference_maps), images, strict=True)
        ]
        return ReferencedFeatures(
            features.global_feature,
            features.levels,
            features.grid,
            features.reference_maps if compare else (),
            inner=features,
            distances=torch.stack([near.distances for near in found]),
            numbers=torch.stack([near.numbers for near in found]),
            patch_grid=bank.grid,
        )

    def score(self, features: Features, texts: Texts) -> Scores:
        assert isinstance(features, ReferencedFeatures)
        inner, usual = self.inner.score(features.inner, texts), self.usual(texts)
        own = log_odds(on_grid(inner.anomaly_map, features.patch_grid)).flatten(1)
        words = self.beyond_words(usual.log_odds, own, features.numbers)
        farther = self.beyond_distance(features.distances, features.numbers)
        patches = self.config.words_weight * usual.words(words) + usual.distance(farther)  # [B, N]
        image_score, anomaly_map = self.probability(usual, patches, features.patch_grid)
        top = patches.topk(top_of(patches, self.config.top_share), dim=1).indices
        beyond = (own - usual.log_odds[features.numbers].mean(-1)).gather(1, top).mean(1)
        reasons = torch.stack([beyond, farther.gather(1, top).mean(1).exp()], 1)
        moved = replace(inner, image_score=image_score, anomaly_map=anomaly_map, reasons=reasons)
        type_scores, type_maps = self._typed(moved, features, usual, top)
        return replace(moved, type_scores=type_scores, type_maps=type_maps)

    def leave_one_out(self, memory: ReferenceMemory, texts: Texts) -> tuple[Tensor, Tensor]:
        """Image scores [R] and maps [R, h, w] of the own images of its memory, each as by a memory that never held it.

        Without an image is also what is usual: one that has a say in that would seem more usual than a new one. Of more than
        `MOST_FOLDS` images several are left out at a time. Of fewer than four too few would be left: they are only compared
        with the others.
        """
        bank, usual = self.bank, self.usual(texts)
        count = len(bank.globals)
        own = bank.log_odds_maps.flatten(1)
        if count < FEWEST_TO_LEAVE_OUT:
            return self.probability(usual, self.evidence(usual, own, bank.distances, bank.numbers), bank.grid)
        image_scores, maps = own.new_zeros(count), own.new_zeros(count, *bank.grid)
        images = torch.arange(count, device=own.device)
        folds = images.tensor_split(min(count, MOST_FOLDS))
        for fold, near in zip(folds, nearest_without(memory, bank.entries, folds, k=bank.counted), strict=True):
            others = images[~torch.isin(images, fold)]
            distances, numbers = near.distances[others], near.numbers[others]
            less = typical(bank.log_distance(distances), numbers, entries=len(bank.images))
            beside = copy.copy(self)
            beside.bank = replace(
                bank, distances=distances, numbers=numbers, log_odds_maps=bank.log_odds_maps[others], typical=less
            )
            without = beside._usual_of(usual.log_odds, usual.shares)
            patches = beside.evidence(without, own[fold], near.distances[fold], near.numbers[fold])
            image_scores[fold], maps[fold] = beside.probability(without, patches, bank.grid)
        return image_scores, maps

    def usual(self, texts: Texts) -> Usual:
        """What is usual among the images of the memory, with the words of these texts."""
        for known, usual in self._usual:
            if known is texts:
                return usual
        shares, packed = self._entry_scores(texts)
        usual = self._usual_of(packed if self.scores_depend_on_vocabulary else self.bank.log_odds, shares)
        self._usual = [(texts, usual), *self._usual[:3]]
        return usual

    def _usual_of(self, at_entries: Tensor, shares: Tensor) -> Usual:
        """What is usual among the images, with log odds [M] and types' shares [M, T] at the entries."""
        bank, top_share = self.bank, self.config.top_share
        by_words = self.beyond_words(at_entries, bank.log_odds_maps.flatten(1), bank.numbers)
        by_distance = self.beyond_distance(bank.distances, bank.numbers)
        unlabelled = self.unlabelled
        words = Scale.of(by_words, top_share=top_share, prior=WORDS_PRIOR, unlabelled=unlabelled)
        distance = Scale.of(by_distance, top_share=top_share, prior=DISTANCE_PRIOR, unlabelled=unlabelled)
        patches = self.config.words_weight * words(by_words) + distance(by_distance)
        both = Scale.of(patches, top_share=top_share, prior=DISTANCE_PRIOR, unlabelled=unlabelled)
        return Usual(at_entries, shares, words, distance, both)

    def evidence(self, usual: Usual, own: Tensor, distances: Tensor, numbers: Tensor) -> Tensor:
        """(3): the scores [B, N] of patches with these log odds [B, N], and distances to their alike entries [B, N, k]."""
        words = usual.words(self.beyond_words(usual.log_odds, own, numbers))
        return self.config.words_weight * words + usual.distance(self.beyond_distance(distances, numbers))

    def beyond_words(self, at_entries: Tensor, own: Tensor, numbers: Tensor) -> Tensor:
        """(1): [B, N], of log odds [M] at the entries, own ones [B, N] and the alike entries [B, N, k]."""
        soft = self.config.softness
        return F.softplus(own / soft) * soft - (F.softplus(at_entries[numbers] / soft) * soft).mean(-1)

    def beyond_distance(self, distances: Tensor, numbers: Tensor) -> Tensor:
        """(2): [B, N], of the distances [B, N, k] to the alike entries."""
        return self.bank.log_distance(distances) - self.bank.typical[numbers].mean(-1)

    def probability(self, usual: Usual, patches: Tensor, grid: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Image scores [B] and maps [B, h, w], 0..1: (4)."""

        def probability(values: Tensor) -> Tensor:
            return (2 * ((usual.both(values) - self.config.middle) / 2).asinh()).sigmoid()

        return probability(highest(patches, self.config.top_share)), probability(patches).reshape(-1, *grid)

    def _typed(self, scores: Scores, features: ReferencedFeatures, usual: Usual, top: Tensor) -> tuple[Tensor, Tensor]:
        """Type scores [B, T] and maps [B, T, h, w]: a type's share of what the words say beyond what they say of alike patches.

        share · share / (share at alike patches + share): a type that good patches look like, too, counts half or less.
        """
        grid, types = features.patch_grid, scores.type_maps.shape[1]
        maps = torch.stack([on_grid(scores.type_maps[:, number], grid) for number in range(types)], 1).flatten(2)
        shares = maps / maps.sum(1, keepdim=True).clamp_min(SURE)  # [B, T, N]
        expected = usual.shares[features.numbers].mean(2).transpose(1, 2)
        beyond = shares.square() / (shares + expected).clamp_min(SURE)
        beyond = beyond / beyond.sum(1, keepdim=True).clamp_min(SURE)
        typed = (scores.anomaly_map.flatten(1)[:, None] * beyond).reshape(len(maps), types, *grid)
        strongest = beyond.gather(2, top[:, None].expand(-1, types, -1)).mean(2)
        return strongest / strongest.sum(1, keepdim=True).clamp_min(SURE) * scores.image_score[:, None], typed

    @torch.inference_mode()
    def _entry_scores(self, texts: Texts) -> tuple[Tensor, Tensor]:
        """The types' shares [M, T] and the words' log odds [M] at the entries, from the method's features that were kept there.

        The entries of an image are given to the method as an image, repeated until its grid is full.
        """
        bank = self.bank
        shares = bank.levels[0].new_zeros(len(bank.images), len(texts.types))
        found = bank.levels[0].new_zeros(len(bank.images))
        patches = math.prod(bank.word_grid)
        for image in range(len(bank.globals)):
            for part in torch.split((bank.images == image).nonzero()[:, 0], patches):
                filled = part.repeat(math.ceil(patches / len(part)))[:patches]
                levels = tuple(level[filled][None] for level in bank.levels)
                packed = Features(bank.globals[image : image + 1], levels, bank.word_grid)
                maps = self.inner.score(packed, texts).type_maps[0].flatten(1)[:, : len(part)]  # [T, n]
                total = maps.sum(0)
                shares[part] = (maps / total.clamp_min(SURE)).T
                found[part] = log_odds(total)
        return shares, found


@dataclass(frozen=True)
class Bank:
    """A memory as tensors on a device."""

    projection: Projection
    entries: Entries
    counted: int  # k
    images: Tensor  # [M], of each entry
    log_odds: Tensor  # [M]
    levels: tuple[Tensor, ...]  # L times [M, D], the words' features
    globals: Tensor  # [R, G], likewise of the images
    log_odds_maps: Tensor  # [R, h, w]
    grid: tuple[int, int]
    word_grid: tuple[int, int]
    distances: Tensor  # [R, N, k], of each image's patches to the alike ones of the others
    numbers: Tensor  # [R, N, k], their entries
    typical: Tensor  # [M], what is taken off a log distance near an entry: (2)
    unlabelled: bool

    @classmethod
    def of(cls, memory: ReferenceMemory, device: torch.device, *, counted: int, unlabelled: bool) -> Bank:
        vectors = image_vectors(memory.arrays, device)  # [R, N, c]
        if not unlabelled:
            memory = compare_images(memory, device=device)
        arrays = memory.arrays

        def tensor(name: str) -> Tensor:
            array = torch.from_numpy(np.array(arrays[name])).to(device)
            return array.float() if array.is_floating_point() else array.long()

        numbers, maps = tensor("entries"), tensor("log_odds")
        rows = entry_vectors(arrays, device, vectors)
        entries = Entries(rows, images=numbers[:, 0], patches=vectors.shape[1] if unlabelled else 0)
        if unlabelled:
            found = [entries.nearest(own, k=counted, without=image) for image, own in enumerate(vectors)]
            near = Nearest(torch.stack([one.distances for one in found]), torch.stack([one.numbers for one in found]))
        else:
            near = Nearest(tensor("counted_distances"), tensor("counted_numbers"))
        bank = cls(
            projection=Projection.in_arrays(arrays, device),
            entries=entries,
            counted=counted,
            images=numbers[:, 0],
            log_odds=maps.flatten(1)[numbers[:, 0], numbers[:, 1]],
            levels=tuple(tensor(f"level{number}") for number in range(memory.facts["levels"])),
            globals=tensor("global"),
            log_odds_maps=maps,
            grid=(int(maps.shape[1]), int(maps.shape[2])),
            word_grid=(memory.facts["word_grid"][0], memory.facts["word_grid"][1]),
            distances=near.distances,
            numbers=near.numbers,
            typical=rows.new_zeros(len(rows)),
            unlabelled=unlabelled,
        )
        return replace(bank, typical=typical(bank.log_distance(near.distances), near.numbers, entries=len(rows)))

    def alike(self, vectors: Tensor, *, without: int | None) -> Nearest:
        """The alike entries of an image's patches [N, c]; an image of the memory is compared with the others alone."""
        if without is not None:
            return Nearest(self.distances[without], self.numbers[without])
        return self.entries.nearest(vectors, k=self.counted)

    def log_distance(self, distances: Tensor) -> Tensor:
        """log d [B, N], of the distances [B, N, k] to the alike entries."""
        distance = distances.mean(-1) if self.unlabelled else distances[..., 0]
        return distance.clamp_min(LEAST).log()


def among_peers(inner: Method, batches: Iterable[Tensor], config: ReferencedConfig | None = None) -> ReferencedScoring:
    """The method beside unlabelled images of the product, most of them good.

    Raises:
        UsageError: They are fewer than `LEAST_PEERS`, or of another size.
    """
    memory = remember_images(inner, batches, every_patch=True, least=LEAST_PEERS)
    return ReferencedScoring(inner, memory, config, unlabelled=True)


def typical(log_distances: Tensor, numbers: Tensor, *, entries: int) -> Tensor:
    """What is taken off a log distance near each entry, [M]: (2). `log_distances` [R, N] of patches with these alike entries."""
    half = len(log_distances) // 2
    everywhere = near_entries(log_distances, numbers, entries=entries)
    if not half:
        return torch.zeros_like(everywhere)
    expected = near_entries(log_distances[:half], numbers[:half], entries=entries)[numbers[half:]].mean(-1).flatten()
    found = log_distances[half:].flatten()
    expected, found = expected - expected.mean(), found - found.mean()
    product = (expected * found).sum().clamp_min(0)
    explained = product.square() / (expected.square().sum() * found.square().sum()).clamp_min(LEAST)
    return explained * everywhere


def near_entries(values: Tensor, numbers: Tensor, *, entries: int) -> Tensor:
    """At each entry the mean [M] of values [R, N] of the patches that have it among their alike ones [R, N, k], drawn towards
    the mean of all where they are few."""
    near, each = numbers.flatten(), values[..., None].expand(numbers.shape).reshape(-1)
    total = values.new_zeros(entries).index_add_(0, near, each)
    count = values.new_zeros(entries).index_add_(0, near, torch.ones_like(each))
    return (total + values.mean()) / (count + 1)


def highest(patches: Tensor, share: float) -> Tensor:
    """The mean [B] of the share of highest values of patches [B, N]."""
    return patches.topk(top_of(patches, share), dim=1).values.mean(1)


def top_of(patches: Tensor, share: float) -> int:
    """How many of the patches [B, N] are this share."""
    return max(1, round(share * patches.shape[1]))
