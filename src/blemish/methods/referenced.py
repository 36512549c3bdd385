"""Another method's words, read beside what good images of the same product look like.

The words say how much a patch looks like a defect; good images say how such a patch of this product usually looks, and what
the words usually say of it. A patch counts by what both say beyond that. For a patch with appearance a, the words' log odds w
and the distance d to the good patches, the likelihood ratio of defect against good is

    p(w | defect, a) / p(w | good, a) · p(d | defect) / p(d | good, a)

Under "good, a" stand the k most alike good patches: (1) w is expected to be their mean, (2) d as far as good patches near there
lie from those of other images. Under "defect" little is known but that w and d are higher, so the ratio rises with how unusual
they are among good patches: (3) each becomes -log of the share of good patches that go as far, counted with every good image
left out of the memory once and carried on beyond them as an exponential, and (4) their sum is the score. Whoever says little of
a product, words or distances, says as much of its good patches, and so counts little.

(1) words: f(w) - mean of f over the k alike patches; f(w) = s · log(1 + exp(w / s)), as log odds far below 0 say nothing
(2) distance: log d - mean over the alike patches of the log distance that good patches near them have
(3) u(x) = -log share of good patches that reach x, an exponential beyond the highest hundredth
(4) score = u(words) + u(distance); of an image, the mean over its highest patches; both in standard deviations of good images'
    image scores from their median, z; probability = 1 / (1 + exp(-(z - middle) / width))

B batch, R good images, M entries of the memory, N patches of a grid h x w, k alike patches, T types.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from blemish.errors import UsageError
from blemish.io.codec import to_dict
from blemish.language import Vocabulary
from blemish.methods.appearance import Projection, appearance, entry_vectors, image_vectors, on_grid
from blemish.methods.base import Features, Method, Scores, Texts
from blemish.methods.coreset import choose
from blemish.methods.nearest import Entries, Nearest
from blemish.methods.reference_memory import MEMORY_SCHEMA, MemoryOptions, ReferenceMemory, merge
from blemish.methods.text_cache import TextCache

__all__ = ["ReferencedConfig", "ReferencedScoring", "add", "remember"]

SURE = 1e-6  # as near as a probability comes to 0 or 1 before it becomes log odds
LEAST = 1e-6
HIGH = 0.99  # the share of good patches below which u is linear, and above which exponential
MOST_FOLDS = 20  # into which a memory is dealt to score its own images
FEWEST_TO_LEAVE_OUT = 4
WIDE = 4  # times the alike entries are found at first, so that enough are left without some images
AROUND = 3  # patches around a patch that are not alike ones: where one image stands for all


@dataclass(frozen=True)
class ReferencedConfig:
    """Options of referenced scoring."""

    alike: int = 5  # from 1: k, the good patches that say what the words are expected to say
    softness: float = 2.0  # above 0: s of (1)
    top_share: float = 0.005  # 0..1 without 0, of the patches, those that stand for the image
    middle: float = 4.0  # standard deviations from good images at which the probability is 0.5
    width: float = 1.5  # above 0, in the same unit

    def __post_init__(self) -> None:
        if not (self.alike >= 1 and self.softness > 0 and 0 < self.top_share <= 1 and self.width > 0):
            raise UsageError(
                "alike is at least 1, softness and width are above 0, and top_share lies above 0 and up to 1"
            )


@dataclass(frozen=True, kw_only=True)
class ReferencedFeatures(Features):
    """The other method's features, and the alike good patches of each patch."""

    inner: Features
    distances: Tensor  # [B, N, k]
    numbers: Tensor  # [B, N, k], of entries
    patch_grid: tuple[int, int]  # of the N patches that were compared


