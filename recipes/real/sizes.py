"""How well defects of each size are found in held-out renders: `python -m recipes.real.sizes --backbone FOLDER ...`.

The first `--count` held-out renders at the backbone's own size. Printed for each range of the share of the picture that is
defective: pixel AUROC within each defective picture, on average, and image AUROC against all good pictures.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from blemish import models
from blemish.backbones.model import Clip
from blemish.backbones.weights import load_backbone
from blemish.maps import enlarge
from blemish.metrics import auroc
from blemish.synthesis.dataset import HELD_OUT_SEEDS
from recipes.embedded.held_out import predict
from recipes.embedded.samples import SHARD, SIZE_PX, render_all

EDGES = (0.0, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)  # shares of a picture


def by_size(
    masks: Sequence[NDArray[np.bool_]], scores: Sequence[float], maps: Sequence[NDArray[np.floating]]
) -> Iterator[tuple[float, float, int, float, float]]:
    """From and to which share, how many pictures, their mean own pixel AUROC, and image AUROC against the good ones.

    Args:
        masks: Of each picture, [n, n]; empty for a good one.
        scores: Of each picture.
        maps: Of each picture, [n, n].
    """
    shares, found = np.array([mask.mean() for mask in masks]), np.array(scores)
    good = shares == 0
    for low, high in pairwise(EDGES):
        rows = np.flatnonzero((shares > low) & (shares <= high) & (shares < 1))
        if len(rows):
            own = [float(auroc(maps[row].ravel(), masks[row].ravel())) for row in rows.tolist()]
            chosen = np.concatenate([found[rows], found[good]])
            image = float(auroc(chosen, np.arange(len(chosen)) < len(rows)))
            yield low, high, len(rows), float(np.mean(own)), image


@torch.inference_mode()
def table(clip: Clip, cache: Path, *, count: int) -> list[str]:
    """The lines for a backbone."""
    samples = render_all(cache, count=-(-count // SHARD) * SHARD, first_seed=HELD_OUT_SEEDS, workers=1)
    rows = np.arange(count)
    found, masks = predict(clip, samples, rows=rows), list(samples.batch(rows).masks)
    maps = [enlarge(anomaly_map, (SIZE_PX, SIZE_PX)) for anomaly_map in found.maps]
    return [
        f"{low:.1%} to {high:.1%}: {number} pictures, pixel AUROC {pixel:.3f}, image AUROC {image:.3f}"
        for low, high, number, pixel, image in by_size(masks, found.image_scores().tolist(), maps)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m recipes.real.sizes", description=__doc__)
    parser.add_argument("--backbone", nargs="+", default=["embedded"], help="names of models or folders with weights")
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--cache", type=Path, required=True, help="folder for the renders")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for name in arguments.backbone:
        clip = load_backbone(Path(name)) if Path(name).is_dir() else models.load_backbone(name)
        print(name, *table(clip, arguments.cache, count=arguments.count), sep="\n", flush=True)


if __name__ == "__main__":
    main()
