"""What metrics accept: finite maps, binary masks of the same size, binary labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from blemish.errors import UsageError
from blemish.maps import label

__all__ = ["MaskRegions", "checked_labels", "checked_map", "checked_mask", "find_mask_regions"]


def checked_map(anomaly_map: ArrayLike, mask: ArrayLike) -> tuple[NDArray[np.floating[Any]], NDArray[np.bool_]]:
    """The map [H, W], float32 where it was, else float64, and the mask [H, W] as booleans.

    UsageError where the shapes differ, a score is not finite, or the mask holds anything but 0 and 1.
    """
    scores, truth = np.asarray(anomaly_map), np.asarray(mask)
    if scores.shape != truth.shape:
        raise UsageError(f"a map of {scores.shape} and a mask of {truth.shape} cannot be compared")
    if scores.ndim != 2 or scores.size == 0:
        raise UsageError(f"a map has two dimensions and at least one pixel, not the shape {scores.shape}")
    return _finite(scores, "map"), checked_mask(truth)


def checked_labels(scores: ArrayLike, labels: ArrayLike) -> tuple[NDArray[np.floating[Any]], NDArray[np.bool_]]:
    """Scores [n] and labels [n] (0 normal, 1 anomalous), any equal shape, flattened; UsageError as for maps."""
    values, truth = np.asarray(scores), np.asarray(labels)
    if values.shape != truth.shape:
        raise UsageError(f"scores of {values.shape} and labels of {truth.shape} cannot be compared")
    return _finite(values.ravel(), "scores"), checked_mask(truth.ravel(), kind="label")


def checked_mask(mask: NDArray[Any], *, kind: str = "mask") -> NDArray[np.bool_]:
    """The mask as booleans; UsageError where it holds anything but 0 and 1."""
    if mask.dtype == bool:
        return mask
    if mask.size == 0:
        return mask.astype(bool)
    if mask.dtype.kind not in "iuf" or not ((mask == 0) | (mask == 1)).all():
        content = f"{mask.min():g}..{mask.max():g}" if mask.dtype.kind in "iuf" else f"{mask.dtype}"
        raise UsageError(f"a {kind} holds only 0 (normal) and 1 (anomalous), this one holds {content}")
    return mask.astype(bool)


def _finite(scores: NDArray[Any], what: str) -> NDArray[np.floating[Any]]:
    if scores.dtype.kind not in "fiub":
        raise UsageError(f"scores are numbers, not {scores.dtype}")
    values = scores if scores.dtype == np.float32 else scores.astype(np.float64)
    if not np.isfinite(values).all():
        raise UsageError(
            f"the {what} must be finite: {int((~np.isfinite(values)).sum())} of {values.size} scores are not"
        )
    return values


@dataclass(frozen=True, eq=False)
class MaskRegions:
    """The R regions of one mask, 8-connected, and its M anomalous pixels in the order in which the mask selects them."""

    areas_px: NDArray[np.int64]  # [R]
    region_of: NDArray[np.int64]  # [M], the number of each pixel's region, 0..R-1


def find_mask_regions(mask: NDArray[np.bool_]) -> MaskRegions:
    """The regions of a mask [H, W]; only the box around its pixels is labelled."""
    rows = np.flatnonzero(mask.any(axis=1))
    if not len(rows):
        return MaskRegions(np.zeros(0, np.int64), np.zeros(0, np.int64))
    columns = np.flatnonzero(mask.any(axis=0))
    inside = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    labels, count = label(inside)
    region_of = labels[inside].astype(np.int64) - 1
    return MaskRegions(np.bincount(region_of, minlength=count), region_of)
