"""Good photos as subjects: what can be told of a picture about which nothing is known but that it is good."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from blemish.synthesis.fields import Field
from blemish.synthesis.shapes import Pixels, blur
from blemish.synthesis.spots import Circle, luminance
from blemish.synthesis.subjects import Subject

__all__ = ["subject_of"]

MAP_PX = 256  # longer side of the copy on which thing and background are told apart
RIM = 0.03  # share of the side that is taken for background, if it is plain
PLAIN = 0.05  # spread of the rim's colours up to which it is plain
UNLIKE = 0.07  # distance from the rim's colour from which a pixel belongs to the thing
SHARES = (0.03, 0.92)  # a foreground outside this range is none
MOST_PARTS = 40  # more blobs than this are a texture
GRAIN_PX = 512


def subject_of(pixels: NDArray[np.uint8], *, light: float, thing: str = "a surface") -> Subject:
    """The photo [H, W, 3] as a subject. A plain rim is background, and what differs from it the thing; otherwise all is thing.

    Compact spots that stand out are its parts. `light` (radians) is a guess that serves all defects of one picture.
    """
    small = _small(pixels)
    foreground = _foreground(small)
    return Subject(
        pixels=pixels,
        foreground=foreground,
        behind=_behind(small, foreground),
        light=light,
        parts=_parts(small, foreground, pixels.shape[1] / small.shape[1]),
        grain=_grain(pixels),
        softness=0.5,
        grey=is_grey(pixels),
        material=thing,
    )


def is_grey(pixels: NDArray[np.uint8]) -> bool:
    """Whether all channels are the same."""
    return bool(np.array_equal(pixels[..., 0], pixels[..., 1]) and np.array_equal(pixels[..., 1], pixels[..., 2]))


def _small(pixels: NDArray[np.uint8]) -> Pixels:
    height, width = pixels.shape[:2]
    scale = min(1.0, MAP_PX / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    image = Image.fromarray(pixels).resize(size, Image.Resampling.BOX, reducing_gap=2.0)
    return np.asarray(image, np.float32) / np.float32(255)


def _foreground(small: Pixels) -> Field:
    height, width = small.shape[:2]
    everywhere = np.ones((height, width), np.float32)
    rim = max(1, round(RIM * min(height, width)))
    border = np.ones((height, width), bool)
    border[rim : height - rim, rim : width - rim] = False
    colour = np.median(small[border], 0)
    spread = float(np.median(np.abs(small[border] - colour)))
    if spread > PLAIN:
        return everywhere
    unlike = np.abs(small - colour).max(-1)
    near = np.stack([blur(small[..., c], 1.0) for c in range(3)], -1)
    thing = np.maximum(np.abs(near - colour).max(-1), 0.5 * unlike) > max(UNLIKE, 4 * spread)
    thing = ndimage.binary_opening(thing, iterations=2)
    thing = ndimage.binary_fill_holes(ndimage.binary_closing(thing, iterations=2)) | thing
    if not SHARES[0] < thing.mean() < SHARES[1] or thing[border].mean() > 0.4:
        return everywhere
    return np.clip(blur(thing, 0.7), 0, 1)


def _behind(small: Pixels, foreground: Field) -> Pixels:
    """The background carried on under the thing; where all is thing, something dark."""
    if foreground.min() > 0.5:
        return np.full((*foreground.shape, 3), 0.06, np.float32)
    keep = (ndimage.binary_dilation(foreground > 0.05, iterations=3) == 0).astype(np.float32)
    if not keep.any():
        return np.broadcast_to(np.median(small.reshape(-1, 3), 0), small.shape).astype(np.float32)
    total, weight = np.zeros(small.shape), np.full((*foreground.shape, 1), 1e-9)
    for sigma, share in ((6.0, 1.0), (40.0, 1e-3)):
        total += share * np.stack([blur(small[..., c] * keep, sigma).clip(0) for c in range(3)], -1)
        weight += share * blur(keep, sigma).clip(0)[..., None]
    filled = total / weight
    return np.where(keep[..., None] > 0, small, filled).astype(np.float32)


def _parts(small: Pixels, foreground: Field, scale: float) -> tuple[Circle, ...]:
    """Compact spots that stand out from the thing around them, as (x, y, radius) in pixels of the photo."""
    thing = ndimage.binary_erosion(foreground > 0.5, iterations=2, border_value=1)
    if not thing.any():
        return ()
    grey = luminance(small)
    grey = np.where(thing, grey, np.median(grey[thing]))  # so that its outline does not stand out
    unlike = np.abs(blur(grey, 1.0) - blur(grey, 12.0)) * thing
    spread = float(np.median(unlike[thing]))
    labels, count = ndimage.label(unlike > max(0.08, 5 * spread))
    if not 0 < count <= 4 * MOST_PARTS:
        return ()
    parts = []
    areas = np.bincount(labels.ravel())
    for index, found in enumerate(ndimage.find_objects(labels), 1):
        tall, wide = found[0].stop - found[0].start, found[1].stop - found[1].start
        radius = max(tall, wide) / 2
        if radius < 3 or radius > 0.16 * min(grey.shape) or areas[index] < 0.45 * np.pi * radius**2:
            continue
        x, y = (found[1].start + found[1].stop) / 2, (found[0].start + found[0].stop) / 2
        parts.append((x * scale, y * scale, (radius + 2) * 1.15 * scale))
    return tuple(parts) if len(parts) <= MOST_PARTS else ()


def _grain(pixels: NDArray[np.uint8]) -> float:
    """The spread of the noise in 0..1, from second differences in the middle of the photo, which smooth shades do not raise."""
    height, width = pixels.shape[:2]
    top, left = max(0, (height - GRAIN_PX) // 2), max(0, (width - GRAIN_PX) // 2)
    part = pixels[top : top + GRAIN_PX, left : left + GRAIN_PX, 1].astype(np.float32) / np.float32(255)
    if part.shape[1] < 3:
        return 0.0
    second = part[:, 2:] - 2 * part[:, 1:-1] + part[:, :-2]
    return float(min(0.05, np.median(np.abs(second)) * 1.4826 / np.sqrt(6)))
