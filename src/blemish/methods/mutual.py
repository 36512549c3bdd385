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
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blemish.clip.model import Clip
from blemish.errors import UsageError
from blemish.methods.base import Features, Method, Scores
from blemish.vocabulary import Vocabulary

__all__ = ["LEAST_PEERS", "MutualConfig", "MutualScoring"]

LEAST_PEERS = 5
AT_ONCE = 8  # peers whose distances are in memory together
SAME = 1e-5  # of the places' variance: an image that is nowhere farther from another is the same one
SURE = 1e-6  # as near as a probability comes to 0 or 1 before it becomes log odds
STILL = 1e-3  # of the median: the least spread that is believed


@dataclass(frozen=True)
class MutualConfig:
    """Options of mutual scoring.

    share: of the peers, those that a place is least far from count (MuSc: 0.3). weight, scale: a place that is z robust
    standard deviations farther from the peers than the median place has its log odds moved by weight * asinh(z / scale), and
    so has an image. top_share: the share of highest places whose mean stands for the image.
    """

    share: float = 0.1
    weight: float = 4.0
    scale: float = 2.0
    top_share: float = 0.005

    def __post_init__(self) -> None:
        if not (0 < self.share <= 1 and 0 < self.top_share <= 1 and self.weight >= 0 and self.scale > 0):
            raise UsageError("shares lie above 0 and up to 1, the weight is at least 0 and the scale above 0")


class Glance(NamedTuple):
    """One way to see places: which of the compared maps, averaged over window x window places, standardised or not."""

    level: int
    window: int
    standardised: bool


# The held-out rendered series decided these (training/embedded/peers.py): fine places as they are, coarser ones in their
# neighbourhood. Of a transformer every level, as MuSc has it.
CONVOLUTIONAL = (Glance(0, 1, False), Glance(1, 3, True))
WINDOW = 3


@dataclass(frozen=True)
class Compared(Features):
    """The other method's features, and how far each place [B, h, w] is from the peers, in robust standard deviations."""

    unlike: Tensor


class MutualScoring(Method):
    """Another method whose scores are moved by how unlike its peers an image is; `take_peers` comes before the first score.

    Types are the other method's: their maps and scores keep their shares of the moved ones.
    """

    config_type = MutualConfig

    def __init__(self, inner: Method, config: MutualConfig | None = None) -> None:
        super().__init__(inner.backbone, config or MutualConfig())
        self.config: MutualConfig
        self.inner = inner
        self.vocabulary = inner.vocabulary
        self.name = f"{inner.name}+mutual"  # type: ignore[misc]  # it depends on the other one
        self.scores_depend_on_vocabulary = inner.scores_depend_on_vocabulary
        self.crowds = nn.ModuleList()
        self.peers = ""
        self.register_buffer("middle", torch.tensor([0.0, 1.0]), persistent=False)  # of the peers' highest places
        self.middle: Tensor

    def prepare(self, vocabulary: Vocabulary | None = None) -> None:
        self.inner.prepare(vocabulary)
        self.vocabulary = self.inner.vocabulary

    def prepare_texts(self) -> None:
        self.inner.prepare_texts()

    def fingerprint(self) -> str:
        """Of the method and the options; which images the peers are, `peers` says."""
        return hashlib.sha256(f"{self.inner.fingerprint()} {self.config}".encode()).hexdigest()[:16]

    @torch.inference_mode()
    def take_peers(self, batches: Iterable[Tensor]) -> None:
        """Compares from now on with these images [B, 3, S, S], normalised as for `encode`; they judge each other, too.

        An image is never compared with itself, wherever it came from. UsageError for fewer than `LEAST_PEERS` images.
        """
        digest, seen = hashlib.sha256(), []
        for batch in batches:
            digest.update(batch.cpu().numpy().tobytes())
            seen.append(compared_maps(self.backbone, batch))
        count = sum(len(maps[0]) for maps in seen)
        if count < LEAST_PEERS:
            raise UsageError(f"images are compared with at least {LEAST_PEERS} of their like, not with {count}")
        maps = [torch.cat(level) for level in zip(*seen, strict=True)]
        self.crowds = nn.ModuleList(
            Crowd(maps[glance.level], glance, self.config.share) for glance in _glances(self.backbone, len(maps))
        )
        self.middle = middle_of(highest(self._unlike(maps), self.config.top_share))
        self.peers = f"{count} images ({digest.hexdigest()[:16]})"

    def encode(self, images: Tensor) -> Compared:
        if not self.peers:
            raise UsageError("the images have nothing to be compared with: take_peers comes first")
        features = self.inner.encode(images)
        unlike = self._unlike(compared_maps(self.backbone, images))
        return Compared(features.whole, features.levels, features.grid, unlike)

    def score(self, features: Features) -> Scores:
        assert isinstance(features, Compared)
        scores, unlike = self.inner.score(features), features.unlike
        highest_unlike = standardised(highest(unlike, self.config.top_share), self.middle)
        image_score = moved(scores.image_score, highest_unlike, self.config)
        anomaly_map = moved(scores.anomaly_map, on_grid(unlike, scores.anomaly_map.shape[-2:]), self.config)
        typed = scores.type_maps
        before, after = (on_grid(one, typed.shape[-2:]) for one in (scores.anomaly_map, anomaly_map))
        typed = typed * (after / before.clamp_min(SURE))[:, None]
        type_scores = scores.type_scores * (image_score / scores.image_score.clamp_min(SURE))[:, None]
        return Scores(image_score, anomaly_map, scores.types, type_scores.clamp(0, 1), typed.clamp(0, 1))

    def _unlike(self, maps: Sequence[Tensor]) -> Tensor:
        return together([crowd(maps[crowd.glance.level]) for crowd in cast(Iterable[Crowd], self.crowds)])


