"""The images that the embedded model is judged by, and the figures of scores and maps on them (docs/model-judge.md)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from blemish.errors import UsageError
from blemish.metrics import PixelRanking, auroc
from blemish.synthesis.dataset import HELD_OUT_SEEDS
from recipes.real.pairs import SMALL, Pair, read_shard, render_pair

MASK_PX = 448
COUNT_PCB, COUNT_PHOTOS, COUNT_RENDERS = 50, 80, 50
RENDER_SIZES = (512, 768, 1024)
JUDGE_SEEDS = HELD_OUT_SEEDS + 2_000_000
LEAST_AREA = 0.0002  # of a rendered picture
GOOD_NG_SHARE = 0.05
FIVE_SOURCES = ("capsules", "macaroni1", "deep-pcb", "photos", "renders")  # those that J is the mean of
HELD_OUT_SETS = ("cookies", "fabric-stains")  # annotated sets that never train: their digests fall below HELD_OUT_SHARE
COUNT_SET = 60
SOURCES = (*FIVE_SOURCES, "large", *HELD_OUT_SETS)

Map = NDArray[np.floating]


@dataclass(frozen=True)
class Truth:
    """What is known of a judged image."""

    source: str  # one of SOURCES
    mask: NDArray[np.bool_] | None  # [448, 448]; None for a good image
    pair: int = -1  # number of the pair that it belongs to; -1 outside pairs


@dataclass(frozen=True)
class Judged:
    """A judged image."""

    pixels: NDArray[np.uint8]  # [H, W, 3]
    truth: Truth


def judged_images(
    images: Path, pairs: Path, *, large_pairs: Path | None = None, sources: Sequence[str] = FIVE_SOURCES
) -> Iterator[Judged]:
    """All images of these sources, in an order that never changes.

    Args:
        images: Folder that recipes.real_images laid out.
        pairs: Folder of held-out photo pairs (recipes.real.pairs --judge).
        large_pairs: The same with large defects (--judge --large), for the source "large".
        sources: Some of SOURCES.

    Raises:
        UsageError: A source is asked for and its images are not there.
    """
    for product in ("capsules", "macaroni1"):
        if product in sources:
            yield from _folder(product, images / "visa" / product)
    if "deep-pcb" in sources:
        yield from _folder("deep-pcb", images / "deep-pcb" / "board", count=COUNT_PCB)
    for name in HELD_OUT_SETS:
        if name in sources:
            yield from _folder(name, images / "defects" / name, count=COUNT_SET)
    if "photos" in sources:
        yield from _photo_pairs("photos", pairs)
    if "large" in sources:
        if large_pairs is None:
            raise UsageError(
                'the source "large" needs a folder of pairs with large defects; name it with --large-pairs'
            )
        yield from _photo_pairs("large", large_pairs)
    if "renders" in sources:
        number, seed = 0, JUDGE_SEEDS
        while number < COUNT_RENDERS:
            made = render_pair(seed, RENDER_SIZES[number % len(RENDER_SIZES)], size=SMALL)
            seed += 1
            if made is not None and made.mask.mean() >= LEAST_AREA:
                yield from _twins("renders", made, number)
                number += 1


def _photo_pairs(source: str, folder: Path) -> Iterator[Judged]:
    shards = sorted(folder.glob("[0-9]*"))
    if not shards:
        raise UsageError(
            f"{folder}: no pairs for the source {source}; make them with python -m recipes.real.pairs --judge"
        )
    pairs = (pair for shard in shards for pair in read_shard(shard))
    for number, pair in enumerate(islice(pairs, COUNT_PHOTOS)):
        yield from _twins(source, pair, number)


def _twins(source: str, pair: Pair, number: int) -> Iterator[Judged]:
    yield Judged(pair.good, Truth(source, None, number))
    yield Judged(pair.bad, Truth(source, _small_mask(pair.mask), number))


def _folder(source: str, folder: Path, *, count: int | None = None) -> Iterator[Judged]:
    for state in ("good", "bad"):
        files = sorted((folder / "test" / state).glob("*.jpg"), key=lambda path: digest_of(path.name))[:count]
        if not files:
            raise UsageError(
                f"{folder}: no {state} images of {source}; lay them out with python -m recipes.real_images"
            )
        for path in files:
            mask = None
            if state == "bad":
                truth = np.asarray(Image.open(folder / "ground_truth" / "bad" / f"{path.stem}_mask.png"))
                mask = _small_mask(truth > 127)
            yield Judged(np.asarray(Image.open(path).convert("RGB")), Truth(source, mask))


def digest_of(name: str) -> str:
    """What orders the images of a source: the digest of a file's name."""
    return hashlib.sha256(name.encode()).hexdigest()


