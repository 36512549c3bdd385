"""Which type it is: every image also scored with a vocabulary of its product's own types.

The multi-type protocol of MultiADS and DAPO (`blemish.metrics.PixelTypeAccumulator`), and our own measure for images. Images that
show several types, or one that nobody named, cannot be told by one type: they are left out, and counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from blemish.data import DataSet, Sample, type_mask
from blemish.engines.base import RawScores
from blemish.evaluation.finding import types_of
from blemish.evaluation.states import Counts
from blemish.inspection.samples import LoadedSample
from blemish.language import Vocabulary, parse_defects
from blemish.maps import enlarge
from blemish.metrics import ImageTypeAccumulator, PixelTypeAccumulator
from blemish.metrics.pixels import NORMAL_TYPE

__all__ = ["Typing"]


class Typing:
    """The types of each product of a data set, and what they are counted with."""

    def __init__(self, data: DataSet, *, aligned_corners: bool = False) -> None:
        self.types: Mapping[str, tuple[str, ...]] = types_of(data)
        self._aligned_corners = aligned_corners

    def vocabulary(self, product: str) -> Vocabulary | None:
        """The vocabulary of a product's own types; None where it has none."""
        names = self.types.get(product)
        return None if names is None else parse_defects(names)

    def accumulators(self, *, pixels: bool) -> tuple[PixelTypeAccumulator | None, ImageTypeAccumulator | None]:
        """Empty accumulators for all products; None where there is nothing to tell apart."""
        if not self.types:
            return None, None
        listed = {product: (NORMAL_TYPE, *names) for product, names in self.types.items()}
        return PixelTypeAccumulator(listed) if pixels else None, ImageTypeAccumulator(self.types)

    def add(self, counts: Counts, image: LoadedSample, scores: RawScores) -> dict[str, object]:
        """Counts an image by its scores with its product's types; what is to be remembered of it."""
        sample = image.sample
        product = sample.product
        defect_type, reason = self._type_of(sample)
        names = self.types[product]
        shown = dict(zip(names, (round(float(score), 6) for score in scores.type_scores), strict=True))
        record: dict[str, object] = {"types": shown}
        if reason:
            return record | {"typing": reason}
        if defect_type and counts.image_types is not None:
            counts.image_types.add(scores.type_scores, name=sample.name, product=product, defect_type=defect_type)
        if counts.pixel_types is not None and image.mask is not None:
            maps = self._maps(scores, image.mask.shape)
            drawn = defect_type if image.mask.any() else ""
            counts.pixel_types.add(maps, image.mask, name=sample.name, product=product, defect_type=drawn)
        return record

    def _type_of(self, sample: Sample) -> tuple[str, str]:
        """The one type of an image, "" for normal ones; and why there is none."""
        if not sample.anomalous:
            return "", ""
        if not sample.defect_type:
            return "", "left out: no single type is named"
        if sample.has_mask:
            found = type_mask(sample)
            shown = (
                {} if found is None else {found.types.get(int(index), "") for index in np.unique(found.ids) if index}
            )
            if len(shown) > 1:
                return "", f"left out: it shows {len(shown)} types"
        return sample.defect_type, ""

    def _maps(self, scores: RawScores, shape: Sequence[int]) -> NDArray[np.float32]:
        """The maps [1 + T, H, W] of normal and of every type, which add up to 1 at each patch."""
        assert scores.type_maps is not None  # every method that is trained on types has them
        height, width = scores.anomaly_map.shape
        types = [
            enlarge(type_map, (width, height), aligned_corners=self._aligned_corners) for type_map in scores.type_maps
        ]
        large = np.stack([enlarge(type_map, (shape[1], shape[0])) for type_map in types])
        normal = 1 - large.sum(axis=0, keepdims=True)
        return np.concatenate([normal, large]).clip(0, 1)
