"""The one colour scale of scores, and the colours of verdicts and defect types; all told apart by colour-blind eyes.

The scale is absolute: a colour stands for the same score on every image inspected with the same pixel threshold, and is
never stretched to an image's own range. Colours are those of Okabe and Ito (2008), darkened at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from blemish.maps.visible import COLOUR_LEVELS, TRANSPARENT_SHARE

__all__ = [
    "NEUTRAL",
    "TYPE_COLOURS",
    "VERDICT_COLOURS",
    "Colour",
    "heat",
    "scale_position",
    "type_colour",
]

Colour = tuple[int, int, int]

VERDICT_COLOURS: dict[str, Colour] = {"ok": (0, 158, 115), "review": (230, 159, 0), "ng": (213, 94, 0)}
TYPE_COLOURS: tuple[Colour, ...] = ((86, 180, 233), (0, 114, 178), (204, 121, 167), (0, 158, 115))
NEUTRAL: Colour = (225, 225, 225)  # of a defect without a type, or of an unknown one

# Position on the scale, red, green, blue, opacity. 0.5 is the pixel threshold, 1 is score 1.
STOPS = (
    (0.00, 240, 228, 66, 0.00),
    (TRANSPARENT_SHARE / 2, 240, 228, 66, 0.00),
    (0.50, 240, 190, 40, 0.38),
    (0.70, 224, 120, 0, 0.58),
    (0.85, 205, 65, 15, 0.68),
    (1.00, 120, 10, 60, 0.78),
)


def type_colour(name: str | None, types: Sequence[str]) -> Colour:
    """The colour of a type, by its place among `types`, every fourth the same; neutral where it has no name among them."""
    return TYPE_COLOURS[types.index(name) % len(TYPE_COLOURS)] if name is not None and name in types else NEUTRAL


def scale_position(scores: NDArray[np.float32], pixel_threshold: float) -> NDArray[np.float32]:
    """Where scores lie on the scale: 0 for score 0, 0.5 at the pixel threshold, 1 for score 1, straight in between."""
    below = 0.5 / pixel_threshold if pixel_threshold > 0 else 0.0
    above = 0.5 / (1 - pixel_threshold) if pixel_threshold < 1 else 0.0
    position = np.where(
        scores < pixel_threshold, scores * np.float32(below), 0.5 + (scores - pixel_threshold) * np.float32(above)
    )
    return np.clip(position, 0, 1).astype(np.float32)


def heat(scores: NDArray[np.float32], pixel_threshold: float) -> NDArray[np.uint8]:
    """Scores [...] in 0..1 as colours with opacity [..., 4]; what is well below the pixel threshold is transparent."""
    levels = np.clip(scores * np.float32(COLOUR_LEVELS - 1) + np.float32(0.5), 0, COLOUR_LEVELS - 1).astype(np.uint16)
    packed = _table(pixel_threshold).view(np.uint32)[:, 0]  # a colour as one number: four times quicker to look up
    return packed[levels].view(np.uint8).reshape(*scores.shape, 4)


@lru_cache(maxsize=8)
def _table(pixel_threshold: float) -> NDArray[np.uint8]:
    position = scale_position(np.linspace(0, 1, COLOUR_LEVELS, dtype=np.float32), pixel_threshold)
    stops = np.array(STOPS)
    channels = [np.interp(position, stops[:, 0], stops[:, column]) for column in (1, 2, 3)]
    opacity = np.interp(position, stops[:, 0], stops[:, 4]) * 255
    return np.stack([*channels, opacity], axis=-1).round().astype(np.uint8)
