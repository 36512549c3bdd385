"""The split of data sets that come without one."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace

from blemish.data.files import FileSample

__all__ = ["quarter_tested"]

SEED = 42


def quarter_tested(samples: Sequence[FileSample]) -> list[FileSample]:
    """All anomalous samples and a quarter of the normal ones (rounded up) tested, the other normal ones for training.

    Share and seed are those of the conversions of InCTRL and AHL, which do not say how they draw: the counts are theirs,
    the choice of images is ours. It depends on the names alone.
    """
    normal = sorted(sample.name for sample in samples if not sample.anomalous)
    random.Random(SEED).shuffle(normal)
    tested = set(normal[: math.ceil(len(normal) / 4)])
    return [
        replace(sample, split="test" if sample.anomalous or sample.name in tested else "train") for sample in samples
    ]
