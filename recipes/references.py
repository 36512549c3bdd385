"""What chose the constants of referenced scoring: `python -m recipes.references --products FOLDER ... --series 5`.

Products are folders in MVTec's layout whose images may choose (VisA capsules and macaroni1, DeepPCB: `python -m
recipes.real_images`); series are rendered, from seeds that nothing was trained on. Of each, 48 good images (16 of a series) are
remembered and up to 60 good and 60 anomalous ones scored. Printed is image and pixel AUROC with one constant changed at a time,
and how unlike each other the images of each product, and of mixtures of them, are (`--peers auto`). `--counts 1 2 4 8 16` prints
instead what each weight of the words is worth with so many good images, means of two draws; `--peers 64 32` what so many
unlabelled images are worth, 24 of 64 defective, compared in all or in fewer directions.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from benchmarks.real_sets import Comparison, Item
from benchmarks.references import TOP_SHARE, Seen, look_at
from torch import Tensor

from blemish.backbones.preprocess import to_array
from blemish.data import FileSample, open_data
from blemish.images import Picture
from blemish.maps import at_original
from blemish.methods import appearance
from blemish.methods.base import Method
from blemish.methods.reference_memory import MemoryOptions
from blemish.methods.referenced import ReferencedConfig, ReferencedScoring, highest
from blemish.methods.remembering import assembled, compare_images, looked_at
from blemish.methods.series import unlikeness
from blemish.metrics import PixelRanking, auroc
from blemish.models.load import load_method
from blemish.synthesis import HELD_OUT_SEEDS, render_series

FIRST_SEED = HELD_OUT_SEEDS + 1_500_000
REMEMBERED, TESTED = 48, 60
PIECES, DEFECTIVE, SERIES_REMEMBERED = 44, 14, 16
LOOKED_AT = 20
MIXTURES = 20
DRAWS, WEIGHTS = 2, (0.0, 0.1, 0.2, 0.35, 0.7)
PEERS, PEERS_DEFECTIVE, CHANNELS = 64, 24, (appearance.MOST_CHANNELS, 48, 32)

Masks = Sequence[np.ndarray | None]
Split = tuple[list[int], list[int]]  # the images that are remembered, and those that are scored


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--products", type=Path, nargs="*", default=[])
    parser.add_argument("--series", type=int, default=5)
    parser.add_argument("--input-px", type=int, default=224)
    parser.add_argument("--counts", type=int, nargs="+", default=[], help="of good images that are remembered")
    parser.add_argument("--peers", type=int, nargs="+", default=[], help="numbers of unlabelled images to compare with")
    settings = parser.parse_args()
    method = load_method(method="ensemble", input_px=settings.input_px).method
    with torch.inference_mode():
        sets = {folder.name: product(method, folder) for folder in settings.products}
        sets |= {f"series {number}": series(method, FIRST_SEED + number) for number in range(settings.series)}
        if settings.counts:
            print_counts(method, sets, settings.counts)
        elif settings.peers:
            print_peers(method, sets, settings.peers)
        else:
            print_variants(method, sets)
            print_unlikeness(sets)


def product(method: Method, folder: Path) -> tuple[Seen, Masks]:
    """A folder's images and their masks."""
    samples = [sample for sample in open_data(folder).samples if isinstance(sample, FileSample)]
    items = tuple(Item(sample.path, sample.anomalous, sample.truth) for sample in samples)
    seen = look_at(method, Comparison(folder.name, items, has_masks=True), most=REMEMBERED + TESTED)
    return seen, [
        None if item.truth is None else item.mask_pixels(seen_size(item)) if item.anomalous else None
        for item in seen.items
    ]


def seen_size(item: Item) -> tuple[int, int]:
    """Rows and columns of an anomalous image, from its mask."""
    from PIL import Image

    with Image.open(item.mask or item.path) as image:
        return image.height, image.width


def series(method: Method, seed: int) -> tuple[Seen, Masks]:
    """A rendered series and its masks."""
    pieces = render_series(seed, pieces=PIECES, defective=DEFECTIVE, size_px=448)
    looks, preprocess = [], method.backbone.config.preprocess
    for number, piece in enumerate(pieces):
        pixels = torch.from_numpy(to_array(Picture(piece.image, str(number)), preprocess))
        looks += looked_at(method, [pixels[None]], known=())
    items = tuple(Item(Path(f"{seed}/{number}"), bool(piece.mask.any())) for number, piece in enumerate(pieces))
    return Seen(items, tuple(looks), has_masks=True), [piece.mask if piece.mask.any() else None for piece in pieces]


