"""What a method's prompts are worth on images that it was not trained on, and the thresholds that follow from the good ones."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from blemish.engines.torch import TorchEngine
from blemish.errors import ImageError
from blemish.inspection.loader import default_workers
from blemish.inspection.samples import CachedEncoder, LoadedSample, SampleLoader
from blemish.inspection.scoring import Scorer
from blemish.io.prefetch import in_chunks
from blemish.language import Vocabulary
from blemish.maps import enlarge
from blemish.methods.base import Method
from blemish.metrics import PixelRanking, auroc
from blemish.training.batches import Source

__all__ = ["REGION_SHARE", "REJECT_SHARE", "REVIEW_SHARE", "HeldOut", "card_thresholds", "measure"]

REJECT_SHARE, REVIEW_SHARE = 0.05, 0.15  # of normal images, at the image and at the review threshold
REGION_SHARE = 0.10  # of normal images whose map reaches the pixel threshold anywhere


@dataclass(frozen=True)
class HeldOut:
    """metrics: image_auroc, and pixel_auroc where there are masks, in 0..1. thresholds: image, review and pixel."""

    metrics: dict[str, float]
    thresholds: dict[str, float]


def measure(
    method: Method, source: Source, *, vocabulary: Vocabulary, device: torch.device, batch_size: int
) -> HeldOut:
    """What the method, as it is now, is worth on the source's images.

    Pixels are compared at the tower's input size, over all images that have a mask. ModelError where it gives no numbers.
    """
    engine = TorchEngine(method, backbone=method.backbone.config.name, device=str(device))
    encoder = None if source.store is None else CachedEncoder(engine, source.store)
    scorer = Scorer(engine, vocabulary, batch_size=batch_size, encoder=encoder)
    loader = SampleLoader(preprocess=engine.input, size="model", masks=True, store=source.store)
    chunks = in_chunks(source.examples.samples, batch_size)
    scores, peaks, anomalous, pixels = [], [], [], PixelRanking()
    has_anomalous_pixels = False
    with ThreadPoolExecutor(default_workers(), thread_name_prefix="blemish") as pool:
        for loaded in loader.chunks(chunks, pool):
            for raw in scorer.score(loaded, pool):
                if isinstance(raw, ImageError):
                    raise raw  # it could be read a moment ago
                image = cast(LoadedSample, raw.image)
                result = raw.scores[0]
                scores.append(result.image_score)
                peaks.append(float(result.anomaly_map.max()))
                anomalous.append(image.sample.anomalous)
                if image.mask is not None:
                    side = engine.input.size
                    pixels.add(enlarge(result.anomaly_map, (side, side)).clip(0, 1), image.mask)
                    has_anomalous_pixels |= bool(image.mask.any())
    labels = np.array(anomalous, bool)
    metrics = {"image_auroc": float(auroc(scores, labels))}
    if has_anomalous_pixels:
        metrics["pixel_auroc"] = float(pixels.auroc())
    return HeldOut(
        metrics={name: round(value, 6) for name, value in metrics.items()},
        thresholds=card_thresholds(np.array(scores)[~labels], np.array(peaks)[~labels]),
    )


def card_thresholds(scores: NDArray[np.floating], peaks: NDArray[np.floating]) -> dict[str, float]:
    """A card's thresholds, from the image scores [N] and the map's peaks [N] of good images."""
    return {
        "image": round(float(np.quantile(scores, 1 - REJECT_SHARE)), 6),
        "review": round(float(np.quantile(scores, 1 - REVIEW_SHARE)), 6),
        "pixel": round(float(np.quantile(peaks, 1 - REGION_SHARE)), 6),
    }
