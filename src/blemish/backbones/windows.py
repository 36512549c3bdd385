"""Embeddings of square windows of an image: each window goes through the image tower with no other patch beside it.

Dropping the other tokens equals masking their keys in every block, because all else in a block treats tokens one by one. All
windows of one side have the same number of tokens, so they are one batch.

B batch, N patches, W tower width, D joint width, s side of a window in patches, n windows of that side.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from blemish.backbones import fast
from blemish.backbones.vision import Embedding, Tower
from blemish.errors import UsageError

__all__ = ["embed_windows", "mean_over_windows", "window_patches"]

MOST_BYTES = 2**28  # of the widest layer of all windows that are computed together


@cache
def window_patches(grid: tuple[int, int], side: int) -> Tensor:
    """The patches of each window: numbers [n, s * s], row-major as the windows are by their top left patch (stride 1).

    Raises:
        UsageError: the grid has no window of that side.
    """
    rows, columns = grid
    if not 1 <= side <= min(grid):
        raise UsageError(f"windows of {side} x {side} patches do not fit into a grid of {rows} x {columns} patches")
    numbers = torch.arange(rows * columns).reshape(1, 1, rows, columns)
    return numbers.unfold(2, side, 1).unfold(3, side, 1).reshape(-1, side * side)


def embed_windows(tower: Tower, embedding: Embedding, *, side: int) -> Tensor:
    """The class embedding of every window in the joint space, [B, n, D], not normalised.

    Args:
        tower: The image tower.
        embedding: What its `embed` gives: the class token and the patches keep their own positions.
        side: Of a window, in patches.

    Raises:
        UsageError: the grid has no window of that side.
    """
    stream = embedding.tokens  # [B, 1 + N, W]
    patches = window_patches(embedding.grid, side).to(stream.device)  # [n, s * s]
    tokens = torch.cat(
        [patches.new_zeros(patches.shape[0], 1), 1 + patches], dim=1
    )  # the class token, then the patches
    bytes_each = tokens.shape[1] * round(tower.config.width * tower.config.mlp_ratio) * stream.element_size()
    at_once = max(1, MOST_BYTES // (bytes_each * len(stream)))
    found = []
    for some in torch.split(tokens, at_once):
        windows = stream[:, some].flatten(0, 1)  # [B, n, 1 + s * s, W] -> [B * n, 1 + s * s, W]
        features = fast.image_features(tower, Embedding(tokens=windows, grid=(side, side)), patches=False)
        class_tokens = features.tokens[:, 0]
        found.append(tower.project(class_tokens).reshape(stream.shape[0], len(some), -1))
    return torch.cat(found, dim=1)


def mean_over_windows(values: Tensor, grid: tuple[int, int], *, side: int, harmonic: bool = False) -> Tensor:
    """At each patch the mean of the values of all windows that cover it: [B, n] -> [B, rows, columns].

    Args:
        values: One for each window, in the order of `window_patches`; not negative where the mean is harmonic.
        grid: Rows and columns of patches.
        side: Of a window, in patches.
        harmonic: The harmonic mean, which follows the lowest values and is 0 where one of them is.
    """
    rows, columns = grid[0] - side + 1, grid[1] - side + 1
    values = values.reshape(values.shape[0], rows, columns)
    if harmonic:
        values = 1 / values
    total = values.new_zeros(values.shape[0], *grid)
    covering = values.new_zeros(grid)
    for row in range(side):
        for column in range(side):
            total[:, row : row + rows, column : column + columns] += values
            covering[row : row + rows, column : column + columns] += 1
    return covering / total if harmonic else total / covering
