"""Images of one product judge each other: mutual scoring beside another method, after MuSc (Li et al., ICLR 2024).

What most other images have the like of is normal, whatever it is; a place that few of them know is not. No labels are needed,
only images of the same product, the *peers*, most of them good. From MuSc: the distance of a place to the most alike place of
each peer, its mean over the `share` of peers where it is least, and places seen alone and with their neighbourhood. Ours: the
peers are drawn once, so that images are judged one by one, and what the peers say moves the log odds of what the other
method reads from words.

B batch, R peers, N places of a grid h x w, C channels.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blemish.backbones.efficientnet import COMPARED
from blemish.backbones.model import Clip
from blemish.errors import UsageError
from blemish.io.codec import to_dict
from blemish.language import Vocabulary
from blemish.methods.base import Features, Method, Scores, Texts
from blemish.methods.text_cache import TextCache

__all__ = [
    "CONVOLUTIONAL",
    "LEAST_PEERS",
    "Centre",
    "Crowd",
    "Glance",
    "MutualConfig",
    "MutualScoring",
    "compared_maps",
    "highest",
    "moved",
    "nearest_mean",
    "on_grid",
    "together",
]

LEAST_PEERS = 5
LEAST_COUNTED = 2  # peers, so that one with the same defect does not hide it
MOST_BYTES = 2**25  # of distances that are in memory together
STILL_CHANNEL = 1e-3  # least standard deviation of a channel
SURE = 1e-6  # as near as a probability comes to 0 or 1 before it becomes log odds
STILL = 0.01  # of the places' spread in feature space: a distance below is a constant background's and says nothing


@dataclass(frozen=True)
class MutualConfig:
    """Options of mutual scoring.

    share: of the peers, those that a place is least far from count (MuSc: 0.3). weight, scale: a place that is z robust standard
    deviations farther from the peers than the median place has its log odds moved by weight * asinh(z / scale), and so has an
    image. top_share: the share of highest places whose mean stands for the image.
    """

    share: float = 0.1
    weight: float = 4.0
    scale: float = 2.0
    top_share: float = 0.005

    def __post_init__(self) -> None:
        if not (0 < self.share <= 1 and 0 < self.top_share <= 1 and self.weight >= 0 and self.scale > 0):
            raise UsageError("shares lie above 0 and up to 1, the weight is at least 0 and the scale above 0")

    def counted(self, peers: int) -> int:
        """How many of so many peers count."""
        return max(LEAST_COUNTED, round(self.share * peers))


class Glance(NamedTuple):
    """One way to see places: which of the compared maps, averaged over window x window places, standardised or not."""

    level: int
    window: int
    standardised: bool


# The held-out rendered series decided these (training/embedded/peers.py): fine places as they are, coarser ones in their
# neighbourhood. Of a transformer every level, as MuSc has it.
CONVOLUTIONAL = (Glance(0, 1, standardised=False), Glance(1, 3, standardised=True))
WINDOW = 3


class Centre(NamedTuple):
    """Median and robust standard deviation of some numbers."""

    median: float
    spread: float

    @classmethod
    def of(cls, values: Tensor, *, still: float = 0.0) -> Centre:
        """That of the values above `still`, and a spread of at least that."""
        moving = values[values > still] if bool((values > still).any()) else values
        median = moving.median()
        spread = 1.4826 * float((moving - median).abs().median())
        return cls(float(median), max(spread, still, SURE))

    def deviations(self, values: Tensor) -> Tensor:
        return (values - self.median) / self.spread


@dataclass(frozen=True)
class Compared(Features):
    """The other method's features, and how far each place [B, h, w] is from the peers, in robust standard deviations."""

    unlike: Tensor


