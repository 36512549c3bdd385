"""Mutual scoring beside another method: images of one product are compared with each other, after MuSc (Li et al., ICLR 2024).

A patch that most reference images have the like of is normal; one that few of them have is not. No labels are needed, only
images of the same product, most of them good. From MuSc: (1) to (3), and patches seen with their neighbourhood, too. Ours: the
reference images are drawn once, so that images are judged one by one, and (4) to (6), how the distances move another
method's scores.

(1) distance of patch p to reference image r: d(p, r) = min over the patches q of r of |p - q|
(2) d(p): the mean of d(p, r) over the `share` of reference images where it is least
(3) an image is compared neither with itself nor with an exact copy
(4) z(p): d(p) as robust standard deviations from the median among the reference images, a mean over the views
(5) z of an image: the mean over the `top_share` of highest z(p), again in robust standard deviations
(6) log odds of the other method's probability + weight · asinh(z / scale)

B batch, R reference images, N patches of a grid h x w, C channels.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blemish.backbones.model import Clip
from blemish.errors import UsageError
from blemish.io.codec import to_dict
from blemish.language import Vocabulary
from blemish.methods.base import Features, Method, Scores, Texts
from blemish.methods.memory import FeatureBank, PatchView, RobustScale
from blemish.methods.text_cache import TextCache

__all__ = [
    "CONVOLUTIONAL_VIEWS",
    "LEAST_REFERENCES",
    "MutualConfig",
    "MutualScoring",
    "highest",
    "mean_of_nearest",
    "mean_over_views",
    "moved",
    "on_grid",
]

LEAST_REFERENCES = 5
LEAST_COUNTED = 2  # reference images, so that one with the same defect does not hide it
SURE = 1e-6  # as near as a probability comes to 0 or 1 before it becomes log odds
STILL = 0.01  # of the entries' length: a distance below is a constant background's and says nothing

# The held-out rendered series decided these (recipes/embedded/peers.py): fine patches as they are, coarser ones in their
# neighbourhood. Of a transformer every level, as MuSc has it.
CONVOLUTIONAL_VIEWS = (PatchView(0, 1, standardised=False), PatchView(1, 3, standardised=True))
WINDOW = 3


@dataclass(frozen=True)
class MutualConfig:
    """Options of mutual scoring."""

    share: float = 0.1  # 0..1 without 0, of the reference images, those that count in (2) (MuSc: 0.3)
    weight: float = 4.0  # from 0, in (6)
    scale: float = 2.0  # above 0, in (6)
    top_share: float = 0.005  # 0..1 without 0, of the patches, those that stand for the image in (5)

    def __post_init__(self) -> None:
        if not (0 < self.share <= 1 and 0 < self.top_share <= 1 and self.weight >= 0 and self.scale > 0):
            raise UsageError("shares lie above 0 and up to 1, the weight is at least 0 and the scale above 0")

    def counted(self, references: int) -> int:
        """How many of so many reference images count."""
        return max(LEAST_COUNTED, round(self.share * references))


@dataclass(frozen=True, kw_only=True)
class ComparedFeatures(Features):
    """The other method's features, and how far each patch is from the reference images."""

    distance_map: Tensor  # [B, h, w], z(p) of (4)


