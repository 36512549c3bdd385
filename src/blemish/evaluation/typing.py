"""Which type it is: the same features scored with a vocabulary of each product's own types.

The multi-type protocol of MultiADS and DAPO (`blemish.metrics.PixelTypeAccumulator`), and our own measure for images. Images that show
several types, or one that nobody named, cannot be told by one type: they are left out, and counted.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from blemish.data import DataSet, Sample, type_mask
from blemish.evaluation.feeding import Seen
from blemish.evaluation.finding import types_of
from blemish.evaluation.models import Model, with_vocabulary
from blemish.evaluation.states import Counts
from blemish.maps import enlarge
from blemish.methods.base import Features, Method, Scores
from blemish.methods.typed import enlarge as enlarge_maps
from blemish.metrics import ImageTypeAccumulator, PixelTypeAccumulator
from blemish.metrics.pixels import NORMAL

__all__ = ["Typing"]


class Typing:
    """The types of each product of a data set, and the method prepared for those of the product at hand."""

    def __init__(self, model: Model, data: DataSet) -> None:
        self.types: Mapping[str, tuple[str, ...]] = types_of(data)
        self._model = model
        self._prepared: tuple[str, Method] | None = None

    def tallies(self, *, pixels: bool) -> tuple[PixelTypeAccumulator | None, ImageTypeAccumulator | None]:
        """Empty tallies for all products; None where there is nothing to tell apart."""
        if not self.types:
            return None, None
        listed = {product: (NORMAL, *names) for product, names in self.types.items()}
        return PixelTypeAccumulator(listed) if pixels else None, ImageTypeAccumulator(self.types)

    def add(self, counts: Counts, seen: list[Seen], features: Features) -> list[dict[str, object]]:
        """Counts a batch of one product's images; what is to be remembered of each, by row."""
        if not seen or seen[0].sample.product not in self.types:
            return [{} for _ in seen]
        product = seen[0].sample.product
        scores = self._method(product).score(features)
        rows = scores.type_scores.detach().to("cpu", torch.float32).numpy()
        told: list[dict[str, object]] = []
        for row, one in enumerate(seen):
            kind, why = self._kind(one.sample)
            shown = dict(zip(self.types[product], (round(float(score), 6) for score in rows[row]), strict=True))
            told.append({"types": shown} | ({"typing": why} if why else {}))
            if why:
                continue
            if kind and counts.image_types is not None:
                counts.image_types.add(rows[row], name=one.sample.name, product=product, defect_type=kind)
            if counts.pixel_types is not None and one.mask is not None:
                maps = self._maps(scores, row, one.mask.shape)
                drawn = kind if one.mask.any() else ""
                counts.pixel_types.add(maps, one.mask, name=one.sample.name, product=product, defect_type=drawn)
        return told

    def _method(self, product: str) -> Method:
        if self._prepared is None or self._prepared[0] != product:
            self._prepared = product, with_vocabulary(self._model.method, self.types[product])
        return self._prepared[1]

    def _kind(self, sample: Sample) -> tuple[str, str]:
        """The one type of an image, "" for normal ones; and why there is none."""
        if not sample.anomalous:
            return "", ""
        if not sample.defect_type:
            return "", "left out: no single type is named"
        if sample.has_mask:
            found = type_mask(sample)
            shown = {} if found is None else {found.types.get(int(one), "") for one in np.unique(found.ids) if one}
            if len(shown) > 1:
                return "", f"left out: it shows {len(shown)} types"
        return sample.defect_type, ""

    def _maps(self, scores: Scores, row: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """The maps [1 + T, H, W] of normal and of every type, which add up to 1 at each place."""
        types = scores.type_maps[row : row + 1].detach().to("cpu", torch.float32)  # [1, T, h, w]
        own = (int(scores.anomaly_map.shape[-2]), int(scores.anomaly_map.shape[-1]))
        if types.shape[-2:] != own:
            config = getattr(self._model.method, "config", None)
            types = enlarge_maps(types, own, align_corners=bool(getattr(config, "align_corners", False)))
        size_px = (shape[1], shape[0])
        large = np.stack([enlarge(one, size_px) for one in types[0].numpy()])
        normal = 1 - large.sum(axis=0, keepdims=True)
        return np.concatenate([normal, large]).clip(0, 1)
