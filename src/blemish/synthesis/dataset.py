"""Rendered samples as a data set: made when they are asked for, the same for the same seed."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from blemish.data.samples import DataSet, Split
from blemish.errors import UsageError
from blemish.images import Picture
from blemish.synthesis.render import NORMAL, RENDERER_VERSION, SyntheticSample, render

__all__ = ["RenderedSample", "open_rendered", "rendered"]

DEFAULT_COUNT = 1000
HELD_OUT_SEEDS = 50_000_000  # from here on, seeds belong to the test split; nothing trains on them


@dataclass(frozen=True)
class RenderedSample:
    """One rendered picture; what it shows is known as soon as it has been drawn."""

    seed: int
    size_px: int

    @property
    def name(self) -> str:
        return f"seed-{self.seed:09d}"

    @property
    def product(self) -> str:
        return "synthetic"

    @property
    def split(self) -> Split:
        return "test" if self.seed >= HELD_OUT_SEEDS else "train"

    @property
    def anomalous(self) -> bool:
        return self._drawn().defect_type != NORMAL

    @property
    def defect_type(self) -> str:
        return self._drawn().defect_type if self.anomalous else ""

    @property
    def folder(self) -> str:
        return self._drawn().defect_type

    @property
    def has_mask(self) -> bool:
        return True

    def digest(self) -> str:
        # The words are those of the first version, so that what was kept under a digest is still found.
        words = f"blemish.data.synthetic render {RENDERER_VERSION} seed {self.seed} size {self.size_px}"
        return hashlib.sha256(words.encode()).hexdigest()

    def picture(self) -> Picture:
        return Picture(self._drawn().image, self.name)

    def mask(self) -> NDArray[np.bool_] | None:
        return self._drawn().mask

    def _drawn(self) -> SyntheticSample:
        return _render(self.seed, self.size_px)


def rendered(count: int, *, first_seed: int = 0, size_px: int = 224) -> DataSet:
    """`count` rendered samples with seeds from `first_seed`: all types and normal ones, of every material.

    Seeds from 50,000,000 on are the test split. UsageError where a set would lie in both splits.
    """
    if count < 1 or first_seed < 0:
        raise UsageError(f"a rendered set has at least one image and a seed from 0 on, not {count} from {first_seed}")
    if first_seed < HELD_OUT_SEEDS < first_seed + count:
        raise UsageError(
            f"seeds from {HELD_OUT_SEEDS:,} on are held out; {first_seed} to {first_seed + count} cross that line"
        )
    samples = tuple(RenderedSample(seed, size_px) for seed in range(first_seed, first_seed + count))
    variant = f"renderer {RENDERER_VERSION}, seeds {first_seed} to {first_seed + count - 1}, {size_px} px"
    return DataSet("synthetic", samples, "image+pixel", variant=variant, licence="MIT")


def open_rendered(asked: str) -> DataSet:
    """The rendered samples of "COUNT@SEED", "COUNT" or ""; UsageError for anything else."""
    found = re.fullmatch(r"(?:(?P<count>[\d_]+)(?:@(?P<first>[\d_]+))?)?", asked)
    if found is None:
        raise UsageError(
            f"synthetic:{asked}: rendered samples are named synthetic:COUNT@SEED, as synthetic:2000@10000000"
        )
    return rendered(int(found["count"] or DEFAULT_COUNT), first_seed=int(found["first"] or 0))


@lru_cache(maxsize=64)  # several questions about one picture draw it once
def _render(seed: int, size_px: int) -> SyntheticSample:
    return render(seed, size_px=size_px)
