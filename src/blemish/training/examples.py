"""The images of a data set with their truth at the tower's size, and whether they are fit to train on.

B batch, n images, S side of the tower's input in pixels.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from blemish.data.samples import DataSet, Sample
from blemish.errors import ImageError, UsageError
from blemish.inspection.loader import MEMORY_AHEAD, PICTURE_BYTES
from blemish.io.prefetch import in_order
from blemish.io.progress import Reporter
from blemish.maps import mask_at
from blemish.methods.base import Targets
from blemish.models.feature_cache import FeatureStore

__all__ = ["Examples", "examine", "require_both_classes", "require_masks"]

MOST_NAMED = 10
UNKNOWN_TYPE = -1


@dataclass(frozen=True)
class Examples:
    """The readable samples of a data set, each with its truth.

    digests stand for the images' content; anomalous and has_mask [n]; type_ids [n] count from 1 in `types`, 0 is normal, -1 a
    defect that nobody named; mask_bits [n, ceil(S * S / 8)] are the masks at S x S, eight pixels a byte (2,000 of 518 px take
    67 MB). cached [n] says which features were found whole; unreadable are the errors of the images that were left out.
    """

    samples: tuple[Sample, ...]
    digests: tuple[str, ...]
    sizes_px: tuple[tuple[int, int], ...]
    anomalous: NDArray[np.bool_]
    has_mask: NDArray[np.bool_]
    type_ids: NDArray[np.int64]
    types: tuple[str, ...]
    mask_bits: NDArray[np.uint8]
    size: int
    cached: NDArray[np.bool_]
    unreadable: tuple[ImageError, ...] = ()

    def __len__(self) -> int:
        return len(self.samples)

    def masks(self, rows: Sequence[int] | NDArray[np.int64]) -> NDArray[np.bool_]:
        """The masks [B, S, S] of these images; all false where there is none."""
        bits = np.unpackbits(self.mask_bits[rows], axis=1, count=self.size**2)
        return bits.reshape(-1, self.size, self.size).astype(bool)

    def targets(self, rows: Sequence[int] | NDArray[np.int64]) -> Targets:
        """The truth of a batch of these images."""
        return Targets(
            label=torch.from_numpy(self.anomalous[rows].astype(np.int64)),
            mask=torch.from_numpy(self.masks(rows).astype(np.float32)),
            has_mask=torch.from_numpy(self.has_mask[rows]),
            type_id=torch.from_numpy(self.type_ids[rows]),
            products=tuple(self.samples[row].product for row in rows),
        )

    def identity(self) -> str:
        """16 hex digits that change with any image, label, type, mask, or their order."""
        digest = hashlib.sha256()
        for row, sample in enumerate(self.samples):
            kind = int(self.type_ids[row])
            truth = f"{self.anomalous[row]} {self.has_mask[row]} {self.types[kind - 1] if kind > 0 else kind}"
            digest.update(f"{sample.name} {self.digests[row]} {truth}".encode())
            digest.update(self.mask_bits[row].tobytes())
        return digest.hexdigest()[:16]

    def counts(self) -> dict[str, int | dict[str, int]]:
        """How many images of each kind there are, for a card."""
        named = Counter(self.types[kind - 1] for kind in self.type_ids.tolist() if kind > 0)
        return {
            "images": len(self),
            "normal": int((~self.anomalous).sum()),
            "anomalous": int(self.anomalous.sum()),
            "anomalous_with_mask": int((self.anomalous & self.has_mask).sum()),
            "by_type": dict(sorted(named.items())),
        }

    def empty_masks(self) -> int:
        """How many anomalous images have a mask of which nothing is left at the tower's size."""
        return int((self.anomalous & self.has_mask & ~self.mask_bits.any(axis=1)).sum())


@dataclass(frozen=True)
class _Seen:
    """What one look at a sample found."""

    sample: Sample
    digest: str
    size_px: tuple[int, int]
    anomalous: bool
    defect_type: str
    mask: NDArray[np.uint8] | None  # packed
    cached: bool


