"""Images are turned upright."""

from __future__ import annotations

import numpy as np
import pytest
from image_bytes import DEEP, RGB, as_bytes, png, tiff
from PIL import Image

from blemish.images import decode, read


def oriented(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


TURNS = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: np.rot90(np.fliplr(a)),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(np.fliplr(a), -1),
    8: np.rot90,
}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_exif_orientation_is_applied(kind: str, orientation: int) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    data = as_bytes(Image.fromarray(RGB), kind, exif=oriented(orientation), **options)
    np.testing.assert_array_equal(read(data).pixels, TURNS[orientation](RGB))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_to_jpeg(orientation: int) -> None:
    plain = read(as_bytes(Image.fromarray(RGB), "JPEG")).pixels
    turned = read(as_bytes(Image.fromarray(RGB), "JPEG", exif=oriented(orientation))).pixels
    np.testing.assert_array_equal(turned, TURNS[orientation](plain))


@pytest.mark.parametrize("orientation", [1, 3, 6, 7])
def test_exif_orientation_is_applied_to_deep_images(orientation: int) -> None:
    exif = oriented(orientation).tobytes().removeprefix(b"Exif\0\0")
    expected = TURNS[orientation](DEEP)
    np.testing.assert_array_equal(decode(png(DEEP, 0, 16, (b"eXIf", exif))).values, expected)
    colour = np.stack([DEEP] * 3, axis=-1)
    np.testing.assert_array_equal(decode(png(colour, 2, 16, (b"eXIf", exif))).values[..., 1], expected)
    tag = [(274, "H", 1, orientation, True)]
    np.testing.assert_array_equal(decode(tiff(DEEP, extratags=tag)).values, expected)
    deep_colour = decode(tiff(colour, photometric="rgb", extratags=tag))
    np.testing.assert_array_equal(deep_colour.values[..., 2], expected)


def test_damaged_exif_does_not_lose_the_image() -> None:
    data = as_bytes(Image.fromarray(RGB), "PNG", exif=b"Exif\0\0nonsense")
    np.testing.assert_array_equal(read(data).pixels, RGB)
