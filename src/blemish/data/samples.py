"""What every data set is made of: samples with their truth, in named sets."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from blemish.images import Picture

__all__ = ["DataSet", "Level", "Sample", "Split"]

Level = Literal["image", "pixel", "image+pixel"]
Split = Literal["train", "test"]


class Sample(Protocol):
    """One image with its truth. It is frozen and cheap to make: only its methods open files."""

    @property
    def name(self) -> str: ...  # unique in its set: the path below the root, with /
    @property
    def product(self) -> str: ...  # the class that metrics are grouped by
    @property
    def split(self) -> Split: ...
    @property
    def anomalous(self) -> bool: ...
    @property
    def defect_type(self) -> str: ...  # the grouped type in words; "" where it is normal or nobody said which
    @property
    def folder(self) -> str: ...  # the data set's own word for the type
    @property
    def has_mask(self) -> bool: ...  # whether `mask` gives the truth: of all normal images, and where someone drew it

    def digest(self) -> str:
        """A sha256 in hex that stands for the image's content: equal content, equal digest."""
        ...

    def picture(self) -> Picture:
        """The image at its original size; ImageError where it cannot be read."""
        ...

    def mask(self) -> NDArray[np.bool_] | None:
        """The anomalous pixels [H, W] at original size, all false on a normal image; None where has_mask is false."""
        ...


@dataclass(frozen=True)
class DataSet:
    """Samples under one name."""

    name: str
    samples: tuple[Sample, ...]
    level: Level  # what its truth allows to measure
    variant: str = ""  # the conversion and the split, as they must stand beside every number
    licence: str = ""
    notes: tuple[str, ...] = field(default=())  # lines worth telling the user

    def of(self, *, split: Split | None = None, product: str | None = None) -> DataSet:
        """The part with this split and this product."""
        chosen = tuple(
            sample
            for sample in self.samples
            if (split is None or sample.split == split) and (product is None or sample.product == product)
        )
        return replace(self, samples=chosen)

    @property
    def products(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(sample.product for sample in self.samples))

    @property
    def types(self) -> tuple[str, ...]:
        """The defect types that occur, in the order of the samples."""
        return tuple(dict.fromkeys(sample.defect_type for sample in self.samples if sample.defect_type))