def _small_mask(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """At MASK_PX; at least its strongest pixel stays."""
    share = np.asarray(Image.fromarray(mask.astype(np.uint8) * 255).resize((MASK_PX, MASK_PX), Image.Resampling.BOX))
    return np.asarray(share >= min(90, int(share.max())), bool)


def figures(truths: Sequence[Truth], scores: NDArray[np.floating], maps: Sequence[Map]) -> dict[str, dict[str, float]]:
    """The figures by source, and their means as "mean" with "J".

    Args:
        truths: Of each image.
        scores: [n], of the images.
        maps: Of the images, [h, w] of any resolution, in 0..1.
    """
    names = np.array([truth.source for truth in truths])
    bad = np.array([truth.mask is not None for truth in truths])
    by_source: dict[str, dict[str, float]] = {}
    for source in dict.fromkeys(names):
        rows = np.flatnonzero(names == source)
        ranking, leads = PixelRanking(), []
        for row in rows.tolist():
            mask = truths[row].mask
            full = _at(maps[row], MASK_PX)
            ranking.add(full, np.zeros_like(full, bool) if mask is None else mask)
            if mask is not None:
                near = ndimage.binary_dilation(mask, iterations=MASK_PX // 28)
                leads.append(bool(near.ravel()[full.argmax()]))
        others = scores[(names != source) & ~bad]
        threshold = np.quantile(others, 1 - GOOD_NG_SHARE) if len(others) else np.inf
        own = {
            "image": float(auroc(scores[rows], bad[rows])),
            "pixel": float(ranking.auroc()),
            "aupro": float(ranking.aupro()),
            "leads": float(np.mean(leads)),
            "good NG": float((scores[rows][~bad[rows]] > threshold).mean()),
        }
        order = _order(truths, scores, rows)
        by_source[str(source)] = own | ({"order": order} if order is not None else {})
    shared = [name for name in next(iter(by_source.values())) if name != "order"]
    mean = {name: float(np.mean([own[name] for own in by_source.values()])) for name in shared}
    mean["J"] = float(np.mean([(own["image"] + own["aupro"]) / 2 for own in by_source.values()]))
    return by_source | {"mean": mean}


def _order(truths: Sequence[Truth], scores: NDArray[np.floating], rows: NDArray[np.intp]) -> float | None:
    """The share of pairs whose defective twin scores higher; ties count half."""
    twins: dict[int, dict[bool, float]] = {}
    for row in rows.tolist():
        truth = truths[row]
        if truth.pair >= 0:
            twins.setdefault(truth.pair, {})[truth.mask is not None] = float(scores[row])
    complete = [pair for pair in twins.values() if len(pair) == 2]
    if not complete:
        return None
    return float(np.mean([0.5 * (np.sign(pair[True] - pair[False]) + 1) for pair in complete]))


def _at(values: Map, side: int) -> NDArray[np.float32]:
    image = Image.fromarray(np.asarray(values, np.float32))
    return np.asarray(image.resize((side, side), Image.Resampling.BILINEAR)).clip(0, 1)


def table(by_input: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """The means of each input size and the image AUROC by source, as Markdown."""
    first = next(iter(by_input.values()))
    sources = [name for name in first if name != "mean"]
    columns = ["J", "image", "pixel", "aupro", "leads", "good NG"]
    paired = [name for name in sources if "order" in first[name]]
    heads = [*columns, *(f"image {name}" for name in sources), *(f"AUPRO {name}" for name in sources)]
    heads += [f"order {name}" for name in paired]
    lines = [f"| input | {' | '.join(heads)} |", f"|---|{'---|' * len(heads)}"]
    for name, by_source in by_input.items():
        cells = [by_source["mean"][column] for column in columns]
        cells += [by_source[source]["image"] for source in sources] + [by_source[source]["aupro"] for source in sources]
        cells += [by_source[source]["order"] for source in paired]
        lines.append(f"| {name} | {' | '.join(f'{cell:.3f}' for cell in cells)} |")
    return "\n".join(lines)
