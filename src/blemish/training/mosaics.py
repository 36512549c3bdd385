"""Mosaics: now and then a training image is replaced by four of the same product, two by two, masks alike.

APRIL-GAN's release does so with a fifth of the images of MVTec AD (docs/aprilgan.md). S side of the tower's input in pixels.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blemish.backbones.config import PreprocessConfig
from blemish.backbones.preprocess import to_array
from blemish.maps import mask_at
from blemish.training.examples import UNKNOWN_TYPE, Examples

__all__ = ["Mosaic", "Mosaics"]


@dataclass(frozen=True, eq=False)
class Mosaic:
    """One mosaic and its truth."""

    image: Tensor  # [3, S, S], normalised
    mask: NDArray[np.bool_]  # [S, S]
    type_id: int  # 0 normal; the type of its defects, -1 where they are of several types or unnamed


@dataclass(frozen=True)
class Mosaics:
    """Which images of an epoch become mosaics, and of what."""

    share: float  # 0..1, of the images
    seed: tuple[int, int]  # of the training, and the epoch
    label_of_replaced: bool = False  # a mosaic keeps the label of the image that it stands for, whatever it shows

    def quarters(self, examples: Examples, row: int) -> list[int] | None:
        """The rows of the four parts, top left first, or None where the image stays itself.

        Each part is drawn by itself: first a folder of the product (a kind of defect, or the good images), then an image in it.
        """
        generator = np.random.default_rng((*self.seed, row))
        if generator.random() >= self.share:
            return None
        product = examples.samples[row].product
        folders: dict[str, list[int]] = defaultdict(list)
        for number, sample in enumerate(examples.samples):
            if sample.product == product and examples.has_mask[number]:
                folders[sample.folder].append(number)
        if not folders:
            return None
        names = sorted(folders)
        drawn = [folders[names[generator.integers(len(names))]] for _ in range(4)]
        return [rows[generator.integers(len(rows))] for rows in drawn]

    def mosaic(self, examples: Examples, row: int, preprocess: PreprocessConfig) -> Mosaic | None:
        """The mosaic that stands for an image, or None."""
        rows = self.quarters(examples, row)
        if rows is None:
            return None
        size = preprocess.size
        image, mask = torch.empty(3, size, size), np.zeros((size, size), bool)
        first = (size + 1) // 2  # pixels of the left and of the upper parts; the others have as many, or one fewer
        part = replace(preprocess, size=first)
        for place, number in enumerate(rows):
            sample = examples.samples[number]
            across, down = (
                (slice(0, first), slice(first, size))[place % 2],
                (slice(0, first), slice(first, size))[place // 2],
            )
            height, width = (len(range(size)[along]) for along in (down, across))
            image[:, down, across] = torch.from_numpy(to_array(sample.picture(), part))[:, :height, :width]
            drawn = sample.mask()
            if drawn is not None:
                mask[down, across] = mask_at(drawn, first)[:height, :width]
        types = {int(examples.type_ids[number]) for number in rows} - {0}
        return Mosaic(image, mask, 0 if not types else types.pop() if len(types) == 1 else UNKNOWN_TYPE)
