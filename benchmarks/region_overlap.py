"""How well regions lie on the true defects of renders never trained on: `python -m benchmarks.region_overlap --images 400`.

The overlap (intersection over union) of all regions of an image with its true mask, as a mean over the defective images, for
regions that are cut at the pixel threshold, for regions that follow their own peak (`maps.hysteresis`), and with a region at the
highest point of every image that is not OK; beside it the share of good images' area that lies in regions.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

import blemish
from blemish.maps import grow_blobs
from blemish.results import Inspection, Verdict
from blemish.synthesis import HELD_OUT_SEEDS, drawn

FIRST_SEED = HELD_OUT_SEEDS + 100_000
Mask = NDArray[np.bool_]


def cut(inspection: Inspection) -> Mask:
    """All pixels at or above the pixel threshold."""
    return inspection.map_at_original() >= np.float32(inspection.thresholds.pixel)


def grown(inspection: Inspection) -> Mask:
    """Regions that follow their own peak."""
    return _filled(inspection, inspection.thresholds.pixel)


def grown_or_highest(inspection: Inspection) -> Mask:
    """The same, and where an image that is not OK has none, one at its highest point."""
    return _filled(inspection, inspection.region_level)


def _filled(inspection: Inspection, threshold: float) -> Mask:
    scores = inspection.map_at_original()
    mask = np.zeros(scores.shape, bool)
    for blob in grow_blobs(scores, threshold=threshold):
        mask[blob.slices] |= blob.pixels
    return mask


WAYS: dict[str, Callable[[Inspection], Mask]] = {
    "cut at the pixel threshold": cut,
    "down to a share of their own peak": grown,
    "and one where an image is not OK": grown_or_highest,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=400)
    settings = parser.parse_args()
    inspector = blemish.load()
    overlaps: dict[str, list[float]] = {name: [] for name in WAYS}
    false_area: dict[str, list[float]] = {name: [] for name in WAYS}
    for sample in drawn(settings.images, first_seed=FIRST_SEED).samples:
        inspection, truth = inspector.inspect(sample.picture().pixels), sample.mask()
        for name, way in WAYS.items():
            mask = way(inspection)
            if sample.anomalous and truth is not None:
                overlaps[name].append(float((mask & truth).sum() / max(1, (mask | truth).sum())))
            else:
                false_area[name].append(float(mask.mean()))
    print("| regions | mean overlap | images with an overlap of 0.3 or more | area of good images |\n|---|---|---|---|")
    for name in WAYS:
        found = np.array(overlaps[name])
        print(
            f"| {name} | {found.mean():.3f} | {100 * (found >= 0.3).mean():.0f} % | {100 * np.mean(false_area[name]):.2f} % |"
        )
    print(
        f"\n{len(found)} defective and {len(false_area[name])} good renders; {Verdict.OK.value} by the card's thresholds"
    )


if __name__ == "__main__":
    main()
