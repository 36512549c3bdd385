"""Samples of a data set with their truth, loaded for an engine: a bounded number is read ahead, whatever the size of the set.

S side of the model's input in pixels, H×W the size at which pixels are compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from blemish.backbones.config import PreprocessConfig
from blemish.backbones.preprocess import to_array
from blemish.data import Sample
from blemish.errors import ImageError, OutputError
from blemish.images import Picture
from blemish.inspection.loader import MEMORY_AHEAD, PICTURE_BYTES, LoadedImage, default_workers
from blemish.io.prefetch import in_order
from blemish.maps import mask_at

if TYPE_CHECKING:
    from blemish.engines.torch import TorchEngine
    from blemish.methods.base import Features
    from blemish.models.feature_cache import FeatureStore

__all__ = ["CachedEncoder", "LoadedSample", "SampleLoader", "Size"]

Size = Literal["model", "original"]  # at which pixels are compared


@dataclass(frozen=True, eq=False, kw_only=True)
class LoadedSample(LoadedImage):
    """A sample ready for an engine, with its truth."""

    sample: Sample
    digest: str  # of the image's content
    mask: NDArray[np.bool_] | None  # [H, W]; None where nobody drew one, or nobody asks
    cached: bool = False  # its features are on the disk, so that the picture is a stand-in without pixels


@dataclass(frozen=True, kw_only=True)
class SampleLoader:
    """Loads samples for an engine."""

    preprocess: PreprocessConfig
    size: Size  # at which pixels are compared
    masks: bool  # whether masks are asked for
    store: FeatureStore | None = None  # of features that need no pixels

    def chunks(
        self, chunks: Sequence[Sequence[Sample]], pool: ThreadPoolExecutor
    ) -> Iterator[list[LoadedSample | ImageError]]:
        """The chunks one after the other; an ImageError stands for an image that cannot be read or paired with its mask."""
        most = 4 * default_workers()
        work = ((sample, PICTURE_BYTES) for chunk in chunks for sample in chunk)
        loaded = in_order(pool, self._load, work, most=most, most_bytes=MEMORY_AHEAD)
        for chunk in chunks:
            yield [next(loaded)[0] for _ in chunk]

    def _load(self, sample: Sample) -> LoadedSample | ImageError:
        try:
            digest = sample.digest()
            size_px = None if self.store is None else self.store.size_px(digest)
            if size_px is None:
                picture = sample.picture()
                pixels = to_array(picture, self.preprocess)
            else:
                nothing = np.broadcast_to(np.uint8(0), (size_px[1], size_px[0], 3))  # takes no memory
                picture, pixels = Picture(nothing, sample.name), np.empty((3, 0, 0), np.float32)
            mask = self._mask(sample, (picture.width_px, picture.height_px))
        except ImageError as error:
            return error
        return LoadedSample(
            picture=picture, pixels=pixels, sample=sample, digest=digest, mask=mask, cached=size_px is not None
        )

    def _mask(self, sample: Sample, size_px: tuple[int, int]) -> NDArray[np.bool_] | None:
        if not (self.masks and sample.has_mask):
            return None
        side = self.preprocess.size
        if not sample.anomalous:
            return np.zeros((side, side) if self.size == "model" else size_px[::-1], bool)
        mask = sample.mask()
        if mask is None or mask.shape[::-1] != size_px:
            found = "is missing" if mask is None else f"is {mask.shape[1]} x {mask.shape[0]} px"
            raise ImageError(
                sample.name, f"its mask {found}, the image {size_px[0]} x {size_px[1]} px: they do not fit"
            )
        return mask_at(mask, side) if self.size == "model" else mask


class CachedEncoder:
    """Features of samples from a store on the disk; what it lacks is computed and written there.

    They are always as the store rounded them, so that numbers do not depend on where an earlier run was stopped. On the CPU
    images are encoded one by one, which is as fast there; on a GPU by chunks, and a chunk that lacks one image as a whole.
    """

    def __init__(self, engine: TorchEngine, store: FeatureStore) -> None:
        self.engine = engine
        self.store = store

    def __call__(self, images: Sequence[LoadedImage]) -> Features:
        """The features of these samples as one batch."""
        import torch

        samples = [cast(LoadedSample, image) for image in images]
        missing = [image for image in samples if not image.cached]
        if missing and self.engine.device.type != "cpu":
            missing = samples
        with torch.inference_mode():
            if missing:
                frozen = self._encode_frozen([self._pixels(image) for image in missing])
                for row, image in enumerate(missing):
                    if not image.cached:
                        self.store.write(image.digest, frozen, row=row, size_px=image.size_px)
            kept = self.store.read([image.digest for image in samples])
            device = self.engine.device
            levels = tuple(level.to(device) for level in kept.levels)
            kept = replace(kept, global_feature=kept.global_feature.to(device), levels=levels)
            return self.engine.method.encode_trained(kept)

    def reserve(self, images: int) -> None:
        """OutputError where the disk has no room for the features of so many images."""
        side = self.engine.input.size
        blank = self._encode_frozen([np.zeros((3, side, side), np.float32)])
        try:
            self.store.reserve(images, bytes_each=self.store.entry_bytes(blank))
        except OutputError as error:
            raise OutputError(str(error).replace("--cache-dtype none", "--cache none")) from error

    def _pixels(self, image: LoadedSample) -> NDArray[np.float32]:
        return to_array(image.sample.picture(), self.engine.input) if image.cached else image.pixels

    def _encode_frozen(self, pixels: Sequence[NDArray[np.float32]]) -> Any:
        import torch

        from blemish.methods.base import Features

        groups = [np.stack(pixels)] if self.engine.device.type != "cpu" else [image[None] for image in pixels]
        with torch.inference_mode():
            parts = [
                self.engine.method.encode_frozen(torch.from_numpy(group).to(self.engine.device)) for group in groups
            ]
        levels = tuple(torch.cat(level) for level in zip(*(part.levels for part in parts), strict=True))
        return Features(torch.cat([part.global_feature for part in parts]), levels, parts[0].grid)
