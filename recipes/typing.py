"""When a region's type is unknown: the line for a card, from regions on held-out renders.

Each image is looked at with the whole vocabulary, and with a third of the types left out, once for each third: so every type
is lacking once, and its regions can only be named wrongly.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from blemish.inspection.regions import find_regions
from blemish.io.prefetch import in_chunks
from blemish.language import general, parse_defects
from blemish.language.unknown import UnknownRule, find_unknown_rule
from blemish.methods.base import Method, Scores
from blemish.methods.text_cache import TextCache
from blemish.results import lead
from blemish.training.batches import Source

__all__ = ["find_typing_rule"]

FOLDS = 3
BATCH = 16
MIN_AREA_PX = 16.0  # a quarter of a place of 8 x 8 px, as the inspector has it


@torch.inference_mode()
def find_typing_rule(method: Method, source: Source, *, pixel_threshold: float) -> UnknownRule:
    """The line for a method with its trained prompts; the source's types must be in the built-in vocabulary."""
    names = general().names
    lacking = [(), *(names[fold::FOLDS] for fold in range(FOLDS))]
    cache = TextCache()
    vocabularies = [parse_defects([name for name in names if name not in out]) for out in lacking]
    texts = [method.encode_texts(vocabulary, cache=cache) for vocabulary in vocabularies]
    examples = source.examples
    leads: list[float] = []
    correct: list[bool] = []
    for batch in source.feed(in_chunks(np.flatnonzero(examples.type_ids > 0), BATCH)):
        features = batch.features(method)
        truths = examples.masks(batch.rows)
        for asked in texts:
            scores = method.score(features, asked)
            for place, row in enumerate(batch.rows):
                true = examples.types[examples.type_ids[row] - 1]
                for name, ahead in _named(scores, place, truths[place], pixel_threshold):
                    leads.append(ahead)
                    correct.append(name == true)
    return find_unknown_rule(leads, correct)


def _named(scores: Scores, place: int, truth: NDArray[np.bool_], pixel_threshold: float) -> list[tuple[str, float]]:
    """The types and leads of those regions of one image that lie on its defect, by at least half of their pixels."""
    anomaly_map = scores.anomaly_map[place].float().numpy()
    size = (truth.shape[1], truth.shape[0])
    regions = find_regions(
        anomaly_map,
        size,
        threshold=pixel_threshold,
        min_area_px=MIN_AREA_PX,
        types=scores.types,
        type_maps=scores.type_maps[place].float().numpy(),
    )
    found = []
    for region in regions:
        x0, y0, x1, y1 = region.box_px
        if truth[y0:y1, x0:x1].sum() < region.area_px / 2:  # at most so many of its pixels can lie on the defect
            continue
        if region.type is not None and region.type_probability is not None and region.type_margin is not None:
            found.append((region.type, lead(region.type_probability, region.type_margin)))
    return found
