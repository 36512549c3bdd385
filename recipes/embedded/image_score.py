"""How places become an image's score: `python -m recipes.embedded.image_score --cache training-cache`.

The shipped backbone's maps and global scores on the held-out renders, put together in several ways; image AUROC of each, and
among faint, middling and strong defects. What `EnsembleConfig` has by default is chosen by this table (docs/embedded-model.md).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from blemish import models as store
from blemish.metrics import auroc
from blemish.synthesis import HELD_OUT_SEEDS
from recipes.embedded.config import Recipe
from recipes.embedded.held_out import STRENGTHS, Predictions, predict
from recipes.embedded.samples import render_all

Scores = NDArray[np.float32]


def top(share: float, *, border: int = 0) -> Callable[[Predictions], Scores]:
    """The mean of this share of the highest places, those near the image's border left out."""

    def score(found: Predictions) -> Scores:
        maps = found.maps[:, border : found.maps.shape[1] - border, border : found.maps.shape[2] - border]
        flat = np.sort(maps.reshape(len(maps), -1), axis=1)
        mean: Scores = flat[:, -max(1, round(share * flat.shape[1])) :].mean(1)
        return mean

    return score


def mixed(weight: float, share: float = 0.005) -> Callable[[Predictions], Scores]:
    """The global score with this weight, the rest the highest places."""
    return lambda found: weight * found.global_scores + (1 - weight) * top(share)(found)


def above_median(found: Predictions) -> Scores:
    scores = top(0.005)(found) - np.median(found.maps, axis=(1, 2))
    return scores.astype(np.float32)


WAYS: dict[str, Callable[[Predictions], Scores]] = {
    "the highest place": top(0.0),
    "mean of the highest 0.5 %": top(0.005),
    "mean of the highest 2 %": top(0.02),
    "mean of the highest 10 %": top(0.1),
    "mean of all places": top(1.0),
    "highest 0.5 %, two places of border left out": top(0.005, border=2),
    "highest 0.5 % less the image's median": above_median,
    "global score (CLS) alone": lambda found: found.global_scores,
    "0.25 global + 0.75 highest 0.5 %": mixed(0.25),
    "0.5 global + 0.5 highest 0.5 %": mixed(0.5),
    "0.75 global + 0.25 highest 0.5 %": mixed(0.75),
    "0.5 global + 0.5 highest 2 %": mixed(0.5, 0.02),
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m recipes.embedded.image_score", description=__doc__)
    parser.add_argument("--cache", type=Path, default=Path("training-cache"))
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    held_out = render_all(
        arguments.cache / "held-out",
        count=Recipe().held_out_images,
        first_seed=HELD_OUT_SEEDS,
        workers=arguments.threads,
    )
    found = predict(store.load_backbone("embedded"), held_out)
    print("| score of the image | image AUROC | " + " | ".join(STRENGTHS) + " |\n|" + "---|" * (2 + len(STRENGTHS)))
    for name, way in WAYS.items():
        scores = way(found)
        cells = [float(auroc(scores, found.defective)), *found.by_strength(scores).values()]
        print(f"| {name} | " + " | ".join(f"{cell:.3f}" for cell in cells) + " |")


if __name__ == "__main__":
    main()