class MutualScoring(Method):
    """Another method whose scores are moved by how far an image is from the reference images.

    Types are the other method's: their maps and scores keep their shares of the moved ones.
    """

    config_type = MutualConfig

    def __init__(self, inner: Method, reference_batches: Iterable[Tensor], config: MutualConfig | None = None) -> None:
        """Args:
            inner: The other method.
            reference_batches: Images [B, 3, S, S], normalised as for `encode`, where the backbone's weights are.
            config: Options.

        Raises:
            UsageError: Fewer than `LEAST_REFERENCES` images.
        """
        super().__init__(inner.backbone, config or MutualConfig())
        self.config: MutualConfig
        self.inner = inner
        self.name = f"{inner.name}+mutual"  # type: ignore[misc]  # it depends on the other one
        self.scores_depend_on_vocabulary = inner.scores_depend_on_vocabulary
        self.good_references = inner.good_references
        with torch.inference_mode():
            self._remember(reference_batches)

    def _remember(self, batches: Iterable[Tensor]) -> None:
        digests: list[bytes] = []
        by_batch = []
        for images in batches:
            digests += map(_digest, images)
            by_batch.append(self.inner.encode(images, compare=True).reference_maps)
        count = len(digests)
        if count < LEAST_REFERENCES:
            raise UsageError(f"images are compared with at least {LEAST_REFERENCES} of their like, not with {count}")
        self._digests = digests
        self.counted = self.config.counted(count)
        maps = [torch.cat(level) for level in zip(*by_batch, strict=True)]  # by level, [R, C, h, w]
        self.banks = nn.ModuleList(FeatureBank([maps[view.level]], view) for view in views_of(self.backbone, len(maps)))
        distances = self._distances(maps, digests)
        self.scales = [
            RobustScale.of(own, still=STILL * bank.norm()) for bank, own in zip(self._banks, distances, strict=True)
        ]
        # a reference image that is inspected is known already
        self.register_buffer("reference_distance_maps", self._standardised(distances), persistent=False)  # [R, h, w]
        self.reference_distance_maps: Tensor
        self._numbers = {digest: number for number, digest in enumerate(digests)}
        self.image_scale = RobustScale.of(highest(self.reference_distance_maps, self.config.top_share))
        self.references = f"{count} images ({hashlib.sha256(b''.join(digests)).hexdigest()[:16]})"

    def compute_texts(self, vocabulary: Vocabulary, cache: TextCache) -> Texts:
        return self.inner.compute_texts(vocabulary, cache)

    def fingerprint(self) -> str:
        """Of the method and all options; which the reference images are, `references` says."""
        decisive = [
            self.inner.fingerprint(),
            to_dict(self.config),
            LEAST_COUNTED,
            STILL,
            [bank.view for bank in self._banks],
        ]
        return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:16]

    def encode(self, images: Tensor, *, compare: bool = False) -> ComparedFeatures:
        features, digests = self.inner.encode(images, compare=True), [_digest(image) for image in images]
        new = [row for row, digest in enumerate(digests) if digest not in self._numbers]
        distance_map = self.reference_distance_maps[[self._numbers.get(digest, 0) for digest in digests]]
        if new:
            maps = [level[new] for level in features.reference_maps]
            distance_map[new] = self._standardised(self._distances(maps, [digests[row] for row in new]))
        return ComparedFeatures(
            features.global_feature,
            features.levels,
            features.grid,
            features.reference_maps if compare else (),
            distance_map=distance_map,
        )

    def score(self, features: Features, texts: Texts) -> Scores:
        assert isinstance(features, ComparedFeatures)
        scores, distance_map = self.inner.score(features, texts), features.distance_map
        z = self.image_scale.deviations(highest(distance_map, self.config.top_share))  # (5)
        image_score = moved(scores.image_score, z, self.config)
        anomaly_map = moved(scores.anomaly_map, on_grid(distance_map, scores.anomaly_map.shape[-2:]), self.config)
        typed = scores.type_maps
        before, after = (on_grid(maps, typed.shape[-2:]) for maps in (scores.anomaly_map, anomaly_map))
        typed = typed * (after / before.clamp_min(SURE))[:, None]
        type_scores = scores.type_scores * (image_score / scores.image_score.clamp_min(SURE))[:, None]
        return Scores(image_score, anomaly_map, scores.types, type_scores.clamp(0, 1), typed.clamp(0, 1))

    @property
    def _banks(self) -> list[FeatureBank]:
        return list(cast(Iterable[FeatureBank], self.banks))

    def others(self, digest: bytes) -> list[bool]:
        """Which reference images are other images than this one: [R], equation (3)."""
        return [digest != own for own in self._digests]

    def _distances(self, maps: Sequence[Tensor], digests: Sequence[bytes]) -> list[Tensor]:
        """d(p) of (2) for each view, [B, h, w], from the levels' maps [B, C, h, w]."""
        others = [self.others(digest) for digest in digests]
        by_view = []
        for bank in self._banks:
            level = maps[bank.view.level]
            by_image = [
                mean_of_nearest(bank.distances(patches)[own], self.counted)
                for patches, own in zip(bank.patches(level), others, strict=True)
            ]
            by_view.append(torch.stack(by_image).reshape(len(level), *level.shape[-2:]))
        return by_view

    def _standardised(self, distances: Sequence[Tensor]) -> Tensor:
        """(4): z(p), [B, h, w], of the views' distances."""
        return mean_over_views([scale.deviations(own) for scale, own in zip(self.scales, distances, strict=True)])


def views_of(backbone: Clip, levels: int) -> tuple[PatchView, ...]:
    """How patches are seen on a backbone whose reference maps have so many levels."""
    if backbone.image.trunk is not None:
        return CONVOLUTIONAL_VIEWS
    return tuple(PatchView(level, WINDOW, standardised=False) for level in range(levels))


def mean_of_nearest(distances: Tensor, counted: int) -> Tensor:
    """(2): the mean distance [N] to the `counted` nearest reference images, of [R, N]; 0 where there are none."""
    if not len(distances):
        return distances.new_zeros(distances.shape[1])
    return distances.topk(min(counted, len(distances)), dim=0, largest=False).values.mean(0)


def mean_over_views(maps: Sequence[Tensor]) -> Tensor:
    """The mean of several views' maps [B, h, w], on the finest of their grids."""
    finest = max((own.shape[-2:] for own in maps), key=math.prod)
    return torch.stack([on_grid(own, finest) for own in maps]).mean(0)


def highest(maps: Tensor, share: float) -> Tensor:
    """The mean [B] of the share of highest values of maps [B, h, w]."""
    flat = maps.flatten(1)
    return flat.topk(max(1, round(share * flat.shape[1])), dim=1).values.mean(1)


def moved(probability: Tensor, deviations: Tensor, config: MutualConfig) -> Tensor:
    """(6): probabilities whose log odds the deviations have moved."""
    log_odds = probability.clamp(SURE, 1 - SURE).logit()
    return (log_odds + config.weight * (deviations / config.scale).asinh()).sigmoid()


def on_grid(maps: Tensor, grid: Sequence[int]) -> Tensor:
    """Maps [B, h, w] on another grid."""
    if maps.shape[-2:] == tuple(grid):
        return maps
    return F.interpolate(maps[:, None], tuple(grid), mode="bilinear", align_corners=False)[:, 0]


def _digest(image: Tensor) -> bytes:
    return hashlib.sha256(image.contiguous().cpu().numpy().tobytes()).digest()
