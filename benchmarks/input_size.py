"""Input size against accuracy and cost: `python -m benchmarks.input_size [--method …] [--sizes 224 448] [--images 200]`.

Pictures are rendered at 448 px from held-out seeds, so that a larger input has something to show; every size sees the same ones.
Image AUROC is over all pictures, for small defects over those with a mask below 0.2 % of the picture and the normal ones; pixel
AUROC over all pixels of all pictures at their own size. Image AUROC has a 95 % bootstrap interval over the pictures. The cost is
the processor time of the inspector, from pixels to regions, by one thread and in batches of one picture; rendering is left out.
Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

import blemish
from blemish.metrics import AnomalyAccumulator, Value
from blemish.metrics.exact import auroc
from blemish.synthesis import HELD_OUT_SEEDS, SyntheticSample, render

SOURCE_PX = 448
SMALL_SHARE = 0.002  # of a picture
ROUNDS = 1000


@dataclass(frozen=True)
class Figures:
    """What one input size is worth, in 0..1, and what it costs: processor seconds a picture."""

    input_px: int
    image_auroc: Value
    pixel_auroc: Value
    small_auroc: Value
    seconds: float


def is_small(mask: NDArray[np.bool_]) -> bool:
    """Whether a mask [H, W] is that of a small defect; an empty one is not."""
    return bool(mask.any()) and float(mask.mean()) < SMALL_SHARE


def measure(inspector: blemish.Inspector, samples: Sequence[SyntheticSample]) -> Figures:
    """The figures of an inspector on these pictures."""
    accumulator = AnomalyAccumulator(rounds=0)
    scores, labels, small = [], [], []
    inspector.inspect(samples[0].image)  # what is computed once a process is not the picture's
    seconds = 0.0
    for number, sample in enumerate(samples):
        began = time.process_time()
        seen = inspector.inspect(sample.image)
        seconds += time.process_time() - began
        anomalous = bool(sample.mask.any())
        accumulator.add(
            seen.map_at_original(),
            sample.mask,
            name=str(number),
            product="rendered",
            anomalous=anomalous,
            defect_type=sample.defect_type if anomalous else "",
            image_score=seen.image_score,
        )
        scores.append(seen.image_score)
        labels.append(anomalous)
        small.append(is_small(sample.mask))
    score, label, few = np.array(scores), np.array(labels), np.array(small)
    counted = few | ~label
    return Figures(
        input_px=inspector.engine.input.size,
        image_auroc=auroc(score, label, rounds=ROUNDS),
        pixel_auroc=accumulator.report().mean.values["pixel_auroc"],
        small_auroc=auroc(score[counted], label[counted], rounds=ROUNDS),
        seconds=seconds / len(samples),
    )


def table(found: Sequence[Figures]) -> str:
    """The figures as Markdown, a line for each size."""
    lines = [
        "| input | image AUROC | pixel AUROC | image AUROC, small defects | processor s a picture |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {one.input_px} px | {one.image_auroc} | {one.pixel_auroc} | {one.small_auroc} | {one.seconds:.2f} |"
        for one in found
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", default=None, help="default: the backbone's own")
    parser.add_argument("--backbone", default="embedded")
    parser.add_argument("--prompts", default=None)
    parser.add_argument("--sizes", type=int, nargs="+", default=[224, 448], metavar="PIXELS")
    parser.add_argument("--images", type=int, default=200)
    settings = parser.parse_args()
    torch.set_num_threads(1)
    samples = [render(HELD_OUT_SEEDS + seed, size_px=SOURCE_PX) for seed in range(settings.images)]
    found = []
    for px in settings.sizes:
        inspector = blemish.load(
            settings.backbone, method=settings.method, prompts=settings.prompts, input_px=px, batch_size=1
        )
        found.append(measure(inspector, samples))
    masks = [sample.mask for sample in samples if sample.mask.any()]
    name = f"{inspector.model.method} on {inspector.model.backbone}"
    small = sum(map(is_small, masks))
    print(f"{name}: {len(samples)} pictures of {SOURCE_PX} px, {len(masks)} with a defect, {small} of them small\n")
    print(table(found))


if __name__ == "__main__":
    main()