@contextmanager
def constants(changed: dict[str, float]) -> Iterator[ReferencedConfig]:
    """Other constants of the features, and the configuration with other options."""
    options = {name: value for name, value in changed.items() if name.islower()}
    features: dict[str, Any] = {name: value for name, value in changed.items() if name.isupper()}
    with patch.multiple(appearance, **features) if features else patch.object(appearance, "SAMPLED", 20_000):
        yield replace(ReferencedConfig(), **options)


VARIANTS: dict[str, dict[str, float]] = {
    "chosen": {},
    **{f"words' weight {value:g}": {"words_weight": value} for value in (0.0, 0.5, 1.0)},
    **{f"softness {value:g}": {"softness": value} for value in (1.0, 4.0)},
    **{f"top share {value:g}": {"top_share": value} for value in (0.001, 0.002, 0.01, 0.02)},
    **{f"finest level's weight {value:g}": {"FINEST_WEIGHT": value} for value in (1.0, 1.5, 3.0)},
    **{f"length to the power {value:g}": {"LENGTH_POWER": value} for value in (0.0, 0.5, 1.0)},
    **{f"{value:g} channels": {"MOST_CHANNELS": value} for value in (32, 64, 152)},
    "coarse patches alone": {"COARSE_WINDOW": 1},
}


def print_variants(method: Method, sets: dict[str, tuple[Seen, Masks]]) -> None:
    """A table: image and pixel AUROC of each set, and their means, for each variant."""
    print(f"| | {' | '.join(sets)} | mean |\n|---|{'---|' * (len(sets) + 1)}")
    rows: dict[str, list[tuple[float, float]]] = {}
    for name, changed in VARIANTS.items():
        with constants(changed) as config:
            for seen, masks in sets.values():
                for way, figure in _figures(method, seen, masks, {name: config}, _split(seen), alone=not changed):
                    rows.setdefault(way, []).append(figure)
        for row in rows.keys() - _printed:
            _printed.add(row)
            cells = [f"{image:.3f} {pixel:.3f}" for image, pixel in rows[row]]
            means = [statistics.fmean(column) for column in zip(*rows[row], strict=True)]
            print(f"| {row} | {' | '.join(cells)} | {means[0]:.3f} {means[1]:.3f} |", flush=True)


_printed: set[str] = set()


def print_counts(method: Method, sets: dict[str, tuple[Seen, Masks]], counts: Sequence[int]) -> None:
    """A table for each number of good images: image and pixel AUROC of each set, for each weight of the words."""
    for count in counts:
        print(f"\n| {count} good | {' | '.join(sets)} | mean |\n|---|{'---|' * (len(sets) + 1)}")
        rows: dict[str, list[tuple[float, float]]] = {}
        for seen, masks in sets.values():
            drawn: dict[str, list[tuple[float, float]]] = {}
            for draw in range(DRAWS):
                split = _split(seen, count, np.random.default_rng((draw, count)))
                configs = {f"{weight:g}": replace(ReferencedConfig(), words_weight=weight) for weight in WEIGHTS}
                for way, figure in _figures(method, seen, masks, configs, split, alone=True):
                    drawn.setdefault(way, []).append(figure)
            for row, figures in drawn.items():
                rows.setdefault(row, []).append(_mean(figures))
        for row, figures in rows.items():
            cells = [f"{image:.3f} {pixel:.3f}" for image, pixel in [*figures, _mean(figures)]]
            print(f"| {row} | {' | '.join(cells)} |", flush=True)


def print_peers(method: Method, sets: dict[str, tuple[Seen, Masks]], counts: Sequence[int]) -> None:
    """A table: image and pixel AUROC of each set among unlabelled images, by how many there are and how they are compared."""
    print(f"| peers, channels | {' | '.join(sets)} | mean |\n|---|{'---|' * (len(sets) + 1)}")
    for count in counts:
        for channels in CHANNELS:
            with constants({"MOST_CHANNELS": channels}) as config:
                figures = [_among_peers(method, seen, masks, config, count) for seen, masks in sets.values()]
            cells = [f"{image:.3f} {pixel:.3f}" for image, pixel in [*figures, _mean(figures)]]
            print(f"| {count}, {channels} | {' | '.join(cells)} |", flush=True)


def _among_peers(method: Method, seen: Seen, masks: Masks, config: ReferencedConfig, count: int) -> tuple[float, float]:
    """Image and pixel AUROC of a folder of images, each compared with `count` of them, drawn by lot."""
    folder = [*seen.which(anomalous=True)[:PEERS_DEFECTIVE], *seen.which(anomalous=False)]
    folder = [folder[number] for number in np.random.default_rng(0).permutation(min(PEERS, len(folder)))]
    looks = [seen.looks[number] for number in folder[:count]]
    memory = assembled(method, looks, MemoryOptions(), every_patch=True)
    beside = ReferencedScoring(method, memory, config, unlabelled=True)
    bank, scores, maps = beside.bank, [], []
    usual = beside.usual(method.encode_texts())
    for position, number in enumerate(folder):
        look = seen.looks[number]
        own = bank.projection([level[None] for level in look.maps])[0]
        near = bank.alike(own, without=position if position < count else None)
        patches = beside.evidence(usual, look.log_odds.flatten()[None], near.distances[None], near.numbers[None])
        score, anomaly_map = beside.probability(usual, patches, bank.grid)
        scores.append(score)
        maps.append(anomaly_map)
    labels = np.array([seen.items[number].anomalous for number in folder])
    return _aurocs(torch.cat(scores), torch.cat(maps), labels, [masks[number] for number in folder])


