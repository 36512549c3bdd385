"""A few numbers of how an image looks, by which two series of images are compared."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from blemish.images import Picture

__all__ = ["STATISTICS", "statistics_of"]

# name: what it is
STATISTICS = {
    "brightness": "mean luminance, 0..1",
    "contrast": "standard deviation of the luminance, 0..1",
    "sharpness": "second differences of neighbouring pixels, as a share of the contrast, from 0",
    "colour": "mean of red less mean of blue, -1..1",
}
LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)  # of red, green and blue (ITU-R BT.601)
MOST_PIXELS = 2**18  # looked at, about: more say nothing new
LEAST_CONTRAST = 1e-3


def statistics_of(picture: Picture) -> dict[str, float]:
    """The numbers in `STATISTICS` of an image at its original size; of a large one, from evenly spread rows and columns.

    Example:
        >>> statistics_of(Picture(np.full((4, 4, 3), 51, np.uint8), "grey"))
        {'brightness': 0.2, 'contrast': 0.0, 'sharpness': 0.0, 'colour': 0.0}
    """
    pixels = picture.pixels
    step = max(1, math.ceil(math.sqrt(pixels.shape[0] * pixels.shape[1] / MOST_PIXELS)))
    first = step // 2  # the middle of each stretch
    rows, columns = _luminance(pixels[first::step]), _luminance(pixels[:, first::step]).T
    contrast = float(rows.std())
    change = float(np.mean([_second_difference(rows), _second_difference(columns)]))
    colour = _unit(pixels[first::step, first::step]).mean((0, 1))
    return {
        "brightness": round(float(rows.mean()), 6),
        "contrast": round(contrast, 6),
        "sharpness": round(change / max(contrast, LEAST_CONTRAST), 6),
        "colour": round(float(colour[0] - colour[2]), 6),
    }


def _unit(pixels: NDArray[np.uint8] | NDArray[np.float32]) -> NDArray[np.float32]:
    return pixels.astype(np.float32) / np.float32(255) if pixels.dtype == np.uint8 else pixels.astype(np.float32)


def _luminance(pixels: NDArray[np.uint8] | NDArray[np.float32]) -> NDArray[np.float32]:
    return _unit(pixels) @ LUMINANCE


def _second_difference(lines: NDArray[np.float32]) -> float:
    """The mean size of f(x - 1) - 2 f(x) + f(x + 1) along each line; 0 where lines are shorter than three pixels."""
    change = np.abs(np.diff(lines, n=2, axis=1))
    return float(change.mean()) if change.size else 0.0
