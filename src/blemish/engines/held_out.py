"""What an engine reaches on rendered pictures that nothing was trained on: for the gate of int8 and the cost of a budget."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from blemish.backbones.preprocess import to_array
from blemish.engines.base import Engine, RawScores
from blemish.images import Picture
from blemish.language import general
from blemish.maps import enlarge
from blemish.metrics import PixelRanking, auroc
from blemish.synthesis import HELD_OUT_SEEDS, SyntheticSample, render

__all__ = ["PHOTO_PX", "RenderedResult", "moved_threshold", "on_held_out", "rendered_pictures"]

PHOTO_PX = 512  # side of the rendered pictures, whatever the engine looks at
FIRST_SEED = HELD_OUT_SEEDS + 900_000
AT_ONCE = 4


@dataclass(frozen=True, eq=False)
class RenderedResult:
    """The scores of an engine for n rendered pictures."""

    image_auroc: float  # 0..1
    pixel_auroc: float  # 0..1
    image_scores: NDArray[np.float64]  # [n], 0..1
    peaks: NDArray[np.float64]  # [n], 0..1, the highest value of each map


def rendered_pictures(count: int) -> Iterator[SyntheticSample]:
    """The first held-out pictures, always the same ones."""
    return (render(FIRST_SEED + number, size_px=PHOTO_PX) for number in range(count))


def on_held_out(engine: Engine, *, count: int) -> RenderedResult:
    """What the engine reaches on the first `count` held-out photos, with the built-in defect types."""
    texts, ranking = engine.encode_texts(general()), PixelRanking(rounds=0)
    rows: list[RawScores] = []
    anomalous: list[bool] = []
    samples = list(rendered_pictures(count))
    for start in range(0, count, AT_ONCE):
        batch = samples[start : start + AT_ONCE]
        images = np.stack([to_array(Picture(sample.image, source="rendered"), engine.input) for sample in batch])
        for sample, row in zip(batch, engine.score(engine.encode(images), texts), strict=True):
            at_photo = enlarge(row.anomaly_map, (PHOTO_PX, PHOTO_PX), aligned_corners=engine.aligned_corners)
            ranking.add(np.clip(at_photo, 0, 1), sample.mask)
            rows.append(row)
            anomalous.append(bool(sample.mask.any()))
    scores = np.array([row.image_score for row in rows])
    return RenderedResult(
        image_auroc=float(auroc(scores, np.array(anomalous))),
        pixel_auroc=float(ranking.auroc()),
        image_scores=scores,
        peaks=np.array([float(row.anomaly_map.max()) for row in rows]),
    )


def moved_threshold(threshold: float, before: NDArray[np.float64], after: NDArray[np.float64]) -> float:
    """The threshold that so large a share of the scores `after` [n] exceeds as exceeds this one `before` [n]."""
    low, high = np.sort(before), np.sort(after)
    if threshold > low[-1]:
        return float(min(1.0, threshold + high[-1] - low[-1]))
    if threshold < low[0]:
        return float(max(0.0, threshold + high[0] - low[0]))
    return float(np.interp(threshold, low, high))
