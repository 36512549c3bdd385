"""Images in, batches of prepared ones out: decoded in background threads, a bounded number ahead, on one value range a batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice

import numpy as np
from torch import Tensor

from blemish.backbones.config import PreprocessConfig
from blemish.backbones.preprocess import to_tensor
from blemish.errors import ImageError
from blemish.images import Header, ImageInput, Picture, Samples, ValueRanges, decode, read_header
from blemish.images.reader import name_of
from blemish.io.prefetch import in_order

__all__ = ["NO_MEMORY", "Intake", "Prepared"]

NO_MEMORY = "does not fit into memory"
MEMORY_AHEAD = 512 * 2**20  # bytes of decoded pictures to read ahead at most


@dataclass(frozen=True)
class Prepared:
    """A picture and its tensor [3, S, S]."""

    picture: Picture
    tensor: Tensor


@dataclass(frozen=True, kw_only=True)
class Intake:
    """How images become prepared ones: the preprocessing, the value ranges of their batch, the limits of size and number.
    `pool` reads them, in `workers` threads."""

    preprocess: PreprocessConfig
    ranges: ValueRanges
    pool: ThreadPoolExecutor
    workers: int
    batch_size: int
    max_megapixels: float

    def batches(self, images: Iterable[ImageInput], *, start: int = 0) -> Iterator[list[Prepared | ImageError]]:
        """Prepared images in batches, the errors among them in their places; smaller ones where pictures are large.

        Of a sequence, up to two batches are read ahead, and the first `start` images are left out: they only have their say in
        the value range. Any other iterable is asked for one batch and, before that is done, for no more: a camera's next
        image may take its time.
        """
        sized: Iterable[tuple[ImageInput, int]] = _sized(images)
        most, settled = self.batch_size, False
        if isinstance(images, Sequence):
            headers = list(self.pool.map(read_header, images))
            self._learn_ranges(images, headers)
            sized = zip(images, [header.picture_bytes for header in headers], strict=True)
            most, settled = 2 * self.batch_size, True

        def prepare(numbered: tuple[int, ImageInput]) -> Prepared | Samples | ImageError:
            return self._prepare(numbered[1], numbered[0], settled=settled)

        batch: list[Prepared | ImageError] = []
        held = 0
        work = (((number, image), size) for number, (image, size) in islice(enumerate(sized), start, None))
        for prepared, size in in_order(self.pool, prepare, work, most=most, most_bytes=MEMORY_AHEAD, drain=not settled):
            if batch and held + size > MEMORY_AHEAD:
                yield batch
                batch, held = [], 0
            batch.append(self._settle(prepared) if isinstance(prepared, Samples) else prepared)
            held += size
            if len(batch) == self.batch_size:
                yield batch
                batch, held = [], 0
        if batch:
            yield batch

    def _learn_ranges(self, images: Sequence[ImageInput], headers: Sequence[Header]) -> None:
        """Decodes the deep images of a batch once before, where there are several, to give them one value range."""
        deep = [(image, header.picture_bytes) for image, header in zip(images, headers, strict=True) if header.is_deep]
        if self.ranges.is_fixed or len(deep) < 2:
            return

        def learn(image: ImageInput) -> None:
            with suppress(ImageError):  # reported when its turn comes
                self.ranges.learn(decode(image, max_megapixels=self.max_megapixels))

        for _ in in_order(self.pool, learn, deep, most=2 * self.workers, most_bytes=MEMORY_AHEAD):
            pass

    def _prepare(self, image: ImageInput, number: int, *, settled: bool) -> Prepared | Samples | ImageError:
        """Samples are handed on where they are deep and no value range is settled: it is found in the order of the images."""
        name = name_of(image)
        source = f"{name} {number}" if name in ("array", "bytes", "Pillow image") else name
        try:
            samples = decode(image, source=source, max_megapixels=self.max_megapixels)
        except ImageError as error:
            return error
        return self._settle(samples) if settled or not samples.is_deep else samples

    def _settle(self, samples: Samples) -> Prepared | ImageError:
        """Samples as a picture and its tensor."""
        try:
            picture = self.ranges.picture(samples)
            return Prepared(picture, to_tensor(picture, self.preprocess))
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
