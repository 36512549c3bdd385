"""Images in, batches of loaded ones out: decoded in background threads, a bounded number ahead, on one value range a batch.

S side of the model's input in pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from blemish.backbones.config import PreprocessConfig
from blemish.backbones.preprocess import to_array
from blemish.errors import ImageError
from blemish.images import Header, ImageInput, Picture, Samples, ValueRanges, decode, read_header
from blemish.images.boundary import NO_MEMORY
from blemish.images.reader import name_of
from blemish.io.prefetch import in_order
from blemish.io.processors import free_processors

__all__ = ["MEMORY_AHEAD", "PICTURE_BYTES", "ImageLoader", "LoadedImage", "default_workers", "in_batches"]

Item = TypeVar("Item")


MEMORY_AHEAD = 512 * 2**20  # bytes of decoded pictures to read ahead at most
PICTURE_BYTES = 64 * 2**20  # assumed for a picture whose size is not known before it is read
MOST_WORKERS = 8


@dataclass(frozen=True, eq=False)
class LoadedImage:
    """An image ready for an engine."""

    picture: Picture  # at original size
    pixels: NDArray[np.float32]  # [3, S, S], normalised

    @property
    def source(self) -> str:
        return self.picture.source

    @property
    def size_px(self) -> tuple[int, int]:
        """Width and height of the original."""
        return self.picture.width_px, self.picture.height_px


def in_batches(items: Iterable[tuple[Item, int]], batch_size: int) -> Iterator[list[Item]]:
    """Items that come with their bytes in batches of `batch_size`; of fewer where they are more than `MEMORY_AHEAD` bytes."""
    batch: list[Item] = []
    held = 0
    for item, size in items:
        if batch and held + size > MEMORY_AHEAD:
            yield batch
            batch, held = [], 0
        batch.append(item)
        held += size
        if len(batch) == batch_size:
            yield batch
            batch, held = [], 0
    if batch:
        yield batch


def default_workers() -> int:
    """The number of threads that read images where nobody says another: one for each free processor, up to 8."""
    return min(MOST_WORKERS, free_processors())


@dataclass(frozen=True, kw_only=True)
class ImageLoader:
    """Loads images for an engine."""

    preprocess: PreprocessConfig
    ranges: ValueRanges  # of the images with more than 8 bits
    pool: ThreadPoolExecutor  # whose threads decode
    workers: int  # threads of the pool
    batch_size: int
    max_megapixels: float  # of the largest image that is decoded

    def read_headers(self, images: Sequence[ImageInput]) -> list[int]:
        """Looks at the headers of all images, and learns their common value range; the bytes of each picture."""
        headers = list(self.pool.map(read_header, images))
        self._learn_ranges(images, headers)
        return [header.picture_bytes for header in headers]

    def batches(self, images: Iterable[ImageInput], *, start: int = 0) -> Iterator[list[LoadedImage | ImageError]]:
        """Loaded images in batches, the errors among them in their places; smaller batches where pictures are large.

        Of a sequence, up to two batches are read ahead, and the first `start` images are left out: they only have their say in
        the value range. Any other iterable is asked for one batch and, before that is done, for no more: a camera's next
        image may take its time.
        """
        sized: Iterable[tuple[ImageInput, int]] = _sized(images)
        most, settled = self.batch_size, False
        if isinstance(images, Sequence):
            sized = zip(images, self.read_headers(images), strict=True)
            most, settled = 2 * self.batch_size, True

        def load(numbered: tuple[int, ImageInput]) -> LoadedImage | Samples | ImageError:
            return self._load(numbered[1], numbered[0], settled=settled)

        work = (((number, image), size) for number, (image, size) in islice(enumerate(sized), start, None))
        ahead = in_order(self.pool, load, work, most=most, most_bytes=MEMORY_AHEAD, drain=not settled)
        yield from in_batches(
            ((self._settle(loaded) if isinstance(loaded, Samples) else loaded, size) for loaded, size in ahead),
            self.batch_size,
        )

    def load(self, image: ImageInput, *, source: str) -> LoadedImage | ImageError:
        """One image, whose value range is known."""
        try:
            samples = decode(image, source=source, max_megapixels=self.max_megapixels)
        except ImageError as error:
            return error
        return self._settle(samples)

    def _learn_ranges(self, images: Sequence[ImageInput], headers: Sequence[Header]) -> None:
        """Decodes the deep images of a batch once before, where there are several, to give them one value range."""
        deep = [(image, header.picture_bytes) for image, header in zip(images, headers, strict=True) if header.is_deep]
        if self.ranges.is_settled or len(deep) < 2:
            return

        def learn(image: ImageInput) -> None:
            with suppress(ImageError):  # reported when its turn comes
                self.ranges.learn(decode(image, max_megapixels=self.max_megapixels))

        for _ in in_order(self.pool, learn, deep, most=2 * self.workers, most_bytes=MEMORY_AHEAD):
            pass

    def _load(self, image: ImageInput, number: int, *, settled: bool) -> LoadedImage | Samples | ImageError:
        """Samples are handed on where they are deep and no value range is settled: it is found in the order of the images."""
        name = name_of(image)
        source = f"{name} {number}" if name in ("array", "bytes", "Pillow image") else name
        try:
            samples = decode(image, source=source, max_megapixels=self.max_megapixels)
        except ImageError as error:
            return error
        return self._settle(samples) if settled or not samples.is_deep else samples

    def _settle(self, samples: Samples) -> LoadedImage | ImageError:
        """The loaded image of these samples, on the value range of all."""
        try:
            picture = self.ranges.picture(samples)
            return LoadedImage(picture, to_array(picture, self.preprocess))
        except ImageError as error:
            return error
        except MemoryError:
            return ImageError(samples.source, NO_MEMORY)


def _sized(images: Iterable[ImageInput]) -> Iterator[tuple[ImageInput, int]]:
    """Images and the bytes of their pictures, one by one; arrays are copied, as a camera may refill its only buffer."""
    for image in images:
        own: ImageInput = image
        if isinstance(image, np.ndarray):
            own = image.copy()
        elif isinstance(image, bytearray | memoryview):
            own = bytes(image)
        yield own, read_header(own).picture_bytes
