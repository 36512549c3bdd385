"""What can be wrong with a folder of good images: defective ones, copies, several products."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from blemish.images import Picture

__all__ = ["ImageLook", "groups_of", "look_of", "near_copies", "suspicious"]

# Suspicious scores. For good scores that spread like a normal distribution, one folder in a hundred has a false suspicion; real
# scores have longer tails, so that more have (docs/profiles.md).
LEVEL = 0.01
FEWEST_TO_SUSPECT = 8
LEAST_SPREAD = 0.05  # of log odds: below it scores are alike for any purpose
MARGIN = 3.0  # spreads beyond where the highest of normal scores may lie: real scores have longer tails
SURE = 1e-6  # as near as a score comes to 0 or 1 before its log odds are taken

THUMBNAIL_PX = 32
BINS = 16  # of brightness, for each channel
BANDS = 6  # of spatial frequency
COPY_DISTANCE = 0.01  # root mean square of thumbnails in 0..1: what saving a JPEG again changes
COPY_SHARE = (
    0.2  # of the median distance to the nearest other image: photos of one pose are alike, a copy is much more so
)
GAP = 2.0  # times the usual long step between neighbours, where two products are told apart
LONG = 0.9  # the share of steps that are shorter than a usual long one
SMALLEST_GROUP, SMALLEST_GROUP_SHARE = 3, 0.1


@dataclass(frozen=True, eq=False)
class ImageLook:
    """A small summary of an image for comparisons with the others of its folder."""

    thumbnail: NDArray[np.float32]  # [32, 32, 3], 0..1
    texture: NDArray[np.float32]  # [features], how colours and spatial frequencies are spread, wherever they lie


def look_of(picture: Picture) -> ImageLook:
    """The look of an image."""
    from PIL import Image

    small = Image.fromarray(picture.as_bytes()).resize((THUMBNAIL_PX, THUMBNAIL_PX), Image.Resampling.BOX)
    thumbnail = np.asarray(small, np.float32) / np.float32(255)
    cumulative = [
        np.cumsum(np.histogram(channel, BINS, (0, 1))[0]) / channel.size for channel in np.moveaxis(thumbnail, 2, 0)
    ]
    grey = thumbnail.mean(2)
    power = np.abs(np.fft.rfft2(grey - grey.mean())) ** 2
    down, across = np.fft.fftfreq(THUMBNAIL_PX), np.fft.rfftfreq(THUMBNAIL_PX)
    radius = np.hypot(down[:, None], across[None])
    edges = np.linspace(0, 0.5, BANDS + 1)
    bands = [power[(radius > low) & (radius <= high)].mean() for low, high in pairwise(edges)]
    texture = np.concatenate([np.concatenate(cumulative), np.log10(np.array(bands) + 1e-3) / 4])
    return ImageLook(thumbnail, texture.astype(np.float32))


def suspicious(scores: Sequence[float]) -> list[int]:
    """The numbers of images whose score stands far above the others', the highest first; none among fewer than 8.

    The middle is the median of the log odds, and the spread that of the lower half, where defective images among the good ones
    hardly pull. What stands out is left out, and the others are looked at again, until none does.

    Example:
        >>> suspicious([0.10, 0.11, 0.12, 0.10, 0.13, 0.11, 0.12, 0.9, 0.11, 0.10])
        [7]
    """
    values = np.clip(np.asarray(scores, np.float64), SURE, 1 - SURE)
    odds = np.log(values / (1 - values))
    usual = np.ones(len(odds), bool)
    while usual.sum() >= FEWEST_TO_SUSPECT and (odds[usual] > (limit := _limit(odds[usual]))).any():
        usual &= odds <= limit
    found = np.flatnonzero(~usual)
    return [int(number) for number in found[np.argsort(-odds[found], kind="stable")]]


def _limit(odds: NDArray[np.float64]) -> float:
    """Above it a log odds is suspicious."""
    from scipy.special import ndtri

    middle = float(np.median(odds))
    spread = max(1.4826 * float(np.median(middle - odds[odds <= middle])), LEAST_SPREAD)
    return middle + (float(-ndtri(LEVEL / len(odds))) + MARGIN) * spread


def near_copies(looks: Sequence[ImageLook]) -> list[tuple[int, int]]:
    """Pairs of images that are nearly the same photo, each later one with the first that it is like."""
    if len(looks) < 2:
        return []
    distances = _distances(np.stack([look.thumbnail.ravel() for look in looks])) / np.sqrt(looks[0].thumbnail.size)
    np.fill_diagonal(distances, np.inf)
    usual = float(np.median(distances.min(1)))
    limit = min(COPY_DISTANCE, COPY_SHARE * usual) if usual > COPY_DISTANCE / 10 else COPY_DISTANCE / 10
    return [
        (number, int(earlier[0]))
        for number in range(1, len(looks))
        if len(earlier := np.flatnonzero(distances[number, :number] <= limit))
    ]


def groups_of(looks: Sequence[ImageLook]) -> tuple[list[int], list[int]] | None:
    """The images as two groups, the larger first, where they look like two products; None where they are one.

    The images are joined by the shortest tree of steps from image to image. Its longest step that has at least three images,
    and a tenth of all, on either side parts them in two if it is more than twice as long as nine tenths of the other steps.
    """
    from scipy.sparse.csgraph import connected_components, minimum_spanning_tree

    count = len(looks)
    if count < 2 * SMALLEST_GROUP + 1:
        return None
    distances = _distances(np.stack([look.texture for look in looks])) + 1e-6  # a tree has no steps of length 0
    tree = minimum_spanning_tree(distances).toarray()
    smallest = max(SMALLEST_GROUP, int(np.ceil(SMALLEST_GROUP_SHARE * count)))
    for step in np.argsort(-tree, axis=None)[: count - 1]:
        start, end = np.unravel_index(step, tree.shape)
        cut = tree.copy()
        cut[start, end] = 0
        _, labels = connected_components(cut, directed=False)
        members = [np.flatnonzero(labels == label) for label in (0, 1)]
        if min(map(len, members)) < smallest:
            continue
        if tree[start, end] <= GAP * np.quantile(cut[cut > 0], LONG):
            return None
        small, large = sorted(members, key=len)
        return large.tolist(), small.tolist()
    return None


def _distances(rows: NDArray[np.float32]) -> NDArray[np.float64]:
    """The distance [n, n] of each row [n, C] to each."""
    wide = rows.astype(np.float64)
    squares = (wide**2).sum(1)
    return np.sqrt(np.maximum(squares[:, None] + squares[None] - 2 * wide @ wide.T, 0))