def _mean(figures: Sequence[tuple[float, float]]) -> tuple[float, float]:
    image, pixel = (statistics.fmean(column) for column in zip(*figures, strict=True))
    return image, pixel


def _split(seen: Seen, count: int | None = None, rng: np.random.Generator | None = None) -> Split:
    """The images to remember, all that may be or so many by lot, and those to score."""
    good, bad = seen.which(anomalous=False), seen.which(anomalous=True)[:TESTED]
    most = REMEMBERED if len(good) > REMEMBERED + SERIES_REMEMBERED else SERIES_REMEMBERED
    remembered = good[:most]
    if rng is not None:
        remembered = [good[number] for number in rng.permutation(most)[:count]]
    return remembered, [*good[most : most + TESTED], *bad]


def _figures(
    method: Method, seen: Seen, masks: Masks, configs: Mapping[str, ReferencedConfig], split: Split, *, alone: bool
) -> Iterator[tuple[str, tuple[float, float]]]:
    """Image and pixel AUROC of both together with each configuration, and, if asked for, of words and memory alone."""
    remembered, tested = split
    looks = [seen.looks[number] for number in remembered]
    memory = compare_images(assembled(method, looks, MemoryOptions(entries=15_000)), device=torch.device("cpu"))
    bank = ReferencedScoring(method, memory).bank
    own = torch.stack([seen.looks[number].log_odds for number in tested])
    near = [
        bank.entries.nearest(bank.projection([level[None] for level in seen.looks[number].maps])[0], k=bank.counted)
        for number in tested
    ]
    distances, numbers = torch.stack([one.distances for one in near]), torch.stack([one.numbers for one in near])
    labels = np.array([seen.items[number].anomalous for number in tested])
    truths = [masks[number] for number in tested]
    if alone:
        yield "words alone", _aurocs(highest(own.flatten(1), TOP_SHARE), own, labels, truths)
        nearest = distances[..., 0]
        yield "memory alone", _aurocs(highest(nearest, TOP_SHARE), nearest.reshape(own.shape), labels, truths)
    texts = method.encode_texts()
    for name, config in configs.items():
        beside = ReferencedScoring(method, memory, config)
        usual = beside.usual(texts)
        patches = beside.evidence(usual, own.flatten(1), distances, numbers)
        yield name, _aurocs(*beside.probability(usual, patches, bank.grid), labels, truths)


def _aurocs(image: Tensor, maps: Tensor, labels: np.ndarray, truths: Masks) -> tuple[float, float]:
    ranking = PixelRanking(score_range=None)
    shape = next(truth.shape for truth in truths if truth is not None)
    for one, truth in zip(maps.numpy(), truths, strict=True):
        mask = np.zeros(shape, bool) if truth is None else truth
        ranking.add(at_original(one.astype(np.float32), mask.shape[::-1]), mask)
    return float(auroc(image.numpy(), labels)), float(ranking.auroc())


def print_unlikeness(sets: dict[str, tuple[Seen, Masks]]) -> None:
    """How unlike each other images of one product are, and of mixtures."""
    rng = np.random.default_rng(0)

    def maps(seen: Seen, count: int) -> list[tuple[Tensor, ...]]:
        return [seen.looks[number].maps for number in rng.permutation(len(seen.looks))[:count]]

    def figure(images: Sequence[tuple[Tensor, ...]]) -> float:
        return unlikeness([torch.stack(level) for level in zip(*images, strict=True)])

    alone = {name: figure(maps(seen, LOOKED_AT)) for name, (seen, _) in sets.items()}
    print("\nunlikeness:", ", ".join(f"{name} {value:.2f}" for name, value in alone.items()))
    mixed = []
    for _ in range(MIXTURES):
        kinds = int(rng.choice([two for two in (2, 3, 5, 10) if two <= len(sets)]))
        chosen = rng.permutation(list(sets))[:kinds]
        mixed.append(figure([one for name in chosen for one in maps(sets[name][0], max(2, LOOKED_AT // kinds))]))
    print("of mixtures:", ", ".join(f"{value:.2f}" for value in sorted(mixed)))


if __name__ == "__main__":
    main()
