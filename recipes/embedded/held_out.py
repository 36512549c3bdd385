"""What decides everything: images rendered from seeds never trained on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from blemish.backbones.model import Clip
from blemish.backbones.preprocess import to_array
from blemish.engines.base import RawScores
from blemish.engines.torch import TorchEngine
from blemish.images import Picture
from blemish.io.prefetch import in_chunks
from blemish.language import DefectType, Vocabulary, general
from blemish.maps import enlarge
from blemish.methods.ensemble import EnsembleConfig, PromptEnsemble
from blemish.metrics import PixelRanking, auroc
from recipes.embedded.samples import SIZE_PX, TYPES, Samples
from recipes.embedded.texts import token_ids

NAMES = 10  # that a user gives, say
STRENGTHS = {  # mean change inside the mask, of the whole range
    "faint (below 0.07)": (0.0, 0.07),
    "middling (0.07 to 0.15)": (0.07, 0.15),
    "strong (from 0.15)": (0.15, 1.01),
}


@dataclass(frozen=True)
class Predictions:
    """The prompt ensemble's scores of the held-out images, global and local apart, so that their mixture can be decided here."""

    global_scores: NDArray[np.float32]  # [N]
    maps: NDArray[np.float32]  # [N, h, w]
    type_scores: NDArray[np.float32]  # [N, T]
    types: NDArray[np.int64]  # [N], 0 normal
    contrasts: NDArray[np.float32]  # [N], 0 for normal ones
    pixel_auroc: float

    @property
    def defective(self) -> NDArray[np.bool_]:
        return self.types > 0

    def image_scores(self, config: EnsembleConfig | None = None) -> NDArray[np.float32]:
        """The image scores [N] under these options (the method's own by default)."""
        config = config or EnsembleConfig()
        flat = np.sort(self.maps.reshape(len(self.maps), -1), axis=1)
        local = flat[:, -max(1, round(config.top_share * flat.shape[1])) :].mean(1)
        return config.global_weight * self.global_scores + (1 - config.global_weight) * local

    def by_strength(self, scores: NDArray[np.float32]) -> dict[str, float]:
        """The image AUROC of the defects of each strength against all good images."""
        table = {}
        for name, (low, high) in STRENGTHS.items():
            chosen = ~self.defective | ((self.contrasts >= low) & (self.contrasts < high))
            table[name] = float(auroc(scores[chosen], self.defective[chosen]))
        return table

    def type_accuracy(self) -> float:
        """The share of defective images whose own type comes first."""
        first = self.type_scores[self.defective].argmax(1) + 1
        return float((first == self.types[self.defective]).mean())


def predict(
    clip: Clip,
    samples: Samples,
    *,
    vocabulary: Vocabulary | None = None,
    rows: NDArray[np.int64] | None = None,
    batch: int = 32,
) -> Predictions:
    """The scores of all held-out samples, or of these rows; `vocabulary` holds all types in their order by default."""
    rows = np.arange(len(samples)) if rows is None else rows
    method = PromptEnsemble(clip, EnsembleConfig(global_weight=1.0))  # so that its image score is the global one
    engine = TorchEngine(method, backbone=clip.config.name, device=str(clip.logit_scale.device))
    texts, ranking = engine.encode_texts(vocabulary or general()), PixelRanking()
    results: list[RawScores] = []
    for chunk in in_chunks(rows, batch):
        rendered = samples.batch(chunk)
        pixels = np.stack([to_array(Picture(image, "render"), engine.input) for image in rendered.images])
        for result, mask in zip(engine.score(engine.encode(pixels), texts), rendered.masks, strict=True):
            ranking.add(enlarge(result.anomaly_map, (SIZE_PX, SIZE_PX)).clip(0, 1), mask)
            results.append(result)
    return Predictions(
        np.array([result.image_score for result in results], np.float32),
        np.stack([result.anomaly_map for result in results]),
        np.stack([result.type_scores for result in results]),
        samples.types[rows],
        samples.contrasts[rows],
        float(ranking.auroc()),
    )


def summary(found: Predictions, other_words: Predictions | None = None) -> dict[str, float]:
    """Image and pixel AUROC, type accuracy among defective images, and the same with words never paired with an image."""
    figures = {
        "image_auroc": float(auroc(found.image_scores(), found.defective)),
        "image_auroc_map_only": float(auroc(found.image_scores(EnsembleConfig(global_weight=0)), found.defective)),
        "image_auroc_global_only": float(auroc(found.global_scores, found.defective)),
        "pixel_auroc": found.pixel_auroc,
        "type_accuracy": found.type_accuracy(),
    }
    if other_words is not None:
        figures["type_accuracy_words_never_paired_with_an_image"] = other_words.type_accuracy()
    return figures | {"type_accuracy_by_chance": 1 / (len(TYPES) - 1)}


def accuracy_among_ten(clip: Clip, samples: Samples, *, seed: int = 0) -> float:
    """The share of defective images whose own type comes first among ten names, itself and nine drawn from the others."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(general().types))
    right = total = 0
    for start in range(0, len(order), NAMES - 1):  # each type is asked about in one group
        group = [int(index) for index in np.resize(np.roll(order, -start), NAMES)]
        vocabulary = Vocabulary(tuple(general().types[index] for index in group))
        asked = order[start : start + NAMES - 1]
        rows = np.flatnonzero(np.isin(samples.types - 1, asked))
        found = predict(clip, samples, vocabulary=vocabulary, rows=rows)
        right += int((np.array(group)[found.type_scores.argmax(1)] + 1 == found.types).sum())
        total += len(rows)
    return right / total


@torch.inference_mode()
def synonyms_nearest_to_own_type(clip: Clip) -> float:
    """The share of all synonyms, each alone, whose nearest type name is the one that they belong to."""
    types = general().types
    names = F.normalize(clip.text.encode(token_ids([defect.name for defect in types], clip.text)), dim=-1)
    pairs = [(word, index) for index, defect in enumerate(types) for word in defect.synonyms]
    words = F.normalize(clip.text.encode(token_ids([word for word, _ in pairs], clip.text)), dim=-1)
    nearest = (words @ names.T).argmax(1).tolist()
    return float(np.mean([found == own for found, (_, own) in zip(nearest, pairs, strict=True)]))


def unpaired_words() -> Vocabulary:
    """Each type by its last synonym, which training never pairs with an image (the sentence model knows it)."""
    return Vocabulary(tuple(DefectType(defect.synonyms[-1]) for defect in general().types))
