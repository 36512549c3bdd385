"""From maps to regions: where an image is anomalous, how much, and of which type."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.maps import Blob, enlarge, grow_blobs, polygon
from blemish.results import UNKNOWN, Region, lead

__all__ = ["find_regions", "peaks_inside"]


def find_regions(
    anomaly_map: NDArray[np.float32],
    size: tuple[int, int],
    *,
    threshold: float,
    min_area_px: float,
    types: tuple[str, ...] = (),
    type_maps: NDArray[np.float32] | None = None,
    min_lead: float = 0.0,
    mm_per_px: float | None = None,
) -> tuple[Region, ...]:
    """The regions of a map, the highest peak first.

    A region is 8-connected, reaches the threshold somewhere and reaches down to a share of its own peak (`maps.grow_blobs`).

    Args:
        anomaly_map: [h, w], 0..1; enlarged where it is not at original size.
        size: (width, height) of the original in pixels.
        threshold: the score that a region's peak reaches, 0..1.
        min_area_px: pixels of the smallest region.
        types: T names.
        type_maps: [T, h', w']; a region's type is that of the highest mean over its area.
        min_lead: where the likeliest type leads by less (`results.lead`), it is an unknown defect, and the likeliest type is the
            best guess, whose probability and margin these are.
        mm_per_px: side of a pixel, for regions with a size in millimetres.
    """
    if anomaly_map.max() < np.float32(threshold):  # enlarging never exceeds the maximum
        return ()
    scores = enlarge(anomaly_map, size)
    regions = []
    for blob in grow_blobs(scores, threshold=threshold, min_area_px=min_area_px):
        inside = scores[blob.slices][blob.pixels]
        best_guess, probability, margin = _type_of(blob, size, types, type_maps)
        name = best_guess
        if probability is not None and margin is not None and lead(probability, margin) < min_lead:
            name = UNKNOWN
        regions.append(
            Region(
                box_px=blob.box_px,
                area_px=len(inside),
                mean_score=float(inside.mean(dtype=np.float64)),
                peak_score=float(inside.max()),
                type=name,
                type_probability=probability,
                type_margin=margin,
                best_guess=best_guess,
                polygon_px=polygon(blob),
                **_in_mm(blob.box_px, len(inside), mm_per_px),
            )
        )
    return tuple(sorted(regions, key=lambda region: (-region.peak_score, -region.area_px, region.box_px)))


def peaks_inside(maps: NDArray[np.float32], inside: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The maximum of each map [T, h, w] over the cells that pixels of `inside` [height, width] lie in, [T]."""
    rows, row_starts = _cells(0, inside.shape[0], inside.shape[0], maps.shape[1])
    columns, column_starts = _cells(0, inside.shape[1], inside.shape[1], maps.shape[2])
    touched = np.logical_or.reduceat(np.logical_or.reduceat(inside, row_starts, axis=0), column_starts, axis=1)
    return np.array([one[np.ix_(rows, columns)][touched].max() for one in maps], np.float32)


def _in_mm(box_px: tuple[int, int, int, int], area_px: int, mm_per_px: float | None) -> dict[str, Any]:
    if mm_per_px is None:
        return {}
    x0, y0, x1, y1 = box_px
    return {"area_mm2": area_px * mm_per_px**2, "size_mm": ((x1 - x0) * mm_per_px, (y1 - y0) * mm_per_px)}


def _type_of(
    blob: Blob, size: tuple[int, int], types: tuple[str, ...], type_maps: NDArray[np.float32] | None
) -> tuple[str | None, float | None, float | None]:
    if type_maps is None or not types:
        return None, None, None
    means = _means_over(blob, size, type_maps)
    shares = means / max(float(means.sum()), 1e-12)
    order = np.argsort(-shares, kind="stable")
    second = float(shares[order[1]]) if len(types) > 1 else 0.0
    best = float(shares[order[0]])
    return types[int(order[0])], best, best - second


def _means_over(blob: Blob, size: tuple[int, int], maps: NDArray[np.float32]) -> NDArray[np.float64]:
    """The mean of each map [T, h, w] over the blob's pixels [T], each pixel taking the cell that it lies in."""
    x0, y0, x1, y1 = blob.box_px
    rows, row_starts = _cells(y0, y1, size[1], maps.shape[1])
    columns, column_starts = _cells(x0, x1, size[0], maps.shape[2])
    counts = np.add.reduceat(blob.pixels, row_starts, axis=0, dtype=np.int64)
    counts = np.add.reduceat(counts, column_starts, axis=1)  # pixels of the blob in each cell
    weights = counts / counts.sum()  # [rows, columns]
    return np.array([(one[np.ix_(rows, columns)] * weights).sum() for one in maps])  # [T], one type's map at a time


def _cells(start: int, stop: int, length_px: int, cells: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The cells that pixels start..stop lie in, and where each begins (an offset from start)."""
    index = ((np.arange(start, stop) + 0.5) * cells / length_px).astype(np.intp)
    found, first = np.unique(index, return_index=True)
    return found, first
