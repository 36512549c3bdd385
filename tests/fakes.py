"""A method without a model: dark places are anomalous, the left half is scratched and the right half stained."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blemish.backbones.config import PreprocessConfig
from blemish.inspection.inspector import Inspector
from blemish.language import parse_defects
from blemish.methods.base import Features, Method, Scores
from blemish.results import Thresholds

GRID = 8
PREPROCESS = PreprocessConfig(size=64, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
THRESHOLDS = Thresholds(image=0.6, review=0.4, pixel=0.5)


class DarknessMethod(Method):
    """Scores every place by how dark it is; the image by its darkest place."""

    name: ClassVar[str] = "darkness"

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.batches: list[int] = []
        self.prepare(parse_defects("scratch, stain"))

    def prepare_texts(self) -> None:
        pass

    def fingerprint(self) -> str:
        return "0123456789abcdef"

    def encode(self, images: Tensor) -> Features:
        self.batches.append(len(images))
        brightness = F.adaptive_avg_pool2d(images.mean(1, keepdim=True), GRID)
        places = brightness.flatten(2).transpose(1, 2)  # [B, N, 1]
        return Features(whole=places.mean(1), levels=(places,), grid=(GRID, GRID))

    def score(self, features: Features) -> Scores:
        darkness = (1 - features.levels[0][..., 0].unflatten(1, features.grid)).clamp(0, 1)  # [B, h, w]
        left = (torch.arange(GRID) < GRID // 2).float() * 0.8 + 0.1
        type_maps = torch.stack([darkness * left, darkness * (1 - left)], dim=1)  # [B, 2, h, w]
        return Scores(
            image_score=darkness.flatten(1).amax(1),
            anomaly_map=darkness,
            types=self.types[:2],
            type_scores=type_maps.flatten(2).amax(2),
            type_maps=type_maps,
        )


def darkness_inspector(**options: object) -> Inspector:
    """An inspector around the fake method."""
    settings: dict[str, object] = {"preprocess": PREPROCESS, "thresholds": THRESHOLDS, "workers": 2, **options}
    return Inspector(DarknessMethod(), **settings)  # type: ignore[arg-type]