class MutualScoring(Method):
    """Another method whose scores are moved by how unlike its peers an image is.

    peers: images [B, 3, S, S] in batches, normalised as for `encode`, where the backbone's weights are; they judge each other.
    An image is compared neither with itself nor with an exact copy. UsageError for fewer than `LEAST_PEERS`. Types are the other
    method's: their maps and scores keep their shares of the moved ones.
    """

    config_type = MutualConfig

    def __init__(self, inner: Method, peers: Iterable[Tensor], config: MutualConfig | None = None) -> None:
        super().__init__(inner.backbone, config or MutualConfig())
        self.config: MutualConfig
        self.inner = inner
        self.name = f"{inner.name}+mutual"  # type: ignore[misc]  # it depends on the other one
        self.scores_depend_on_vocabulary = inner.scores_depend_on_vocabulary
        self.good_references = inner.good_references
        with torch.inference_mode():
            self._compare_with(peers)

    def _compare_with(self, peers: Iterable[Tensor]) -> None:
        self._digests: list[bytes] = []
        seen = []
        for batch in peers:
            self._digests += map(_digest, batch)
            seen.append(compared_maps(self.backbone, batch))
        count = len(self._digests)
        if count < LEAST_PEERS:
            raise UsageError(f"images are compared with at least {LEAST_PEERS} of their like, not with {count}")
        maps = [torch.cat(level) for level in zip(*seen, strict=True)]
        others = self._others(self._digests)
        self.crowds = nn.ModuleList(
            Crowd(maps[glance.level], glance, others=others, counted=self.config.counted(count))
            for glance in _glances(self.backbone, len(maps))
        )
        self.image_centre = Centre.of(highest(self._unlike(maps, others), self.config.top_share))
        self.references = f"{count} images ({hashlib.sha256(b''.join(self._digests)).hexdigest()[:16]})"

    def compute_texts(self, vocabulary: Vocabulary, cache: TextCache) -> Texts:
        return self.inner.compute_texts(vocabulary, cache)

    def fingerprint(self) -> str:
        """Of the method and all options; which images the peers are, `references` says."""
        glances = [crowd.glance for crowd in self._crowds]
        told = [self.inner.fingerprint(), to_dict(self.config), LEAST_COUNTED, STILL, glances]
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]

    def encode(self, images: Tensor) -> Compared:
        features = self.inner.encode(images)
        unlike = self._unlike(compared_maps(self.backbone, images), self._others(map(_digest, images)))
        return Compared(features.global_feature, features.levels, features.grid, unlike)

    def score(self, features: Features, texts: Texts) -> Scores:
        assert isinstance(features, Compared)
        scores, unlike = self.inner.score(features, texts), features.unlike
        image_score = moved(
            scores.image_score, self.image_centre.deviations(highest(unlike, self.config.top_share)), self.config
        )
        anomaly_map = moved(scores.anomaly_map, on_grid(unlike, scores.anomaly_map.shape[-2:]), self.config)
        typed = scores.type_maps
        before, after = (on_grid(one, typed.shape[-2:]) for one in (scores.anomaly_map, anomaly_map))
        typed = typed * (after / before.clamp_min(SURE))[:, None]
        type_scores = scores.type_scores * (image_score / scores.image_score.clamp_min(SURE))[:, None]
        return Scores(image_score, anomaly_map, scores.types, type_scores.clamp(0, 1), typed.clamp(0, 1))

    @property
    def _crowds(self) -> list[Crowd]:
        return list(cast(Iterable[Crowd], self.crowds))

    def _others(self, digests: Iterable[bytes]) -> Tensor:
        """Which peers are other images than these: bool [B, R]."""
        return torch.tensor([[own != peer for peer in self._digests] for own in digests])

    def _unlike(self, maps: Sequence[Tensor], others: Tensor) -> Tensor:
        return together([crowd(maps[crowd.glance.level], others) for crowd in self._crowds])


class Crowd(nn.Module):
    """The peers' places, from a map [R, C, h, w], as one glance sees them, and how far a place is from them.

    others [B, R]: which peers an image is compared with; in the constructor, the peers themselves. counted: how many of the
    nearest ones count.
    """

    def __init__(self, level: Tensor, glance: Glance, *, others: Tensor, counted: int) -> None:
        super().__init__()
        self.glance, self.counted = glance, counted
        pooled = _pooled(level, glance.window)
        self.register_buffer("mean", pooled.mean((0, 2, 3), keepdim=True), persistent=False)  # [1, C, 1, 1]
        self.register_buffer("deviation", pooled.std((0, 2, 3), keepdim=True) + STILL_CHANNEL, persistent=False)
        self.mean: Tensor
        self.deviation: Tensor
        places = self._places(level)
        self.register_buffer("places", places, persistent=False)  # [R, N, C]
        self.register_buffer("squares", places.square().sum(2), persistent=False)  # [R, N]
        self.places: Tensor
        self.squares: Tensor
        still = STILL * float(self.squares.mean().sqrt())
        self.centre = Centre.of(self._distances(level, others), still=still)

    def forward(self, level: Tensor, others: Tensor) -> Tensor:
        """How far each place of a map [B, C, h, w] is from the peers: [B, h, w], in robust standard deviations of theirs."""
        return self.centre.deviations(self._distances(level, others))

    def _distances(self, level: Tensor, others: Tensor) -> Tensor:
        each = [nearest_mean(apart, self.counted) for apart in self.apart(level, others)]
        return torch.stack(each).reshape(len(level), *level.shape[-2:])

    def apart(self, level: Tensor, others: Tensor) -> Iterator[Tensor]:
        """For each image of a map [B, C, h, w], how far its places are from the most alike place of each other peer, [R', N]."""
        for places, peers in zip(self._places(level), others, strict=True):
            yield _nearest(places, self.places, self.squares)[peers.to(places.device)]

    def _places(self, level: Tensor) -> Tensor:
        pooled = _pooled(level, self.glance.window) - self.mean  # no distance changes, and less is lost in rounding
        if self.glance.standardised:
            pooled = F.normalize(pooled / self.deviation, dim=1)
        return pooled.flatten(2).transpose(1, 2).contiguous()  # [B, N, C]


