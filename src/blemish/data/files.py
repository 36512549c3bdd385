"""Samples that lie in image files, and the forms in which their truth comes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from blemish import images
from blemish.data.samples import Sample, Split
from blemish.errors import ImageError
from blemish.images import Picture
from blemish.io.atomic import reason

__all__ = ["Box", "FileSample", "MaskTruth", "Truth", "TypeMask", "type_mask"]

Box = tuple[int, int, int, int]  # left, top, right, bottom in pixels, half-open


@dataclass(frozen=True)
class TypeMask:
    """Which type each pixel shows."""

    ids: NDArray[np.uint8]  # [H, W], 0 where there is no defect
    types: dict[int, str]  # id -> type, "" where nobody named it; several ids may have the same type

    def of(self, defect_type: str) -> NDArray[np.bool_]:
        """The pixels [H, W] of one type."""
        return np.isin(self.ids, [number for number, name in self.types.items() if name == defect_type])


class Truth(Protocol):
    """The drawn truth of one anomalous image."""

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that hold it."""
        ...

    def mask(self, size_px: tuple[int, int]) -> NDArray[np.bool_]:
        """The anomalous pixels [H, W] of an image of that width and height; ImageError where the truth has another size."""
        ...

    def type_mask(self, size_px: tuple[int, int]) -> TypeMask | None:
        """The type of each pixel; None where the image has one type only."""
        ...


@dataclass(frozen=True)
class MaskTruth:
    """One mask file or several, whose union counts."""

    files: tuple[Path, ...]
    threshold: int | None = None  # values above are foreground; None: see `MaskValues.above`
    types: tuple[tuple[int, str], ...] = ()  # value and type, of masks that hold ids

    def mask(self, size_px: tuple[int, int]) -> NDArray[np.bool_]:
        foreground = np.zeros(size_px[::-1], bool)
        for file in self.files:
            foreground |= read_fitting(file, size_px).above(self.threshold)
        return foreground

    def type_mask(self, size_px: tuple[int, int]) -> TypeMask | None:
        if not self.types:
            return None
        ids = np.zeros(size_px[::-1], np.uint8)
        for file in self.files:
            values = read_fitting(file, size_px).values
            ids = np.where(values > 0, values, ids).astype(np.uint8)
        return TypeMask(ids, dict(self.types))


@dataclass(frozen=True)
class FileSample:
    """An image file, or the part `box_px` of one, with its truth; see `Sample` for the meaning of the fields."""

    name: str
    product: str
    split: Split
    anomalous: bool
    path: Path
    defect_type: str = ""
    folder: str = ""
    truth: Truth | None = None
    box_px: Box | None = None

    @property
    def has_mask(self) -> bool:
        return not self.anomalous or self.truth is not None

    @property
    def size_px(self) -> tuple[int, int]:
        """Width and height of the picture; of a whole file without decoding it."""
        if self.box_px is not None:
            left, top, right, bottom = self.box_px
            return right - left, bottom - top
        return images.read_size(self.path)

    def digest(self) -> str:
        try:
            with self.path.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError as error:
            raise ImageError(self.path, reason(error)) from error
        return digest if self.box_px is None else hashlib.sha256(f"{digest} {self.box_px}".encode()).hexdigest()

    def picture(self) -> Picture:
        picture = images.read(self.path)
        if self.box_px is None:
            return picture
        left, top, right, bottom = self.box_px
        part: Any = np.ascontiguousarray(picture.pixels[top:bottom, left:right])
        return replace(picture, pixels=part)

    def mask(self) -> NDArray[np.bool_] | None:
        if not self.anomalous:
            width, height = self.size_px
            return np.zeros((height, width), bool)
        if self.truth is None:
            return None
        return self._cut(self.truth.mask(images.read_size(self.path)))

    def type_mask(self) -> TypeMask | None:
        """The type of each pixel, also where one image shows several; None where there is no mask."""
        types = None if self.truth is None or not self.anomalous else self.truth.type_mask(images.read_size(self.path))
        if types is not None:
            return replace(types, ids=self._cut(types.ids))
        return _one_type(self)

    def _cut(self, values: NDArray[Any]) -> NDArray[Any]:
        if self.box_px is None:
            return values
        left, top, right, bottom = self.box_px
        return values[top:bottom, left:right]


def type_mask(sample: Sample) -> TypeMask | None:
    """The type of each pixel of any sample: its own answer where it has one, else its mask under its one type."""
    if isinstance(sample, FileSample):
        return sample.type_mask()
    return _one_type(sample)


def _one_type(sample: Sample) -> TypeMask | None:
    mask = sample.mask()
    types = {1: sample.defect_type} if sample.anomalous else {}
    return None if mask is None else TypeMask(mask.astype(np.uint8), types)


def read_fitting(file: Path, size_px: tuple[int, int]) -> images.MaskValues:
    """The values of a mask file; ImageError where it is not of the image's size."""
    mask = images.read_mask(file)
    height, width = mask.values.shape
    if (width, height) != size_px:
        raise ImageError(
            file, f"is {width} x {height} px, its image {size_px[0]} x {size_px[1]}: they cannot be paired"
        )
    return mask