class Tail(NamedTuple):
    """How unusual a number is among others: (3)."""

    middle: Tensor  # their median
    high: Tensor  # what the share HIGH of them does not reach
    excess: Tensor  # by how much the others exceed it, a mean

    @classmethod
    def of(cls, values: Tensor) -> Tail:
        ordered = values.flatten().sort().values
        high = ordered[min(len(ordered) - 1, int(HIGH * len(ordered)))]
        above = ordered[ordered > high]
        excess = (above - high).mean() if len(above) else ordered.new_zeros(())
        return cls(ordered[len(ordered) // 2], high, excess.clamp_min(LEAST))

    def __call__(self, values: Tensor) -> Tensor:
        at_high = -math.log(1 - HIGH)
        below = (values - self.middle) / (self.high - self.middle).clamp_min(LEAST) * at_high
        return torch.where(values > self.high, at_high + (values - self.high) / self.excess, below)


@dataclass(frozen=True)
class Usual:
    """What is usual among the good patches of a memory, with one vocabulary's words."""

    log_odds: Tensor  # [M], the words' at each entry
    shares: Tensor  # [M, T], each type's share of all types there
    log_distance: Tensor  # [M], how far good patches near an entry are from those of other images
    words: Tail
    distance: Tail
    median: float  # of good images' scores
    spread: float  # their robust standard deviation


class ReferencedScoring(Method):
    """Another method whose words are read beside a memory of good images of the product.

    Args:
        inner: The other method.
        memory: What `remember` made with it.
        config: Options.

    Raises:
        UsageError: The memory is of another model, or of images of another size.
    """

    config_type = ReferencedConfig

    def __init__(self, inner: Method, memory: ReferenceMemory, config: ReferencedConfig | None = None) -> None:
        super().__init__(inner.backbone, config or ReferencedConfig())
        self.config: ReferencedConfig
        check(memory, inner)
        self.inner = inner
        self.name = f"{inner.name}+references"  # type: ignore[misc]  # it depends on the other one
        self.scores_depend_on_vocabulary = inner.scores_depend_on_vocabulary
        self.references = inner.references
        self.memory = counted(memory, device=_device(inner), alike=self.config.alike)
        self.good_references = memory.identity
        self._bank = Bank.of(self.memory, _device(inner))
        self._numbers = {digest: number for number, digest in enumerate(memory.digests)}
        self._usual: list[tuple[Texts, Usual]] = []

    @property
    def word_grid(self) -> tuple[int, int]:
        """Rows and columns of the words' patches."""
        return self._bank.word_grid

    def compute_texts(self, vocabulary: Vocabulary, cache: TextCache) -> Texts:
        return self.inner.compute_texts(vocabulary, cache)

    def fingerprint(self) -> str:
        """Of the method and all options; which the good images are, `good_references` says."""
        decisive = [self.inner.fingerprint(), to_dict(self.config), MEMORY_SCHEMA]
        return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:16]

    def remarks(self) -> tuple[str, ...]:
        return self.inner.remarks()

    def encode(self, images: Tensor, *, compare: bool = False) -> ReferencedFeatures:
        features = self.inner.encode(images, compare=True)
        seen = appearance(features.reference_maps)
        vectors = self._bank.projection(seen.flatten(2).transpose(1, 2))  # [B, N, c]
        found = [
            self._bank.alike(own, k=self.config.alike, without=self._numbers.get(digest_of(image)))
            for own, image in zip(vectors, images, strict=True)
        ]
        return ReferencedFeatures(
            features.global_feature,
            features.levels,
            features.grid,
            features.reference_maps if compare else (),
            inner=features,
            distances=torch.stack([near.distances for near in found]),
            numbers=torch.stack([near.numbers for near in found]),
            patch_grid=(int(seen.shape[2]), int(seen.shape[3])),
        )

    def score(self, features: Features, texts: Texts) -> Scores:
        assert isinstance(features, ReferencedFeatures)
        inner, usual = self.inner.score(features.inner, texts), self.usual(texts)
        own = log_odds(on_grid(inner.anomaly_map, features.patch_grid)).flatten(1)
        patches = self.evidence(usual, own, features.distances, features.numbers)  # [B, N]
        image_score, anomaly_map = self._probability(usual, patches, features.patch_grid)
        moved = replace(inner, image_score=image_score, anomaly_map=anomaly_map)
        type_scores, type_maps = self._typed(moved, features, patches)
        reasons = self._reasons(usual, own, features, patches)
        return replace(moved, type_scores=type_scores, type_maps=type_maps, reasons=reasons)

    def _reasons(self, usual: Usual, own: Tensor, features: ReferencedFeatures, patches: Tensor) -> Tensor:
        """What `results.Reasons` says of each image, [B, 2]: means over its highest patches."""
        top = patches.topk(max(1, round(self.config.top_share * patches.shape[1])), dim=1).indices
        words = (own - usual.log_odds[features.numbers].mean(-1)).gather(1, top)
        farther = self.beyond_distance(usual, features.distances, features.numbers).gather(1, top)
        return torch.stack([words.mean(1), farther.mean(1).exp()], 1)

    def leave_one_out(self, texts: Texts) -> tuple[Tensor, Tensor]:
        """Image scores [R] and maps [R, h, w] of the memory's own images, each by a memory without it.

        Without it also is what is usual: an image that has a say in that would seem more usual than a new one. Of more than
        `MOST_FOLDS` images several are left out at a time. Below four images too few would be left.
        """
        bank, count = self._bank, len(self._bank.globals)
        own = bank.log_odds_maps.flatten(1)
        if count < FEWEST_TO_LEAVE_OUT:
            usual = self.usual(texts)
            return self._probability(usual, self.evidence(usual, own, bank.distances, bank.numbers), bank.grid)
        words = self.usual(texts).log_odds
        image_scores, maps = own.new_zeros(count), own.new_zeros(count, *bank.grid)
        wide = bank.wide(self.memory, k=self.config.alike)
        for fold in torch.arange(count, device=own.device).tensor_split(min(count, MOST_FOLDS)):
            near = bank.without(fold, wide, k=self.config.alike)
            others = torch.ones(count, dtype=torch.bool, device=own.device)
            others[fold] = False
            usual = self._usual_of(words, own[others], near.distances[others], near.numbers[others])
            patches = self.evidence(usual, own[fold], near.distances[fold], near.numbers[fold])
            image_scores[fold], maps[fold] = self._probability(usual, patches, bank.grid)
        return image_scores, maps

    def usual(self, texts: Texts) -> Usual:
        """What is usual among the good patches, with the words of these texts."""
        for known, usual in self._usual:
            if known is texts:
                return usual
        bank = self._bank
        shares, packed = self._entry_scores(texts)
        words = packed if self.scores_depend_on_vocabulary else bank.log_odds
        usual = self._usual_of(words, bank.log_odds_maps.flatten(1), bank.distances, bank.numbers)
        usual = replace(usual, shares=shares)
        self._usual = [(texts, usual), *self._usual[:3]]
        return usual

    def _usual_of(self, words: Tensor, own: Tensor, distances: Tensor, numbers: Tensor) -> Usual:
        """What is usual among good images with these log odds [R, N], and distances to their alike entries [R, N, k]."""
        log_distance = _near(distances[..., 0].clamp_min(LEAST).log(), numbers, entries=len(words))
        nothing = Tail.of(torch.zeros(1))
        partial = Usual(words, words.new_zeros(0), log_distance, nothing, nothing, median=0.0, spread=1.0)
        by_words = self.beyond_words(partial, own, numbers)
        by_distance = self.beyond_distance(partial, distances, numbers)
        tails = Tail.of(by_words), Tail.of(by_distance)
        median, spread = _centre(highest(tails[0](by_words) + tails[1](by_distance), self.config.top_share))
        return replace(partial, words=tails[0], distance=tails[1], median=median, spread=spread)

    def beyond_words(self, usual: Usual, own: Tensor, numbers: Tensor) -> Tensor:
        """(1): [B, N], of log odds [B, N] and the alike entries [B, N, k]."""
        soft = self.config.softness
        return F.softplus(own / soft) * soft - (F.softplus(usual.log_odds[numbers] / soft) * soft).mean(-1)

    def beyond_distance(self, usual: Usual, distances: Tensor, numbers: Tensor) -> Tensor:
        """(2): [B, N], of the distances [B, N, k] to the alike entries."""
        return distances[..., 0].clamp_min(LEAST).log() - usual.log_distance[numbers].mean(-1)

    def evidence(self, usual: Usual, own: Tensor, distances: Tensor, numbers: Tensor) -> Tensor:
        """(4): [B, N]."""
        return usual.words(self.beyond_words(usual, own, numbers)) + usual.distance(
            self.beyond_distance(usual, distances, numbers)
        )

    def _probability(self, usual: Usual, patches: Tensor, grid: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Image scores [B] and maps [B, h, w], 0..1."""

        def probability(values: Tensor) -> Tensor:
            z = (values - usual.median) / usual.spread
            return ((z - self.config.middle) / self.config.width).sigmoid()

        return probability(highest(patches, self.config.top_share)), probability(patches).reshape(-1, *grid)

    def _typed(self, scores: Scores, features: ReferencedFeatures, patches: Tensor) -> tuple[Tensor, Tensor]:
        """Type scores [B, T] and maps [B, T, h, w]: what the words say of a type beyond what they say of alike good patches."""
        grid, types = features.patch_grid, scores.type_maps.shape[1]
        maps = torch.stack([on_grid(scores.type_maps[:, number], grid) for number in range(types)], 1).flatten(2)
        shares = maps / maps.sum(1, keepdim=True).clamp_min(SURE)  # [B, T, N]
        typed = (scores.anomaly_map.flatten(1)[:, None] * shares).reshape(len(maps), types, *grid)
        top = patches.topk(max(1, round(self.config.top_share * patches.shape[1])), dim=1).indices
        strongest = shares.gather(2, top[:, None].expand(-1, types, -1)).mean(2)
        return strongest / strongest.sum(1, keepdim=True).clamp_min(SURE) * scores.image_score[:, None], typed

    def _entry_scores(self, texts: Texts) -> tuple[Tensor, Tensor]:
        """The types' shares [M, T] and the words' log odds [M] at the entries, from the method's features that were kept there.

        The entries of an image are given to the method as an image, repeated until its grid is full.
        """
        bank = self._bank
        shares = bank.levels[0].new_zeros(len(bank.images), len(texts.types))
        found = bank.levels[0].new_zeros(len(bank.images))
        patches = math.prod(bank.word_grid)
        with torch.inference_mode():
            for image in range(len(bank.globals)):
                rows = (bank.images == image).nonzero()[:, 0]
                for part in torch.split(rows, patches):
                    filled = part.repeat(math.ceil(patches / len(part)))[:patches]
                    levels = tuple(level[filled][None] for level in bank.levels)
                    packed = Features(bank.globals[image : image + 1], levels, bank.word_grid)
                    maps = self.inner.score(packed, texts).type_maps[0].flatten(1)[:, : len(part)]  # [T, n]
                    total = maps.sum(0)
                    shares[part] = (maps / total.clamp_min(SURE)).T
                    found[part] = log_odds(total)
        return shares, found


class Wide(NamedTuple):
    """More alike entries than are compared, for when some images are left out."""

    vectors: Tensor  # [R, N, c], of all images' patches
    rows: Tensor  # [M, c], of the entries
    near: Nearest  # [R, N, WIDE k], of the other images


@dataclass(frozen=True)
class Bank:
    """A memory as tensors on a device."""

    projection: Projection
    entries: Entries
    images: Tensor  # [M], of each entry
    log_odds: Tensor  # [M]
    levels: tuple[Tensor, ...]  # L times [M, D], the words' features
    globals: Tensor  # [R, G], likewise of the images
    log_odds_maps: Tensor  # [R, h, w]
    grid: tuple[int, int]
    word_grid: tuple[int, int]
    distances: Tensor  # [R, N, k], of each image's patches to the alike ones of the others
    numbers: Tensor  # [R, N, k], their entries
    single: Tensor | None = None  # [N, c]: the patches of the only image

    @classmethod
    def of(cls, memory: ReferenceMemory, device: torch.device) -> Bank:
        arrays = memory.arrays

        def tensor(name: str) -> Tensor:
            array = torch.from_numpy(np.array(arrays[name])).to(device)
            return array.float() if array.is_floating_point() else array.long()

        vectors = entry_vectors(arrays, device)
        entries = tensor("entries")
        maps = tensor("log_odds")
        return cls(
            projection=Projection.in_arrays(arrays, device),
            entries=Entries(vectors, images=entries[:, 0]),
            images=entries[:, 0],
            log_odds=maps.flatten(1)[entries[:, 0], entries[:, 1]],
            levels=tuple(tensor(f"level{number}") for number in range(memory.facts["levels"])),
            globals=tensor("global"),
            log_odds_maps=maps,
            grid=(int(maps.shape[1]), int(maps.shape[2])),
            word_grid=(memory.facts["word_grid"][0], memory.facts["word_grid"][1]),
            distances=tensor("counted_distances"),
            numbers=tensor("counted_numbers"),
        )

    def wide(self, memory: ReferenceMemory, *, k: int) -> Wide:
        """What `without` needs of the memory that this bank is of."""
        device = self.images.device
        vectors = image_vectors(memory.arrays, device)
        found = [self.entries.nearest(own, k=WIDE * k, without=number) for number, own in enumerate(vectors)]
        stacked = Nearest(*(torch.stack([near[part] for near in found]) for part in (0, 1)))
        patches = torch.from_numpy(memory.arrays["entries"][:, 1].astype(np.int64)).to(device)
        return Wide(vectors, vectors[self.images, patches], stacked)

    def without(self, fold: Tensor, wide: Wide, *, k: int) -> Nearest:
        """The k alike entries of every image's patches [R, N, k], its own and those of some images [F] left out."""
        vectors, near = wide.vectors, wide.near
        gone = torch.isin(self.images, fold)
        distances = near.distances.masked_fill(gone[near.numbers], torch.inf)
        found = distances.topk(k, dim=2, largest=False)
        distances, numbers = found.values, near.numbers.gather(2, found.indices)
        kept = (~gone).nonzero()[:, 0]
        rest: Entries | None = None
        for image in (~torch.isfinite(distances[..., -1])).any(1).nonzero()[:, 0].tolist():
            rows = ~torch.isfinite(distances[image, :, -1])
            rest = rest or Entries(wide.rows[kept], images=self.images[kept])
            again = rest.nearest(vectors[image, rows], k=k, without=image)
            distances[image, rows], numbers[image, rows] = again.distances, kept[again.numbers]
        return Nearest(distances, numbers)

    def alike(self, vectors: Tensor, *, k: int, without: int | None) -> Nearest:
        """The alike entries of an image's patches [N, c]; an image of the memory is compared with the others alone."""
        if without is not None:
            return Nearest(self.distances[without], self.numbers[without])
        return self.entries.nearest(vectors, k=k)


def remember(inner: Method, batches: Iterable[Tensor], options: MemoryOptions | None = None) -> ReferenceMemory:
    """The memory of good images of a product.

    Args:
        inner: The method whose words are read beside it.
        batches: Normalised images [b, 3, S, S], as `Method.encode` takes them. Copies of one image count once.
        options: How they are remembered.

    Raises:
        UsageError: There are no images, or they are of another size.
    """
    options, size = options or MemoryOptions(), inner.backbone.config.preprocess.size
    seen = _looked_at(inner, batches, known=())
    if not seen:
        raise UsageError("references are at least one good image of the product")
    return counted(_assembled(inner, seen, options, size), device=_device(inner))


def add(inner: Method, memory: ReferenceMemory, batches: Iterable[Tensor]) -> ReferenceMemory:
    """The memory with more images; those that it holds already count once.

    Raises:
        UsageError: The memory is of another model, or the images are of another size.
    """
    check(memory, inner)
    seen = _looked_at(inner, batches, known=memory.digests)
    if not seen:
        return memory
    options = MemoryOptions(**memory.facts["options"])
    projection = Projection.in_arrays(memory.arrays, torch.device("cpu"))
    merged = merge(memory, _assembled(inner, seen, options, memory.facts["input_px"], projection=projection))
    return counted(merged, device=_device(inner))


def check(memory: ReferenceMemory, inner: Method) -> None:
    """UsageError where the memory is not of this method."""
    facts, size = memory.facts, inner.backbone.config.preprocess.size
    if facts["schema"] != MEMORY_SCHEMA:
        raise UsageError(
            f"the memory has the schema {facts['schema']}, this version reads {MEMORY_SCHEMA}: learn it anew"
        )
    if facts["model"] != inner.fingerprint():
        raise UsageError(
            f"the memory is of the model {facts['method']} {facts['model']}, not of {inner.name} {inner.fingerprint()}"
        )
    if facts["input_px"] != size:
        raise UsageError(f"the memory is of images of {facts['input_px']} px, not of {size} px")


def counted(memory: ReferenceMemory, *, device: torch.device, alike: int | None = None) -> ReferenceMemory:
    """The memory with the alike entries of each of its images' patches in the other images, found where they are missing.

    Where there is one image, they are those of the image itself, not the patches around.
    """
    arrays, alike = memory.arrays, alike or ReferencedConfig.alike
    if "counted_distances" in arrays and arrays["counted_distances"].shape[2] == alike:
        return memory
    vectors = image_vectors(arrays, device)  # [R, N, c]
    grid = arrays["log_odds"].shape[1:]
    if len(vectors) == 1:
        found = [_within(vectors[0], entry_vectors(arrays, device), arrays["entries"], grid, alike)]
    else:
        images = torch.from_numpy(arrays["entries"][:, 0].astype(np.int64)).to(device)
        entries = Entries(entry_vectors(arrays, device), images=images)
        found = [entries.nearest(own, k=alike, without=number) for number, own in enumerate(vectors)]
    more = {
        "counted_distances": torch.stack([near.distances for near in found]).cpu().numpy().astype(np.float32),
        "counted_numbers": torch.stack([near.numbers for near in found]).cpu().numpy().astype(np.int32),
    }
    return ReferenceMemory({**arrays, **more}, memory.facts)


def log_odds(probability: Tensor) -> Tensor:
    """The log odds of probabilities, finite."""
    return probability.clamp(SURE, 1 - SURE).logit()


def highest(patches: Tensor, share: float) -> Tensor:
    """The mean [B] of the share of highest values of patches [B, N]."""
    return patches.topk(max(1, round(share * patches.shape[1])), dim=1).values.mean(1)


def digest_of(image: Tensor) -> str:
    """16 hex digits of an image's pixels."""
    return hashlib.sha256(image.contiguous().cpu().numpy().tobytes()).hexdigest()[:16]


class _Look(NamedTuple):
    """An image as it is remembered."""

    digest: str
    maps: tuple[Tensor, ...]  # [C, h, w] each
    levels: tuple[Tensor, ...]  # [N, D] each
    whole: Tensor  # [G]
    word_grid: tuple[int, int]
    log_odds: Tensor  # [h, w], on the finest grid of the maps
    image_log_odds: float


@torch.inference_mode()
def _looked_at(inner: Method, batches: Iterable[Tensor], *, known: Sequence[str]) -> list[_Look]:
    texts, size, seen = inner.encode_texts(), inner.backbone.config.preprocess.size, set(known)
    found: list[_Look] = []
    for batch in batches:
        if tuple(batch.shape[1:]) != (3, size, size):
            raise UsageError(f"references are images [b, 3, {size}, {size}], not {list(batch.shape)}")
        digests = [digest_of(image) for image in batch]
        new = [row for row, digest in enumerate(digests) if digest not in seen and digest not in digests[:row]]
        if not new:
            continue
        seen.update(digests)
        features = inner.encode(batch[new], compare=True)
        scores = inner.score(features, texts)
        grid = max((level.shape[-2:] for level in features.reference_maps), key=math.prod)
        words = log_odds(on_grid(scores.anomaly_map, grid))
        for row, at in enumerate(new):
            found.append(
                _Look(
                    digests[at],
                    tuple(level[row].cpu() for level in features.reference_maps),
                    tuple(level[row].cpu() for level in features.levels),
                    features.global_feature[row].cpu(),
                    features.grid,
                    words[row].cpu(),
                    float(log_odds(scores.image_score[row])),
                )
            )
    return found


def _assembled(
    inner: Method, seen: Sequence[_Look], options: MemoryOptions, size: int, *, projection: Projection | None = None
) -> ReferenceMemory:
    """The memory of images that were looked at, its entries chosen and counted."""
    half = {
        f"map{number}": torch.stack([look.maps[number] for look in seen]).half().numpy()
        for number in range(len(seen[0].maps))
    }
    grid = seen[0].log_odds.shape
    everywhere = torch.cat(
        [
            appearance([torch.from_numpy(array[row : row + 1]).float() for array in half.values()]).flatten(2)[0].T
            for row in range(len(seen))
        ]
    )  # [R * N, C]
    projection = projection or Projection.of(everywhere)
    vectors = projection(everywhere)
    chosen = choose(vectors, options.entries)
    patches = math.prod(grid)
    entries = torch.stack([chosen // patches, chosen % patches], 1)
    entries = entries[torch.argsort(entries[:, 0] * patches + entries[:, 1])]
    arrays = {
        **half,
        "entries": entries.numpy().astype(np.int32),
        "log_odds": torch.stack([look.log_odds for look in seen]).numpy().astype(np.float32),
        "image_log_odds": np.array([look.image_log_odds for look in seen], np.float32),
        "global": torch.stack([look.whole for look in seen]).float().numpy(),
        "projection_mean": projection.mean.numpy(),
        "projection": projection.directions.numpy(),
        **_level_arrays(seen, entries, grid),
    }
    facts = {
        "schema": MEMORY_SCHEMA,
        "method": inner.name,
        "model": inner.fingerprint(),
        "input_px": size,
        "options": to_dict(options),
        "levels": len(seen[0].levels),
        "word_grid": list(seen[0].word_grid),
        "digests": [look.digest for look in seen],
    }
    return ReferenceMemory(arrays, facts)


def _level_arrays(seen: Sequence[_Look], entries: Tensor, grid: Sequence[int]) -> dict[str, NDArray[Any]]:
    """The words' features at the entries, from the nearest patch of their own grid."""
    rows, columns = seen[0].word_grid
    y, x = entries[:, 1] // grid[1], entries[:, 1] % grid[1]
    patch = (y * rows // grid[0]) * columns + x * columns // grid[1]
    found = {}
    for number in range(len(seen[0].levels)):
        parts = [look.levels[number][patch[entries[:, 0] == image]] for image, look in enumerate(seen)]
        found[f"level{number}"] = torch.cat(parts).half().numpy()
    return found


def _within(vectors: Tensor, entry_rows: Tensor, entries: NDArray[Any], grid: Sequence[int], alike: int) -> Nearest:
    """The alike entries of the patches [N, c] of an image among its own entries, not those around."""
    place = torch.arange(len(vectors), device=vectors.device)
    other = torch.from_numpy(entries[:, 1].astype(np.int64)).to(vectors.device)
    rows = (place[:, None] // grid[1] - other // grid[1]).abs()
    columns = (place[:, None] % grid[1] - other % grid[1]).abs()
    distances = torch.cdist(vectors, entry_rows).masked_fill(torch.maximum(rows, columns) <= AROUND, torch.inf)
    found = distances.topk(min(alike, distances.shape[1]), dim=1, largest=False)
    return Nearest(found.values, found.indices)


def _near(values: Tensor, numbers: Tensor, *, entries: int) -> Tensor:
    """At each entry the mean [M] of values [R, N] of the patches that have it among their alike ones [R, N, k], drawn towards
    the mean of all where they are few."""
    finite = torch.isfinite(values)
    spread, near = values.where(finite, values[finite].mean())[..., None].expand(numbers.shape), numbers.flatten()
    total = values.new_zeros(entries).index_add_(0, near, spread.reshape(-1))
    count = values.new_zeros(entries).index_add_(0, near, torch.ones_like(spread).reshape(-1))
    return (total + spread.mean()) / (count + 1)


def _centre(values: Tensor) -> tuple[float, float]:
    """Median and robust standard deviation; of few values, the deviation is drawn towards PRIOR."""
    median = values.median()
    own = float(1.4826 * (values - median).abs().median())
    prior, weight = 1.5, 5
    return float(median), math.sqrt((len(values) * own**2 + weight * prior**2) / (len(values) + weight))


def _device(method: Method) -> torch.device:
    return method.backbone.logit_scale.device
