"""The reference images of one product that every image is compared with: found, drawn by lot where they are many, read once.

They are unlabelled "peers", or "references" that are known to be good. What is done with them is the engine's affair (with torch,
`methods.referenced` and the methods' own memories).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from blemish.backbones.config import PreprocessConfig
from blemish.engines.base import Engine
from blemish.errors import ImageError, UsageError
from blemish.images import DEFAULT_MEGAPIXELS, ImageInput, RangeGiven, ValueRanges, find_images
from blemish.inspection.loader import ImageLoader, LoadedImage, default_workers

__all__ = [
    "FEWEST_REFERENCES",
    "MOST_REFERENCES",
    "Comparing",
    "References",
    "draw_references",
    "find_references",
    "prepared_batches",
    "with_references",
]

T = TypeVar("T")

# a file, a folder (recursive) or a pattern; or the images themselves
References: TypeAlias = str | Path | list[ImageInput] | tuple[ImageInput, ...]

FEWEST_REFERENCES = 5  # the mean over a share of fewer says little
MOST_REFERENCES = 64  # of more, so many are drawn by lot: every image is compared with all of them
SEED = 0


@dataclass(frozen=True)
class Comparing:
    """An engine with references."""

    engine: Engine
    value_range: RangeGiven | None  # that images are to be read on with them
    notes: tuple[str, ...] = ()  # what was not taken of the references: lines for the user


def find_references(references: References, *, good: bool = False) -> list[ImageInput]:
    """The images meant: good ones all; of unlabelled ones `MOST_REFERENCES` at most, drawn by the same lot every time.

    Raises:
        UsageError: there are none, or fewer than `FEWEST_REFERENCES` unlabelled ones.
    """
    return _found_references(references, good=good)[0]


def _found_references(references: References, *, good: bool) -> tuple[list[ImageInput], tuple[str, ...]]:
    """The images meant, and lines about files and folders beside them that were not taken."""
    images: list[ImageInput]
    notes: tuple[str, ...] = ()
    if isinstance(references, str | Path):
        found = find_images(references)
        images, notes = list(found.paths), found.notes
    elif isinstance(references, list | tuple):
        images = list(references)
    else:
        raise UsageError(
            f"{_called(good)} are a folder, a pattern or a list of images, not {type(references).__name__}"
        )
    if good and not images:
        raise UsageError("references are at least one good image of the product, not an empty list")
    if not good and len(images) < FEWEST_REFERENCES:
        raise UsageError(f"peers are at least {FEWEST_REFERENCES} images of the same product, not {len(images)}")
    return images if good else draw_references(images), notes


def draw_references(images: Sequence[T], *, most: int = MOST_REFERENCES) -> list[T]:
    """Up to `most` of these, in their order; of more, the same are drawn every time."""
    if len(images) <= most:
        return list(images)
    chosen = np.sort(np.random.default_rng(SEED).permutation(len(images))[:most])
    return [images[index] for index in chosen]


def _called(good: bool) -> str:
    return "references" if good else "peers"


def with_references(
    engine: Engine,
    references: References,
    *,
    good: bool = False,
    value_range: RangeGiven | None = None,
    max_megapixels: float = DEFAULT_MEGAPIXELS,
    batch_size: int = 8,
    compare_px: int | None = None,
) -> Comparing:
    """An engine that compares each image with these, and the value range that images are to be read on with them.

    The range is that of the references where those have more than 8 bits. References that cannot be read are left out, and the
    notes name them.

    Raises:
        UsageError: too few can be read, they were read on several value ranges, or the engine compares at no other size.
    """
    images, beside = _found_references(references, good=good)
    engine = engine if compare_px is None else engine.comparing_at(compare_px)
    ranges: set[tuple[float, float]] = set()
    errors: list[ImageError] = []

    def batches() -> Iterator[NDArray[np.float32]]:
        for loaded in prepared_batches(
            images,
            preprocess=engine.input,
            value_range=value_range,
            max_megapixels=max_megapixels,
            batch_size=batch_size,
            errors=errors,
        ):
            ranges.update(image.picture.value_range for image in loaded if image.picture.value_range is not None)
            yield np.stack([image.pixels for image in loaded])

    try:
        compared = engine.with_references(batches(), good=good)
    except UsageError as error:
        raise UsageError(f"{_called(good)}: {error}{f' ({errors[0]})' if errors else ''}") from error
    if len(ranges) > 1:
        shown = ", ".join(f"{low:g}:{high:g}" for low, high in sorted(ranges))
        raise UsageError(f"the {_called(good)} have several value ranges ({shown}): give one for all images (--range)")
    unreadable = (f"unreadable: {error}" for error in errors)
    notes = tuple(f"{_called(good)}: {note}" for note in (*beside, *unreadable))
    return Comparing(compared, ranges.pop() if ranges else value_range, notes)


def prepared_batches(
    images: Sequence[ImageInput],
    *,
    preprocess: PreprocessConfig,
    value_range: RangeGiven | None = None,
    max_megapixels: float = DEFAULT_MEGAPIXELS,
    batch_size: int = 8,
    errors: list[ImageError] | None = None,
) -> Iterator[list[LoadedImage]]:
    """The images that can be read, in batches that are not empty; why others cannot goes to `errors`."""
    workers = default_workers()
    with ThreadPoolExecutor(workers, thread_name_prefix="blemish") as pool:
        loader = ImageLoader(
            preprocess=preprocess,
            ranges=ValueRanges(value_range),
            pool=pool,
            workers=workers,
            batch_size=batch_size,
            max_megapixels=max_megapixels,
        )
        for batch in loader.batches(images):
            if errors is not None:
                errors.extend(image for image in batch if isinstance(image, ImageError))
            if loaded := [image for image in batch if isinstance(image, LoadedImage)]:
                yield loaded