def nearest_mean(apart: Tensor, counted: int) -> Tensor:
    """The mean distance [N] to those `counted` peers, of [R, N], that know a place best; 0 where there are none."""
    if not len(apart):
        return apart.new_zeros(apart.shape[1])
    return apart.topk(min(counted, len(apart)), dim=0, largest=False).values.mean(0)


def together(seen: Sequence[Tensor]) -> Tensor:
    """The mean of several glances' maps [B, h, w], on the finest of their grids."""
    finest = max((one.shape[-2:] for one in seen), key=math.prod)
    return torch.stack([on_grid(one, finest) for one in seen]).mean(0)


def highest(maps: Tensor, share: float) -> Tensor:
    """The mean [B] of the share of highest places of maps [B, h, w]."""
    flat = maps.flatten(1)
    return flat.topk(max(1, round(share * flat.shape[1])), dim=1).values.mean(1)


def moved(probability: Tensor, deviations: Tensor, config: MutualConfig) -> Tensor:
    """Probabilities whose log odds the deviations have moved, as `MutualConfig` says."""
    log_odds = probability.clamp(SURE, 1 - SURE).logit()
    return (log_odds + config.weight * (deviations / config.scale).asinh()).sigmoid()


def compared_maps(backbone: Clip, images: Tensor) -> list[Tensor]:
    """What places are compared by, maps [B, C, h, w] in float32: a trunk's at strides 8 and 16, else the tokens of each level,
    of unit length."""
    tower = backbone.image
    if tower.trunk is not None:
        maps = tower.trunk(images.contiguous(memory_format=torch.channels_last))
        return [maps[level].float().contiguous() for level in COMPARED]
    seen = tower(images, levels=backbone.config.levels)
    tokens = [F.normalize(level[:, 1:].float(), dim=-1) for level in seen.levels.values()]
    return [each.transpose(1, 2).reshape(len(images), -1, *seen.grid) for each in tokens]


def _glances(backbone: Clip, levels: int) -> tuple[Glance, ...]:
    if backbone.image.trunk is not None:
        return CONVOLUTIONAL
    return tuple(Glance(level, WINDOW, False) for level in range(levels))


def _nearest(places: Tensor, peers: Tensor, squares: Tensor) -> Tensor:
    """The distance [R, N] of each place [N, C] to its nearest in each peer [R, M, C], of which the squares [R, M] are known."""
    own, (count, size) = places.square().sum(1), squares.shape
    at_once = max(1, min(count, MOST_BYTES // (4 * size * len(places))))  # peers
    rows = max(1, MOST_BYTES // (4 * size * at_once))  # places
    nearest = [
        torch.cat(
            [
                _least(part, peers[first : first + at_once], squares[first : first + at_once])
                for part in torch.split(places, rows)
            ],
            dim=1,
        )
        for first in range(0, count, at_once)
    ]
    return (torch.cat(nearest) + own).clamp_min(0).sqrt()


def _least(places: Tensor, peers: Tensor, squares: Tensor) -> Tensor:
    """The least squared distance of places [n, C] to those of each peer [r, M, C], less the place's own square: [r, n]."""
    apart = torch.addmm(squares.reshape(1, -1), places, peers.flatten(0, 1).T, alpha=-2)  # [n, r * M]
    return apart.reshape(len(places), *squares.shape).amin(2).T


def _digest(image: Tensor) -> bytes:
    return hashlib.sha256(image.contiguous().cpu().numpy().tobytes()).digest()


def _pooled(level: Tensor, window: int) -> Tensor:
    return F.avg_pool2d(level, window, stride=1, padding=window // 2, count_include_pad=False) if window > 1 else level


def on_grid(maps: Tensor, grid: Sequence[int]) -> Tensor:
    """Maps [B, h, w] on another grid."""
    if maps.shape[-2:] == tuple(grid):
        return maps
    return F.interpolate(maps[:, None], tuple(grid), mode="bilinear", align_corners=False)[:, 0]
