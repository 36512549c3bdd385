"""From a map on the patch grid to a smooth one at the tower's input size, in one step.

Bilinear enlargement and a Gaussian are both linear and separable, so a map [h, w] becomes rows · map · columnsᵀ with one fixed
matrix a side: what the field does with two resampling passes over every pixel, a hundred times faster.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter1d
from torch import Tensor

__all__ = ["smooth_enlarge"]


def smooth_enlarge(maps: Tensor, *, cell_px: int, sigma_cells: float) -> Tensor:
    """Maps [B, h, w] enlarged bilinearly by `cell_px`, then smoothed by a Gaussian: [B, h · cell_px, w · cell_px].

    The Gaussian's sigma is sigma_cells · cell_px pixels, cut at four sigmas, with mirrored borders (scipy's defaults).
    """
    rows, columns = (_matrix(int(size), cell_px, sigma_cells * cell_px).to(maps) for size in maps.shape[-2:])
    return rows @ maps @ columns.T


@lru_cache(maxsize=16)
def _matrix(cells: int, cell_px: int, sigma_px: float) -> Tensor:
    """The matrix [cells · cell_px, cells] that enlarges and smooths one side."""
    each = torch.eye(cells, dtype=torch.float64)[:, None]  # [cells, 1, cells]
    enlarged = F.interpolate(each, scale_factor=cell_px, mode="linear", align_corners=False)[:, 0]  # [cells, S]
    smooth = (
        gaussian_filter1d(enlarged.numpy(), sigma_px, axis=1, mode="reflect", truncate=4.0) if sigma_px else enlarged
    )
    return torch.from_numpy(np.ascontiguousarray(np.asarray(smooth).T)).float()
