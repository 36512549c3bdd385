"""Masks: the values that a file holds, without any conversion of colour, and which of them are foreground."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from blemish.images import tiff
from blemish.images.reader import (
    DEFAULT_MEGAPIXELS,
    ImageInput,
    check_size,
    damage_reported,
    decode,
    kind_of,
    name_of,
    open_known,
    opened,
    orientation_of,
    upright,
)

__all__ = ["MaskValues", "read_mask", "read_size"]

GREY_FROM = 128  # a lossless mask that reaches this is a grey picture; one that stays below holds small ids
HALF = 127


@dataclass(frozen=True)
class MaskValues:
    """The upright values [H, W] of a mask file as it stores them: 1 bit as 0 and 255, a palette as its indices, 16 bits
    as they are, of several colours the highest; transparent parts are 0.

    kind: "lossy" values (JPEG) scatter about what was meant, "ids" are the indices of a palette, "plain" all others.
    """

    values: NDArray[Any]
    source: str
    kind: Literal["lossy", "ids", "plain"]

    def above(self, threshold: int | None) -> NDArray[np.bool_]:
        """The foreground [H, W]: the values above `threshold`.

        With None the file decides: lossy ones, and lossless ones that reach 128, are grey pictures (above 127); others hold
        small ids (above 0). An index of a palette is never a grey level: of those, all but 0 are foreground.
        """
        if self.kind == "ids":
            return np.asarray(self.values != 0)
        if threshold is None:
            grey = self.kind == "lossy" or (self.values.size and self.values.max() >= GREY_FROM)
            threshold = HALF if grey else 0
        return np.asarray(self.values > threshold)


def read_mask(item: ImageInput, *, source: str | None = None) -> MaskValues:
    """The values of one mask; an ImageError says why there are none."""
    source = name_of(item) if source is None else source
    if isinstance(item, np.ndarray | Image.Image):
        return MaskValues(_one_channel(decode(item, source=source).values), source, "plain")
    with opened(item, source) as stream:
        kind = kind_of(stream, source)
        with damage_reported(source):
            image = open_known(kind, stream)
        if image is not None and image.mode in ("1", "L", "P", "LA", "PA", "RGBA"):
            check_size(image.size, source, DEFAULT_MEGAPIXELS)
            with damage_reported(source):
                image.load()
                values = upright(_stored(image), orientation_of(image.getexif))
            palette = image.mode in ("P", "PA")
            return MaskValues(values, source, "ids" if palette else "lossy" if kind == "JPEG" else "plain")
    values = _one_channel(decode(item, source=source).values)
    return MaskValues(values, source, "lossy" if kind == "JPEG" else "plain")


def read_size(item: ImageInput, *, source: str | None = None) -> tuple[int, int]:
    """Width and height in pixels of the upright image, of files without decoding them; ImageError where it is unreadable."""
    source = name_of(item) if source is None else source
    if isinstance(item, np.ndarray | Image.Image):
        height, width = decode(item, source=source).values.shape[:2]
        return width, height
    with opened(item, source) as stream:
        kind = kind_of(stream, source)
        if kind == "PNG":
            data = stream.read()
            if b"eXIf" not in data and b"Raw profile type" not in data:  # Pillow would decode all to look for it
                if len(data) < 24:
                    stream.seek(0)
                    with damage_reported(source):
                        open_known(kind, stream)
                width, height = struct.unpack(">16xII", data[:24])
                return width, height
            stream.seek(0)
        with damage_reported(source):
            image = open_known(kind, stream)
        if image is None:
            with tiff.open_page(stream, source) as page:
                turned = page.orientation >= 5
                return (page.height, page.width) if turned else (page.width, page.height)
        if kind == "TIFF" and image.getexif().get(tiff.ORIENTATION, 1) >= 5:
            with damage_reported(source):
                image.load()  # Pillow turns it
            return image.size
        width, height = image.size
        return (height, width) if orientation_of(image.getexif) >= 5 and kind != "TIFF" else (width, height)


def _stored(image: Image.Image) -> NDArray[Any]:
    values = np.asarray(image)
    if image.mode == "1":
        return values.astype(np.uint8) * np.uint8(255)
    if image.mode in ("LA", "PA"):
        return np.where(values[..., 1] > 0, values[..., 0], 0)
    if image.mode == "RGBA":
        return np.where(values[..., 3] > 0, values[..., :3].max(axis=2), 0)
    return values


def _one_channel(values: NDArray[Any]) -> NDArray[Any]:
    return values if values.ndim == 2 else values.max(axis=2)
