"""When a region's type is unknown: the line for a card, from regions on held-out renders.

Each image is looked at with the whole vocabulary, and with a third of the types left out, once for each third: so every type
is lacking once, and its regions can only be named wrongly.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from blemish.data import Sample
from blemish.engines.base import Engine, RawScores
from blemish.errors import ImageError
from blemish.inspection.loader import default_workers
from blemish.inspection.regions import find_regions
from blemish.inspection.samples import CachedEncoder, LoadedSample, SampleLoader
from blemish.inspection.scoring import Scorer
from blemish.io.prefetch import in_chunks
from blemish.language import general, parse_defects
from blemish.language.unknown import UnknownRule, find_unknown_rule
from blemish.results import lead

if TYPE_CHECKING:
    from blemish.engines.torch import TorchEngine
    from blemish.models.feature_cache import FeatureStore

__all__ = ["find_typing_rule"]

FOLDS = 3
BATCH = 16
MIN_AREA_PX = 16.0  # a quarter of a patch of 8 x 8 px, as the inspector has it


def find_typing_rule(
    engine: Engine, samples: Sequence[Sample], *, pixel_threshold: float, store: FeatureStore | None = None
) -> UnknownRule:
    """The line for an engine, whose types must be in the built-in vocabulary; `store` holds features that need no pixels."""
    names = general().names
    left_out = [(), *(names[fold::FOLDS] for fold in range(FOLDS))]
    vocabularies = [parse_defects([name for name in names if name not in missing]) for missing in left_out]
    encoder = None if store is None else CachedEncoder(cast("TorchEngine", engine), store)
    scorer = Scorer(engine, *vocabularies, batch_size=BATCH, encoder=encoder)
    loader = SampleLoader(preprocess=engine.input, size="model", masks=True, store=store)
    chunks = in_chunks([sample for sample in samples if sample.anomalous and sample.defect_type], BATCH)
    leads: list[float] = []
    correct: list[bool] = []
    with ThreadPoolExecutor(default_workers()) as pool:
        for loaded in loader.chunks(chunks, pool):
            for raw in scorer.score(loaded, pool):
                if isinstance(raw, ImageError):
                    raise raw
                image = cast(LoadedSample, raw.image)
                assert image.mask is not None  # every render has one
                for scores in raw.scores:
                    for name, lead_of_name in _named(scores, image.mask, pixel_threshold):
                        leads.append(lead_of_name)
                        correct.append(name == image.sample.defect_type)
    return find_unknown_rule(leads, correct)


def _named(scores: RawScores, truth: NDArray[np.bool_], pixel_threshold: float) -> list[tuple[str, float]]:
    """The types and leads of those regions of one image that lie on its defect, by at least half of their pixels."""
    regions = find_regions(
        scores.anomaly_map,
        (truth.shape[1], truth.shape[0]),
        threshold=pixel_threshold,
        min_area_px=MIN_AREA_PX,
        types=scores.types,
        type_maps=scores.type_maps,
    )
    found = []
    for region in regions:
        x0, y0, x1, y1 = region.box_px
        if truth[y0:y1, x0:x1].sum() < region.area_px / 2:  # at most so many of its pixels can lie on the defect
            continue
        if region.type is not None and region.type_probability is not None and region.type_margin is not None:
            found.append((region.type, lead(region.type_probability, region.type_margin)))
    return found
