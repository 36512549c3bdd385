"""A model card's thresholds at an input size, and the guard of docs/model-judge.md: `python -m recipes.real.thresholds ...`.

Half of the weight have the good ones of the held-out renders (2,000 at 224 px), half those of the judge's five sources,
each source the same. The image thresholds call 10 % (NG) and 20 % (review) of them anomalous. The maps of 29 % reach the
pixel threshold somewhere: with a stricter one regions would be much smaller than the defects. The judge's part comes from
the folder that `recipes.real.judge --keep` filled.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from blemish import models
from blemish.backbones.model import Clip
from blemish.backbones.weights import load_backbone
from blemish.io.atomic import write_text
from blemish.maps import enlarge
from blemish.methods.ensemble import EnsembleTexts, PromptEnsemble
from blemish.metrics import PixelRanking, auroc
from blemish.synthesis import render
from blemish.synthesis.dataset import HELD_OUT_SEEDS
from recipes.real.judge import INPUTS, predict, predict_all
from recipes.real.judging import FIVE_SOURCES

HELD_OUT, SIZE_PX = 2000, 224
REJECT_SHARE, REVIEW_SHARE, REGION_SHARE = (
    0.10,
    0.20,
    0.29,
)  # more than of renders alone: good photos of things vary far more than good renders do


def weighted_quantile(values: NDArray[np.floating], weights: NDArray[np.floating], share: float) -> float:
    """The least of the values that values with this share of the weight, 0..1, do not exceed."""
    order = np.argsort(values)
    below = np.cumsum(weights[order]) / weights.sum()
    return float(values[order][min(int(np.searchsorted(below, share)), len(values) - 1)])


def thresholds(
    scores: NDArray[np.floating], peaks: NDArray[np.floating], weights: NDArray[np.floating]
) -> dict[str, float]:
    """The card's, from scores, map peaks and weights [N] of good images."""
    wanted = {"image": (scores, REJECT_SHARE), "review": (scores, REVIEW_SHARE), "pixel": (peaks, REGION_SHARE)}
    return {name: round(weighted_quantile(values, weights, 1 - share), 6) for name, (values, share) in wanted.items()}


def of_renders(backbone: Clip, *, input_name: str, count: int) -> tuple[dict[str, float], NDArray[np.float64]]:
    """The guard's figures, and score and map peak of each good render [n, 2]."""
    method = PromptEnsemble(backbone)
    texts = cast(EnsembleTexts, method.encode_texts())
    scores, peaks, bad, pixels = [], [], [], PixelRanking()
    for number in range(count):
        sample = render(HELD_OUT_SEEDS + number, size_px=SIZE_PX)
        found = predict(method, texts, sample.image, input_name=input_name)
        scores.append(found.score)
        peaks.append(float(found.anomaly_map.max()))
        bad.append(bool(sample.mask.any()))
        pixels.add(enlarge(found.anomaly_map, (SIZE_PX, SIZE_PX)).clip(0, 1), sample.mask)
        if number % 250 == 249:
            print(f"{number + 1} renders, image AUROC {float(auroc(scores, bad)):.4f}", flush=True)
    good = ~np.array(bad)
    figures = {"image_auroc": float(auroc(scores, bad)), "pixel_auroc": float(pixels.auroc())}
    return figures, np.stack([np.array(scores)[good], np.array(peaks)[good]], 1)


def find_thresholds(
    backbone: Clip,
    images: Path,
    pairs: Path,
    *,
    input_name: str,
    keep: Path | None = None,
    keep_of: Mapping[str, Path] | None = None,
    renders: int = HELD_OUT,
) -> dict[str, dict[str, float]]:
    """The guard's figures as "held_out_renders", and the card's "thresholds" at an input of INPUTS.

    keep_of: of a source that taught the backbone, the folder of one that was trained alike without it: what a model says of
    good things that taught it is lower than what it will say of a user's.
    """
    guard, rendered = of_renders(backbone, input_name=input_name, count=renders)
    rows, weights = [rendered], [np.full(len(rendered), 0.5 / len(rendered))]
    for source in FIVE_SOURCES:
        folder = (keep_of or {}).get(source, keep)
        truths, predictions = predict_all(backbone, images, pairs, inputs=[input_name], sources=[source], keep=folder)
        good = [
            (each.score, float(each.anomaly_map.max()))
            for each, truth in zip(predictions[input_name], truths, strict=True)
            if truth.mask is None
        ]
        rows.append(np.array(good))
        weights.append(np.full(len(good), 0.5 / len(FIVE_SOURCES) / len(good)))
    values = np.concatenate(rows)
    lines = thresholds(values[:, 0], values[:, 1], np.concatenate(weights))
    return {"held_out_renders": {name: round(value, 4) for name, value in guard.items()}, "thresholds": lines}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m recipes.real.thresholds", description=__doc__)
    parser.add_argument("--input", choices=INPUTS, default="default")
    parser.add_argument("--images", type=Path, required=True, help="what recipes.real_images laid out")
    parser.add_argument("--pairs", type=Path, required=True, help="held-out photo pairs (recipes.real.pairs --judge)")
    parser.add_argument("--keep", type=Path, required=True, help="that of recipes.real.judge for this backbone")
    parser.add_argument("--backbone", default="embedded", help="a model's name or a folder with weights")
    parser.add_argument("--renders", type=int, default=HELD_OUT)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    folder = Path(arguments.backbone)
    backbone = load_backbone(folder) if folder.is_dir() else models.load_backbone(arguments.backbone)
    result = find_thresholds(
        backbone,
        arguments.images,
        arguments.pairs,
        input_name=arguments.input,
        keep=arguments.keep,
        renders=arguments.renders,
    )
    print(json.dumps(result, indent=2))
    if arguments.json:
        write_text(arguments.json, json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