def examine(
    data: DataSet,
    *,
    size: int,
    store: FeatureStore | None = None,
    skip_unreadable: bool = False,
    reporter: Reporter | None = None,
) -> Examples:
    """Every sample of a data set looked at once: its content's digest, its truth at `size` x `size` pixels, its features.

    A picture is decoded unless its features are in the store, so that a bad file is found before hours of work. UsageError
    names what cannot be read or paired with its mask, unless `skip_unreadable` leaves it out; also where nothing is left.
    """
    if not data.samples:
        raise UsageError(f"{data.name}: there are no images to look at ({data.variant or 'no samples'})")

    def look(sample: Sample) -> _Seen | ImageError:
        try:
            return _look(sample, size=size, store=store)
        except ImageError as error:
            return error

    found: list[_Seen] = []
    errors: list[ImageError] = []
    workers = min(8, os.cpu_count() or 1)
    reporter = reporter or Reporter()
    with (
        ThreadPoolExecutor(workers, thread_name_prefix="blemish") as pool,
        reporter.progress(f"reading {data.name}", len(data.samples)) as advance,
    ):
        work = ((sample, PICTURE_BYTES) for sample in data.samples)
        try:
            for seen, _ in in_order(pool, look, work, most=4 * workers, most_bytes=MEMORY_AHEAD):
                if isinstance(seen, ImageError):
                    errors.append(seen)
                else:
                    found.append(seen)
                advance()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    if errors and not skip_unreadable:
        raise UsageError(
            f"{len(errors)} of {len(data.samples)} images of {data.name} cannot be used: {_named(errors)}; "
            "mend them, or leave them out with --skip-unreadable"
        )
    if not found:
        raise UsageError(f"{data.name}: none of {len(errors)} images can be used: {_named(errors)}")
    return _collected(found, size=size, unreadable=tuple(errors))


def require_both_classes(examples: Examples, name: str) -> None:
    """Raises UsageError where a set has normal images only, or none."""
    if not examples.anomalous.any():
        raise UsageError(f"{name}: all {len(examples)} images are normal; it takes normal and anomalous ones")
    if examples.anomalous.all():
        raise UsageError(
            f"{name}: all {len(examples)} images are anomalous; it takes normal ones, too, to tell them apart"
        )


def require_masks(examples: Examples, name: str) -> None:
    """Raises UsageError where not one anomalous image has a mask."""
    if not (examples.anomalous & examples.has_mask).any():
        raise UsageError(
            f"{name}: none of {int(examples.anomalous.sum())} anomalous images has a mask; "
            "training teaches places, and at least some must be drawn"
        )


def _look(sample: Sample, *, size: int, store: FeatureStore | None) -> _Seen:
    digest = sample.digest()
    size_px = None if store is None else store.size_px(digest)
    cached = size_px is not None
    if size_px is None:
        picture = sample.picture()
        size_px = (picture.width_px, picture.height_px)
    mask = sample.mask()
    if mask is not None and mask.shape[::-1] != size_px:
        width, height = mask.shape[::-1]
        raise ImageError(
            sample.name, f"its mask is {width} x {height} px, the image {size_px[0]} x {size_px[1]}: they do not fit"
        )
    packed = None if mask is None else np.packbits(mask_at(mask, size))
    return _Seen(sample, digest, size_px, sample.anomalous, sample.defect_type, packed, cached)


def _collected(found: Sequence[_Seen], *, size: int, unreadable: tuple[ImageError, ...]) -> Examples:
    types = tuple(sorted({seen.defect_type for seen in found if seen.defect_type}))
    ids = {name: number for number, name in enumerate(types, 1)} | {"": UNKNOWN_TYPE}
    bits = np.zeros((len(found), (size**2 + 7) // 8), np.uint8)
    for row, seen in enumerate(found):
        if seen.mask is not None:
            bits[row] = seen.mask
    return Examples(
        samples=tuple(seen.sample for seen in found),
        digests=tuple(seen.digest for seen in found),
        sizes_px=tuple(seen.size_px for seen in found),
        anomalous=np.array([seen.anomalous for seen in found], bool),
        has_mask=np.array([seen.mask is not None for seen in found], bool),
        type_ids=np.array([ids[seen.defect_type] if seen.anomalous else 0 for seen in found], np.int64),
        types=types,
        mask_bits=bits,
        size=size,
        cached=np.array([seen.cached for seen in found], bool),
        unreadable=unreadable,
    )


def _named(errors: Sequence[ImageError]) -> str:
    more = f"; and {len(errors) - MOST_NAMED} more" if len(errors) > MOST_NAMED else ""
    return "; ".join(str(error) for error in errors[:MOST_NAMED]) + more
