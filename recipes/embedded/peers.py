"""What peers are worth (`blemish.methods.mutual`), on rendered series: `python -m recipes.embedded.peers`.

A series is several pieces of one product, a third of them with defects of few types, from seeds never trained on. Printed is the
mean over the series of image and pixel AUROC: of the words alone, of the peers alone, and of both by what is compared, by the
share of peers that count and by their weight. What `MutualConfig` has by default is chosen by these tables (docs/peers.md).

`--card METHOD ...` measures these methods with peers instead, and writes into the backbone's card what they reach and where the
verdicts' lines lie.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blemish.backbones.preprocess import to_array
from blemish.images import Picture
from blemish.io.atomic import write_text
from blemish.io.json_files import read_json_if_there
from blemish.maps import at_original
from blemish.methods.base import Method, Scores
from blemish.methods.memory import FeatureBank, PatchView, RobustScale
from blemish.methods.mutual import (
    CONVOLUTIONAL_VIEWS,
    MutualConfig,
    MutualScoring,
    highest,
    mean_of_nearest,
    mean_over_views,
    moved,
    on_grid,
)
from blemish.metrics import PixelRanking, auroc
from blemish.models.load import load_method
from blemish.models.paths import package_models
from blemish.models.prompts import CARD
from blemish.synthesis import HELD_OUT_SEEDS, RENDERER_VERSION, SyntheticSample, render_series
from blemish.training.held_out import card_thresholds

SERIES_SEEDS = HELD_OUT_SEEDS + 1_000_000
BATCH = 8
FINE, AROUND = PatchView(0, 1, standardised=False), PatchView(0, 3, standardised=False)
COARSE, COARSE_ALONE, COARSE_AROUND = (
    PatchView(1, 1, standardised=False),
    PatchView(1, 1, standardised=True),
    PatchView(1, 3, standardised=True),
)
COMPARED: dict[str, tuple[PatchView, ...]] = {
    "stride 8": (FINE,),
    "stride 8, 3 x 3 patches": (AROUND,),
    "stride 16": (COARSE,),
    "stride 16, standardised": (COARSE_ALONE,),
    "stride 16, 3 x 3 patches, standardised": (COARSE_AROUND,),
    "stride 8; 16": (FINE, COARSE),
    "stride 8; 8, 3 x 3; 16": (FINE, AROUND, COARSE),
    "stride 8; 16, standardised": (FINE, COARSE_ALONE),
    "stride 8; 16, 3 x 3, standardised": (FINE, COARSE_AROUND),
}
SHARES = (0.1, 0.2, 0.3, 0.5)  # a smaller one counts the same two peers, of so few
WEIGHTS = (1.0, 2.0, 4.0, 8.0, 16.0)

Maps = NDArray[np.float32]


@dataclass(frozen=True)
class Series:
    """A rendered series as a method sees it: its truth, the words' scores, and how far each patch is from the other images,
    [B, h, w], by view and share."""

    masks: NDArray[np.bool_]
    words: Scores
    distance_maps: Mapping[tuple[PatchView, float], Tensor]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m recipes.embedded.peers", description=__doc__)
    parser.add_argument("--series", type=int, default=40)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--card", nargs="+", metavar="METHOD", default=[])
    parser.add_argument("--out", type=Path, default=package_models() / "embedded", help="folder of the card")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    seeds = range(SERIES_SEEDS, SERIES_SEEDS + arguments.series)
    with multiprocessing.get_context("spawn").Pool(arguments.threads) as pool:
        series = pool.map(render_series, seeds, chunksize=1)
    if arguments.card:
        _write_card(arguments.card, series, arguments.out / CARD)
    else:
        _print_tables(series)


@torch.inference_mode()
def _print_tables(series: Sequence[Sequence[SyntheticSample]]) -> None:
    method = load_method(method="ensemble").method
    seen = [_look(method, pieces) for pieces in series]
    chosen = MutualConfig()
    rows = {"words alone": _figures(seen, None, chosen)}
    rows["peers alone"] = _figures(seen, CONVOLUTIONAL_VIEWS, replace(chosen, weight=np.inf))
    rows |= {f"both; compared: {name}": _figures(seen, views, chosen) for name, views in COMPARED.items()}
    rows |= {
        f"both; share {share}": _figures(seen, CONVOLUTIONAL_VIEWS, replace(chosen, share=share)) for share in SHARES
    }
    rows |= {
        f"both; weight {weight:g}": _figures(seen, CONVOLUTIONAL_VIEWS, replace(chosen, weight=weight))
        for weight in WEIGHTS
    }
    print(f"{len(series)} series of {len(series[0])}; differences from the words alone, ± standard error\n")
    print("| | image AUROC | difference | pixel AUROC | difference |\n|---|---|---|---|---|")
    for name, figures in rows.items():
        cells = []
        for kind in (0, 1):
            apart = [own[kind] - words[kind] for own, words in zip(figures, rows["words alone"], strict=True)]
            error = statistics.stdev(apart) / len(apart) ** 0.5
            cells += [
                f"{statistics.fmean(own[kind] for own in figures):.4f}",
                f"{statistics.fmean(apart):+.4f} ± {error:.4f}",
            ]
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


def _tensors(method: Method, pieces: Sequence[SyntheticSample]) -> list[Tensor]:
    """The pieces in batches."""
    ready = [
        torch.from_numpy(to_array(Picture(piece.image, str(index)), method.backbone.config.preprocess))
        for index, piece in enumerate(pieces)
    ]
    return [torch.stack(ready[start : start + BATCH]) for start in range(0, len(ready), BATCH)]


def _look(method: Method, pieces: Sequence[SyntheticSample]) -> Series:
    batches = _tensors(method, pieces)
    words = _scored(method, batches)
    levels = [
        torch.cat(level)
        for level in zip(*(method.encode(batch, compare=True).reference_maps for batch in batches), strict=True)
    ]
    distance_maps = {}
    for view in dict.fromkeys(view for views in COMPARED.values() for view in views):
        level = levels[view.level]
        bank, others = FeatureBank([level], view), ~torch.eye(len(level), dtype=torch.bool)
        by_image = [bank.distances(patches)[own] for patches, own in zip(bank.patches(level), others, strict=True)]
        for share in SHARES:
            counted = MutualConfig(share=share).counted(len(level))
            far = torch.stack([mean_of_nearest(own, counted) for own in by_image]).reshape(
                len(level), *level.shape[-2:]
            )
            distance_maps[view, share] = RobustScale.of(far).deviations(far)
    return Series(np.stack([piece.mask for piece in pieces]), words, distance_maps)


@torch.inference_mode()
def _scored(method: Method, batches: Sequence[Tensor]) -> Scores:
    texts = method.encode_texts()
    found = [method.score(method.encode(batch), texts) for batch in batches]
    image, maps, types, type_maps = (
        torch.cat([getattr(one, name) for one in found])
        for name in ("image_score", "anomaly_map", "type_scores", "type_maps")
    )
    return Scores(image, maps, found[0].types, types, type_maps)


def _figures(
    seen: Sequence[Series], views: Sequence[PatchView] | None, config: MutualConfig
) -> list[tuple[float, float]]:
    """Image and pixel AUROC of each series; of the words alone without views, of the peers alone with an infinite weight."""
    figures = []
    for one in seen:
        image, maps = one.words.image_score, one.words.anomaly_map
        if views is not None:
            views_maps = [one.distance_maps[view, config.share] for view in views]
            distance_map = on_grid(mean_over_views(views_maps), maps.shape[-2:])
            top = highest(distance_map, config.top_share)
            top = RobustScale.of(top).deviations(top)
            if np.isinf(config.weight):
                image, maps = top, distance_map
            else:
                image, maps = moved(image, top, config), moved(maps, distance_map, config)
        figures.append(_aurocs(image.numpy(), maps.numpy(), one.masks))
    return figures


def _aurocs(image: NDArray[np.floating], maps: Maps, masks: NDArray[np.bool_]) -> tuple[float, float]:
    ranking = PixelRanking(score_range=None)
    for one, mask in zip(maps, masks, strict=True):
        ranking.add(at_original(one, mask.shape[::-1]), mask)
    return float(auroc(image, masks.any((1, 2)))), float(ranking.auroc())


def _write_card(names: Sequence[str], series: Sequence[Sequence[SyntheticSample]], card_file: Path) -> None:
    card = read_json_if_there(card_file)
    peers = card.setdefault("peers", {})
    peers["measured_on"] = (
        f"{len(series)} rendered series (renderer {RENDERER_VERSION}) of {len(series[0])} pieces, "
        "those that chose share and weight"
    )
    for name in names:
        method = load_method(method=name).method
        figures: dict[str, list[tuple[float, float]]] = {"alone": [], "with peers": []}
        scores, peaks = [], []
        for pieces in series:
            batches, masks = _tensors(method, pieces), np.stack([piece.mask for piece in pieces])
            alone, among = _scored(method, batches), _scored(MutualScoring(method, batches), batches)
            for who, found in (("alone", alone), ("with peers", among)):
                figures[who].append(_aurocs(found.image_score.numpy(), found.anomaly_map.numpy(), masks))
            good = ~masks.any((1, 2))
            scores.append(among.image_score.numpy()[good])
            peaks.append(among.anomaly_map.numpy().max((1, 2))[good])
        peers[name] = {
            "thresholds": card_thresholds(np.concatenate(scores), np.concatenate(peaks)),
            **{
                who: dict(zip(("image_auroc", "pixel_auroc"), _means(own), strict=True)) for who, own in figures.items()
            },
        }
        print(name, json.dumps(peers[name]), flush=True)
        write_text(card_file, json.dumps(card, indent=2) + "\n")


def _means(figures: Sequence[tuple[float, float]]) -> list[float]:
    return [round(statistics.fmean(one), 4) for one in zip(*figures, strict=True)]


if __name__ == "__main__":
    main()
