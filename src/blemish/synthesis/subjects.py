"""A good image as something that defects can be put into: where its thing is, its edges, its parts, its structure."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from blemish.data.files import Box
from blemish.synthesis.fields import Field, Random
from blemish.synthesis.shapes import Pixels, blur, resized, slopes
from blemish.synthesis.spots import Circle, Where, luminance

__all__ = ["Place", "Subject"]


MAP_PX = 128  # longer side of the small copies on which places are chosen
WHOLE = 0.97  # share of the foreground from which on a thing fills its image


@dataclass(frozen=True)
class Place:
    """Where a defect goes."""

    x: float  # in pixels of the image, as y
    y: float
    outward: float  # at an edge, the way out of the thing, in radians
    part: Circle | None = None  # the part that the defect is about, if any


@dataclass(frozen=True)
class Subject:
    """A good image and what is known of it."""

    pixels: NDArray[Any]  # [H, W, 3], uint8, or float32 in 0..1
    foreground: Field  # [h, w], 0..1, of the whole image at any resolution: where the inspected thing is
    behind: Pixels  # [h, w, 3], 0..1, likewise: what shows where the thing is missing
    light: float  # direction that it comes from, in radians
    parts: tuple[Circle, ...] = ()  # what is mounted, printed or repeated
    grain: float = 0.0  # spread of the noise
    softness: float = 0.0  # of its edges: a Gaussian's sigma in pixels; 0 for none to be matched
    grey: bool = False  # it has no colours
    material: str = "a surface"

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return int(self.pixels.shape[0]), int(self.pixels.shape[1])

    @cached_property
    def fills_image(self) -> bool:
        """Whether the thing fills the image to its borders."""
        return float(self.foreground.mean()) > WHOLE

    def place(self, rng: Random, where: Where, extent: float) -> Place:
        """A place of the wanted kind; at random on the thing where there is none."""
        if where == "part" and self.parts:
            part = self.parts[int(rng.integers(len(self.parts)))]
            return Place(part[0], part[1], rng.uniform(0, 2 * np.pi), part)
        if where in ("edge", "part"):
            return self._edge(rng) if where == "edge" or not self.fills_image else self._structure(rng)
        if where == "structure":
            return self._structure(rng)
        return self._inside(rng, extent)

    def crop(self, window: Box, n: int) -> Pixels:
        """The pixels in a window, float32 [n, n, 3] in 0..1; mirrored where it reaches beyond the image."""
        part, paddings, small = _cut(self.shape, window, n)
        left, top, right, bottom = part
        pixels = self.pixels[top:bottom, left:right]
        if small is not None and pixels.dtype == np.uint8:
            pixels = np.asarray(Image.fromarray(np.ascontiguousarray(pixels)).resize(small, Image.Resampling.BOX))
        elif small is not None:
            pixels = np.stack([resized(pixels[..., c], *small, smooth=False) for c in range(3)], -1)
        if pixels.dtype == np.uint8:
            pixels = pixels.astype(np.float32) / np.float32(255)
        return np.pad(pixels, (*paddings, (0, 0)), mode="symmetric").astype(np.float32, copy=False)

    def crop_foreground(self, window: Box, n: int) -> Field:
        """Where the thing is in the window, [n, n] in 0..1."""
        return _sampled(self.foreground, self.shape, window, n)

    def crop_behind(self, window: Box, n: int) -> Pixels:
        """What shows behind the thing in the window, [n, n, 3]."""
        return np.stack([_sampled(self.behind[..., c], self.shape, window, n) for c in range(3)], -1)

    def _inside(self, rng: Random, extent: float) -> Place:
        height, width = self.shape
        fh, fw = self.foreground.shape
        margin = min(0.04, 0.3 * extent / min(height, width))
        x, y = width / 2, height / 2
        for _ in range(30):
            x, y = rng.uniform(margin, 1 - margin) * width, rng.uniform(margin, 1 - margin) * height
            if self.foreground[int(y * fh / height), int(x * fw / width)] > 0.5:
                break
        return Place(float(x), float(y), rng.uniform(0, 2 * np.pi))

    def _edge(self, rng: Random) -> Place:
        height, width = self.shape
        rows, columns, outward = self._outline
        if self.fills_image or not len(rows):  # the border of the image is all that is seen of the edge
            side, along = int(rng.integers(4)), rng.uniform(0.15, 0.85)
            corner = rng.random() < 0.3
            x, y, out = [
                (width, along * height, 0.0),
                (along * width, height, np.pi / 2),
                (0, along * height, np.pi),
                (along * width, 0, -np.pi / 2),
            ][side]
            if corner:
                right, low = bool(rng.random() < 0.5), bool(rng.random() < 0.5)
                x, y = width * right, height * low
                out = float(np.arctan2(1 if low else -1, 1 if right else -1))
            return Place(float(x), float(y), out + rng.normal(0, 0.2))
        at = int(rng.integers(len(rows)))
        small_height, small_width = self._small.shape[:2]
        x, y = (columns[at] + 0.5) * width / small_width, (rows[at] + 0.5) * height / small_height
        return Place(float(x), float(y), float(outward[at]))

    def _structure(self, rng: Random) -> Place:
        height, width = self.shape
        places, outward = self._structured
        if not len(places):
            return self._inside(rng, 0.0)
        at = int(rng.integers(len(places)))
        small_height, small_width = self._small.shape[:2]
        x, y = (places[at, 1] + 0.5) * width / small_width, (places[at, 0] + 0.5) * height / small_height
        return Place(float(x), float(y), float(outward[at]))

    @cached_property
    def _small(self) -> Pixels:
        height, width = self.shape
        scale = min(1.0, MAP_PX / max(height, width))
        size = max(1, round(width * scale)), max(1, round(height * scale))
        if self.pixels.dtype == np.uint8:
            image = Image.fromarray(self.pixels).resize(size, Image.Resampling.BOX, reducing_gap=2.0)
            return np.asarray(image, np.float32) / np.float32(255)
        return np.stack([resized(self.pixels[..., c], *size, smooth=False) for c in range(3)], -1)

    @cached_property
    def _outline(self) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.floating]]:
        """Rows, columns and outward directions of the thing's outline on the small copy, not those on the image's border."""
        small_height, small_width = self._small.shape[:2]
        thing = resized(self.foreground, small_width, small_height, smooth=False)
        down, right = slopes(blur(thing, 2.0))
        line = (thing > 0.5) & (ndimage.minimum_filter(thing, 3) < 0.5)
        line[[0, -1], :] = line[:, [0, -1]] = False
        rows, columns = np.nonzero(line)
        return rows, columns, np.arctan2(-down[line], -right[line])

    @cached_property
    def _structured(self) -> tuple[NDArray[np.intp], NDArray[np.floating]]:
        """Places [k, 2] (row, column) on the small copy with strong edges, and the direction across these [k]."""
        small_height, small_width = self._small.shape[:2]
        grey = blur(luminance(self._small), 1.0)
        down, right = slopes(grey)
        steep = np.hypot(down, right) * (resized(self.foreground, small_width, small_height, smooth=False) > 0.5)
        rim = max(1, small_height // 16)
        steep[:rim], steep[-rim:], steep[:, :rim], steep[:, -rim:] = 0, 0, 0, 0
        strong = steep >= max(float(np.quantile(steep, 0.9)), 1e-3)
        return np.argwhere(strong), np.arctan2(down[strong], right[strong])


def _cut(
    shape: tuple[int, int], window: Box, n: int
) -> tuple[Box, tuple[tuple[int, int], tuple[int, int]], tuple[int, int] | None]:
    """The part of the image in the window, what must be added around it in pixels of the patch, and the part's size there."""
    height, width = shape
    left, top, right, bottom = max(window[0], 0), max(window[1], 0), min(window[2], width), min(window[3], height)
    scale = n / (window[2] - window[0])
    edges = [
        round(value * scale) for value in (left - window[0], right - window[0], top - window[1], bottom - window[1])
    ]
    edges[1], edges[3] = max(edges[1], edges[0] + 1), max(edges[3], edges[2] + 1)
    small = None if scale == 1 else (edges[1] - edges[0], edges[3] - edges[2])
    return (left, top, right, bottom), ((edges[2], n - edges[3]), (edges[0], n - edges[1])), small


def _sampled(field: Field, shape: tuple[int, int], window: Box, n: int) -> Field:
    part, paddings, small = _cut(shape, window, n)
    left, top, right, bottom = part
    if field.shape == shape and small is None:
        return np.pad(field[top:bottom, left:right], paddings, mode="symmetric")
    across, down = field.shape[1] / shape[1], field.shape[0] / shape[0]
    size = (right - left, bottom - top) if small is None else small
    image = Image.fromarray(np.asarray(field, np.float32))
    box = (left * across, top * down, right * across, bottom * down)
    return np.pad(np.asarray(image.resize(size, Image.Resampling.BILINEAR, box=box)), paddings, mode="symmetric")
