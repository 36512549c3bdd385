"""Images with their truth, streamed: a bounded number is read ahead, whatever the size of the set.

B batch, S side of the tower's input in pixels, H×W the size at which pixels are compared.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blemish.backbones.preprocess import to_tensor
from blemish.data import Sample
from blemish.errors import ImageError, OutputError
from blemish.evaluation.models import Model
from blemish.evaluation.settings import Size
from blemish.io.prefetch import in_order
from blemish.methods.base import Features
from blemish.models.feature_cache import FeatureStore
from blemish.training.examples import MEMORY_AHEAD, PICTURE_BYTES, mask_at

__all__ = ["Encoder", "Seen", "feed", "in_chunks"]


@dataclass(frozen=True)
class Seen:
    """One image made ready: its normalised pixels [3, S, S] (None where its features are kept), and its mask [H, W] (None where
    nobody drew one, or nobody asks)."""

    sample: Sample
    digest: str
    size_px: tuple[int, int]
    pixels: Tensor | None
    mask: NDArray[np.bool_] | None


def in_chunks(samples: Sequence[Sample], size: int) -> list[Sequence[Sample]]:
    """The samples in their order, `size` at a time; the last chunk may be smaller."""
    return [samples[start : start + size] for start in range(0, len(samples), size)]


def feed(
    chunks: Sequence[Sequence[Sample]], model: Model, *, size: Size, masks: bool, store: FeatureStore | None
) -> Iterator[list[Seen | ImageError]]:
    """The chunks one after the other; an ImageError stands for an image that cannot be read or paired with its mask."""

    def look(sample: Sample) -> Seen | ImageError:
        try:
            return _look(sample, model, size=size, masks=masks, store=store)
        except ImageError as error:
            return error

    workers = min(8, os.cpu_count() or 1)
    with ThreadPoolExecutor(workers, thread_name_prefix="blemish") as pool:
        work = ((sample, PICTURE_BYTES) for chunk in chunks for sample in chunk)
        looked = in_order(pool, look, work, most=4 * workers, most_bytes=MEMORY_AHEAD)
        try:
            for chunk in chunks:
                yield [next(looked)[0] for _ in chunk]
        finally:  # a consumer that stops early does not wait for what was read ahead
            pool.shutdown(wait=True, cancel_futures=True)


def _look(sample: Sample, model: Model, *, size: Size, masks: bool, store: FeatureStore | None) -> Seen:
    digest = sample.digest()
    size_px = None if store is None else store.size_px(digest)
    pixels = None
    if size_px is None:
        picture = sample.picture()
        size_px, pixels = (picture.width_px, picture.height_px), to_tensor(picture, model.preprocess)
    mask = None
    if masks and sample.has_mask:
        side = model.preprocess.size
        if not sample.anomalous:
            mask = np.zeros((side, side) if size == "model" else size_px[::-1], bool)
        else:
            mask = _fitting(sample, size_px)
            mask = mask_at(mask, side) if size == "model" else mask
    return Seen(sample, digest, size_px, pixels, mask)


def _fitting(sample: Sample, size_px: tuple[int, int]) -> NDArray[np.bool_]:
    mask = sample.mask()
    if mask is None or mask.shape[::-1] != size_px:
        found = "is missing" if mask is None else f"is {mask.shape[1]} x {mask.shape[0]} px"
        raise ImageError(sample.name, f"its mask {found}, the image {size_px[0]} x {size_px[1]} px: they do not fit")
    return mask


class Encoder:
    """Features of images on the model's device: computed, or from the store, and then always as the store rounded them.

    On the CPU images are encoded one by one, which is as fast there; on a GPU by chunks, and a chunk that lacks one image is
    encoded as a whole: so numbers do not depend on where an earlier run was stopped.
    """

    def __init__(self, model: Model, *, device: torch.device, store: FeatureStore | None) -> None:
        self.model = model
        self.device = device
        self.store = store

    def features(self, seen: Sequence[Seen]) -> Features:
        """The features of these images as one batch."""
        finish = self.model.method.finish
        if self.store is None:
            return finish(self._begin([self._pixels(one) for one in seen]))
        lacking = [one for one in seen if one.pixels is not None]
        if lacking and self.device.type != "cpu":
            lacking = list(seen)
        if lacking:
            found = self._begin([self._pixels(one) for one in lacking])
            for row, one in enumerate(lacking):
                if one.pixels is not None:
                    self.store.write(one.digest, found, row=row, size_px=one.size_px)
        kept = self.store.read([one.digest for one in seen])
        levels = tuple(level.to(self.device) for level in kept.levels)
        return finish(replace(kept, whole=kept.whole.to(self.device), levels=levels))

    def reserve(self, images: int) -> None:
        """OutputError where the disk has no room for the features of so many images."""
        if self.store is None:
            return
        side = self.model.preprocess.size
        blank = self._begin([torch.zeros(3, side, side)])
        try:
            self.store.reserve(images, bytes_each=self.store.entry_bytes(blank))
        except OutputError as error:
            raise OutputError(str(error).replace("--cache-dtype none", "--cache none")) from error

    def _pixels(self, one: Seen) -> Tensor:
        return to_tensor(one.sample.picture(), self.model.preprocess) if one.pixels is None else one.pixels

    def _begin(self, pixels: Sequence[Tensor]) -> Features:
        groups = [torch.stack(list(pixels))] if self.device.type != "cpu" else [one[None] for one in pixels]
        parts = [self.model.method.begin(group.to(self.device)) for group in groups]
        levels = tuple(torch.cat(level) for level in zip(*(part.levels for part in parts), strict=True))
        return Features(torch.cat([part.whole for part in parts]), levels, parts[0].grid)
