"""What a method's prompts are worth on images that it was not trained on, and the thresholds that follow from the good ones.

B batch, S side of the tower's input.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from blemish.errors import ModelError
from blemish.methods.base import Method, Texts
from blemish.metrics import PixelRanking, auroc
from blemish.training.batches import Source, in_chunks

__all__ = ["REGION_SHARE", "REJECT_SHARE", "REVIEW_SHARE", "HeldOut", "card_thresholds", "measure"]

REJECT_SHARE, REVIEW_SHARE = 0.05, 0.15  # of normal images, at the image and at the review threshold
REGION_SHARE = 0.10  # of normal images whose map reaches the pixel threshold anywhere


@dataclass(frozen=True)
class HeldOut:
    """metrics: image_auroc, and pixel_auroc where there are masks, in 0..1. thresholds: image, review and pixel."""

    metrics: dict[str, float]
    thresholds: dict[str, float]


def measure(method: Method, source: Source, *, texts: Texts, device: torch.device, batch_size: int) -> HeldOut:
    """Scores the source's images with the method as it is, in float32; ModelError where it gives no numbers.

    Pixels are compared at the tower's input size, over all images that have a mask. `texts` are of the prompts as they are now.
    """
    examples = source.examples
    scores = np.zeros(len(examples))
    peaks = np.zeros(len(examples))
    pixels = PixelRanking()
    with torch.inference_mode():
        for batch in source.feed(in_chunks(np.arange(len(examples)), batch_size)):
            found = method.score(batch.to(device).features(method), texts)
            maps = _numbers(found.anomaly_map)
            scores[batch.rows], peaks[batch.rows] = _numbers(found.image_score), maps.max((1, 2))
            enlarged = _enlarged(torch.from_numpy(maps), examples.size)
            for row, one, mask in zip(batch.rows, enlarged, examples.masks(batch.rows), strict=True):
                if examples.has_mask[row]:
                    pixels.add(one, mask)
    metrics = {"image_auroc": float(auroc(scores, examples.anomalous))}
    if (examples.has_mask & examples.mask_bits.any(axis=1)).any():
        metrics["pixel_auroc"] = float(pixels.auroc())
    normal = ~examples.anomalous
    return HeldOut(
        metrics={name: round(value, 6) for name, value in metrics.items()},
        thresholds=card_thresholds(scores[normal], peaks[normal]),
    )


def card_thresholds(scores: NDArray[np.floating], peaks: NDArray[np.floating]) -> dict[str, float]:
    """A card's thresholds, from the image scores [N] and the map's peaks [N] of good images."""
    return {
        "image": round(float(np.quantile(scores, 1 - REJECT_SHARE)), 6),
        "review": round(float(np.quantile(scores, 1 - REVIEW_SHARE)), 6),
        "pixel": round(float(np.quantile(peaks, 1 - REGION_SHARE)), 6),
    }


def _enlarged(maps: Tensor, size: int) -> NDArray[np.float32]:
    """Maps [B, h, w] at [B, S, S], bilinear."""
    if maps.shape[1:] != (size, size):
        maps = F.interpolate(maps[:, None], size=(size, size), mode="bilinear", align_corners=False)[:, 0]
    enlarged: NDArray[np.float32] = maps.clamp(0, 1).numpy()
    return enlarged


def _numbers(tensor: Tensor) -> NDArray[np.float32]:
    values: NDArray[np.float32] = tensor.detach().to("cpu", torch.float32).numpy()
    if not np.isfinite(values).all():
        raise ModelError("the prompts give scores that are not numbers on the held-out images")
    return values
