"""What decides everything: images rendered from seeds never trained on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from blemish.clip.model import Clip
from blemish.methods.ensemble import PromptEnsemble
from blemish.metrics import PixelRanking, auroc
from blemish.vocabulary import DefectType, Vocabulary, general
from training.embedded.config import BACKBONE
from training.embedded.samples import SIZE_PX, TYPES, Samples


@dataclass(frozen=True)
class Predictions:
    """Scores of the held-out images: global and place probabilities apart, so that how they are pooled can be decided here."""

    image_scores: NDArray[np.float32]  # [N]
    maps: NDArray[np.float32]  # [N, h, w]
    type_scores: NDArray[np.float32]  # [N, T]
    types: NDArray[np.int64]  # [N], 0 normal
    pixel_auroc: float


@torch.inference_mode()
def predict(
    clip: Clip, samples: Samples, *, vocabulary: Vocabulary | None = None, batch: int = 32, **options: float
) -> Predictions:
    """The prompt ensemble's scores on held-out samples."""
    from blemish.methods.ensemble import EnsembleConfig

    method = PromptEnsemble(clip, EnsembleConfig(**options))  # type: ignore[arg-type]
    method.prepare(vocabulary)
    mean, std = (torch.tensor(value)[:, None, None] for value in (BACKBONE.preprocess.mean, BACKBONE.preprocess.std))
    scores, maps, typed, ranking = [], [], [], PixelRanking()
    for start in range(0, len(samples), batch):
        images, masks, _ = samples.batch(np.arange(start, min(start + batch, len(samples))))
        x = (torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255 - mean) / std
        result = method.score(method.encode(x))
        full = F.interpolate(result.anomaly_map[:, None], (SIZE_PX, SIZE_PX), mode="bilinear")[:, 0]
        for anomaly_map, mask in zip(full.numpy(), masks, strict=True):
            ranking.add(anomaly_map, mask)
        scores.append(result.image_score.numpy())
        maps.append(result.anomaly_map.numpy())
        typed.append(result.type_scores.numpy())
    return Predictions(
        np.concatenate(scores), np.concatenate(maps), np.concatenate(typed), samples.types, ranking.auroc()
    )


def summary(clip: Clip, samples: Samples) -> dict[str, float]:
    """Image and pixel AUROC, type accuracy among defective images, and the same with words never taught."""
    found = predict(clip, samples)
    defective = found.types > 0
    unseen = Vocabulary(tuple(DefectType(defect.synonyms[-1]) for defect in general().types))
    other_words = predict(clip, samples, vocabulary=unseen)

    def accuracy(predictions: Predictions) -> float:
        return float((predictions.type_scores[defective].argmax(1) + 1 == found.types[defective]).mean())

    return {
        "image_auroc": auroc(found.image_scores, defective),
        "image_auroc_map_only": auroc(predict(clip, samples, global_weight=0.0).image_scores, defective),
        "image_auroc_global_only": auroc(predict(clip, samples, global_weight=1.0).image_scores, defective),
        "pixel_auroc": found.pixel_auroc,
        "type_accuracy": accuracy(found),
        "type_accuracy_untaught_words": accuracy(other_words),
        "chance": 1 / (len(TYPES) - 1),
    }
