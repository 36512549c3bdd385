"""Good images read once: batches for an engine's memory, and what a profile keeps of each."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from blemish.errors import ImageError, UsageError
from blemish.images import Picture, ValueRanges
from blemish.inspection.inspector import Inspected, Inspector
from blemish.inspection.loader import ImageLoader, LoadedImage
from blemish.inspection.scoring import inside_of
from blemish.io.progress import Reporter
from blemish.profiles import GoodImage
from blemish.profiles.checks import ImageLook, look_of
from blemish.profiles.drift import Seen
from blemish.profiles.statistics import statistics_of

__all__ = ["GoodReader", "ReadImage", "score_good_images"]


@dataclass(frozen=True, eq=False)
class ReadImage:
    """A good image that was read, without its pixels."""

    path: Path
    good: GoodImage  # not yet scored
    look: ImageLook


class GoodReader:
    """Reads good images with an inspector's settings, each distinct one once.

    Args:
        inspector: Whose engine prepares the images, and whose masks say which pixels count.
        paths: The files.
        known: Digests of images that are in a profile already; they are left out.
        reporter: Is told how the work goes on.
    """

    def __init__(
        self,
        inspector: Inspector,
        paths: Sequence[Path],
        *,
        known: Sequence[str] = (),
        reporter: Reporter | None = None,
    ) -> None:
        self.read: list[ReadImage] = []
        self.unreadable: list[ImageError] = []
        self.copies: list[tuple[Path, Path]] = []  # files with the pixels of another one, and that one
        self.known: list[Path] = []  # files with the pixels of an image that is known
        self.ranges: set[tuple[float, float]] = set()
        self._inspector = inspector
        self._paths = list(paths)
        self._known = set(known)
        self._reporter = reporter or Reporter()

    def batches(self) -> Iterator[NDArray[np.float32]]:
        """The images that count, prepared, [B, 3, S, S]; `read` and the rest grow with them.

        Raises:
            UsageError: Images with more than 8 bits do not share one value range.
        """
        inspector = self._inspector
        first: dict[str, Path] = {image.good.digest: image.path for image in self.read}
        paths = iter(self._paths)
        with (
            ThreadPoolExecutor(inspector.workers, thread_name_prefix="blemish") as pool,
            self._reporter.progress("learning", len(self._paths)) as advance,
        ):
            loader = ImageLoader(
                preprocess=inspector.engine.input,
                ranges=ValueRanges(inspector.value_range),
                pool=pool,
                workers=inspector.workers,
                batch_size=inspector.batch_size,
                max_megapixels=inspector.max_megapixels,
            )
            for batch in loader.batches(self._paths):
                kept = []
                named = [(next(paths), image) for image in batch]
                described = pool.map(lambda pair: self._describe(*pair), named)
                for (path, image), found in zip(named, described, strict=True):
                    advance()
                    if isinstance(found, ImageError):
                        self.unreadable.append(found)
                    elif found.good.digest in self._known:
                        self.known.append(path)
                    elif found.good.digest in first:
                        self.copies.append((path, first[found.good.digest]))
                    else:
                        assert isinstance(image, LoadedImage)
                        first[found.good.digest] = path
                        self.read.append(found)
                        kept.append(image.pixels)
                        if image.picture.value_range is not None:
                            self.ranges.add(image.picture.value_range)
                if kept:
                    yield np.stack(kept)
        if len(self.ranges) > 1:
            shown = ", ".join(f"{low:g}:{high:g}" for low, high in sorted(self.ranges))
            raise UsageError(f"the good images have several value ranges ({shown}): give one for all images (--range)")

    def _describe(self, path: Path, image: LoadedImage | ImageError) -> ReadImage | ImageError:
        if isinstance(image, ImageError):
            return image
        picture = image.picture
        try:
            inside_of(self._inspector.masks, image.source, image.size_px, picture.inside)  # a mask of another size
        except ImageError as error:
            return error
        return ReadImage(path, unscored(picture), look_of(picture))


def score_good_images(
    inspector: Inspector, paths: Sequence[Path], *, reporter: Reporter | None = None
) -> tuple[list[ReadImage], list[ImageError]]:
    """Good images that an inspector scores because they are not in its memory, and those that cannot be read."""
    read: list[ReadImage] = []
    unreadable: list[ImageError] = []
    remaining = iter(paths)
    with (reporter or Reporter()).progress("scoring", len(paths)) as advance:
        for outcome in inspector.stream(list(paths)):
            path = next(remaining)
            advance()
            if isinstance(outcome, ImageError):
                unreadable.append(outcome)
                continue
            assert isinstance(outcome, Inspected)
            inspection, good = outcome.inspection, unscored(outcome.picture)
            seen = replace(good.seen, image_score=inspection.image_score)
            scored = replace(good, seen=seen, map_peak=float(inspection.map_peak or 0))
            read.append(ReadImage(path, scored, look_of(outcome.picture)))
    return read, unreadable


def unscored(picture: Picture) -> GoodImage:
    """What a profile keeps of an image, before it is scored and remembered."""
    pixels = np.ascontiguousarray(picture.pixels)
    digest = hashlib.sha256(f"{pixels.shape} {pixels.dtype}".encode() + pixels.tobytes()).hexdigest()[:16]
    return GoodImage(
        source=picture.source,
        digest=digest,
        seen=Seen(
            size_px=(picture.width_px, picture.height_px),
            is_deep=picture.value_range is not None,
            statistics=statistics_of(picture),
        ),
        map_peak=None,
        memory_digest=None,
    )
