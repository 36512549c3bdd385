"""CrackForest: `image/NNN.jpg` and `groundTruth/NNN.mat`, whose `Segmentation` is 2 where there is a crack."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from blemish.data.entries import Entry
from blemish.data.files import FileSample, TypeMask
from blemish.data.scan import Scan
from blemish.errors import ImageError

__all__ = ["Segmentation", "fits", "read"]

CRACK = 2
IMAGES, TRUTH = "image", "groundTruth"


@dataclass(frozen=True)
class Segmentation:
    """The truth in a file of MATLAB (version 5)."""

    file: Path

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.file,)

    def mask(self, size_px: tuple[int, int]) -> NDArray[np.bool_]:
        from scipy.io import loadmat
        from scipy.io.matlab import MatReadError

        try:
            values = loadmat(self.file)["groundTruth"]["Segmentation"][0, 0]
        except (OSError, ValueError, TypeError, LookupError, NotImplementedError, MatReadError, zlib.error) as error:
            raise ImageError(self.file, f"holds no Segmentation ({error})") from error
        height, width = values.shape
        if (width, height) != size_px:
            raise ImageError(self.file, f"is {width} x {height} px, its image {size_px[0]} x {size_px[1]}")
        return np.asarray(values == CRACK)

    def type_mask(self, size_px: tuple[int, int]) -> TypeMask | None:  # noqa: ARG002
        return None


def fits(root: Path, entry: Entry, *, sure: bool) -> bool:  # noqa: ARG001
    """Whether images lie at `root` and one file of MATLAB beside them."""
    return (root / IMAGES).is_dir() and any((root / TRUTH).glob("*.mat"))


def read(scan: Scan, entry: Entry) -> list[FileSample]:
    truths = {path.stem: path for path in scan.entries(scan.root / TRUTH) if path.suffix == ".mat"}
    samples = []
    without = 0
    for picture in scan.images(scan.root / IMAGES):
        truth = truths.pop(picture.stem, None)
        if truth is None:
            without += 1
            continue
        sample = scan.sample(picture, entry, word="crack", anomalous=True, product="road")
        samples.append(replace(sample, truth=Segmentation(truth)))
    for path in truths.values():
        scan.report(path, "is the truth of no image", fatal=True)
    if without:
        scan.remark(f"{without} images without a truth are left out")
    return samples