class Crowd(nn.Module):
    """The peers' places as one glance sees them, and how far a place is from them."""

    def __init__(self, level: Tensor, glance: Glance, share: float) -> None:
        super().__init__()
        self.glance, self.share = glance, share
        pooled = _pooled(level, glance.window)
        mean, spread = pooled.mean((0, 2, 3), keepdim=True), pooled.std((0, 2, 3), keepdim=True) + STILL
        self.register_buffer("mean", mean, persistent=False)  # [1, C, 1, 1]
        self.register_buffer("spread", spread, persistent=False)
        places = self._places(level)
        self.register_buffer("places", places, persistent=False)  # [R, N, C]
        self.register_buffer("squares", places.square().sum(2), persistent=False)  # [R, N]
        self.mean: Tensor
        self.spread: Tensor
        self.places: Tensor
        self.squares: Tensor
        self.register_buffer("middle", middle_of(self._distance(level)), persistent=False)
        self.middle: Tensor

    def forward(self, level: Tensor) -> Tensor:
        """How far each place of a map [B, C, h, w] is from the peers: [B, h, w], in robust standard deviations of theirs."""
        return standardised(self._distance(level), self.middle)

    def _places(self, level: Tensor) -> Tensor:
        pooled = _pooled(level, self.glance.window) - self.mean  # no distance changes, and less is lost in rounding
        if self.glance.standardised:
            pooled = F.normalize(pooled / self.spread, dim=1)
        return pooled.flatten(2).transpose(1, 2).contiguous()  # [B, N, C]

    def _distance(self, level: Tensor) -> Tensor:
        each = [nearest_mean(apart, self.share) for apart in self.apart(level)]
        return torch.stack(each).reshape(len(level), *level.shape[-2:])

    def apart(self, level: Tensor) -> Iterator[Tensor]:
        """For each image of a map [B, C, h, w], how far its places are from the most alike place of each peer, [R, N]; the peers
        that are this very image left out."""
        for places in self._places(level):
            own = places.square().sum(1)
            parts = zip(torch.split(self.places, AT_ONCE), torch.split(self.squares, AT_ONCE), strict=True)
            squared = torch.cat([_nearest(places, *part) + own for part in parts]).clamp_min(0)
            yield squared[squared.amax(1) > SAME * own.mean()].sqrt()


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


def nearest_mean(apart: Tensor, share: float) -> Tensor:
    """The mean distance [N] to those peers, of [R, N], that know a place best; 0 where there are none."""
    if not len(apart):
        return apart.new_zeros(apart.shape[1])
    return apart.topk(max(1, round(share * len(apart))), dim=0, largest=False).values.mean(0)


def compared_maps(backbone: Clip, images: Tensor) -> list[Tensor]:
    """What places are compared by, maps [B, C, h, w] in float32: a trunk's at strides 8 and 16, else the tokens of each level,
    of unit length."""
    tower = backbone.image
    if tower.trunk is not None:
        maps = tower.trunk(images.contiguous(memory_format=torch.channels_last))
        return [maps[1].float().contiguous(), maps[2].float().contiguous()]
    seen = tower(images, levels=backbone.config.levels)
    tokens = [F.normalize(level[:, 1:].float(), dim=-1) for level in seen.levels.values()]
    return [each.transpose(1, 2).reshape(len(images), -1, *seen.grid) for each in tokens]


def _glances(backbone: Clip, levels: int) -> tuple[Glance, ...]:
    if backbone.image.trunk is not None:
        return CONVOLUTIONAL
    return tuple(Glance(level, WINDOW, False) for level in range(levels))


def _nearest(places: Tensor, peers: Tensor, squares: Tensor) -> Tensor:
    """The square of each place's distance to its nearest in each peer, less the place's own square: [R, N]."""
    apart = torch.addmm(squares.reshape(1, -1), places, peers.flatten(0, 1).T, alpha=-2)  # [N, R * N]
    return apart.reshape(len(places), *squares.shape).amin(2).T


def _pooled(level: Tensor, window: int) -> Tensor:
    return F.avg_pool2d(level, window, stride=1, padding=window // 2, count_include_pad=False) if window > 1 else level


def middle_of(values: Tensor) -> Tensor:
    """Median and robust standard deviation."""
    centre = values.median()
    spread = 1.4826 * (values - centre).abs().median()
    least = torch.maximum(STILL * centre.abs(), torch.full_like(centre, SURE))
    return torch.stack([centre, torch.maximum(spread, least)])


def standardised(values: Tensor, middle: Tensor) -> Tensor:
    return (values - middle[0]) / middle[1]


def on_grid(maps: Tensor, grid: Sequence[int]) -> Tensor:
    """Maps [B, h, w] on another grid."""
    if maps.shape[-2:] == tuple(grid):
        return maps
    return F.interpolate(maps[:, None], tuple(grid), mode="bilinear", align_corners=False)[:, 0]
