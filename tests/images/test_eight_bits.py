"""Formats and modes of 8 bits become one upright RGB picture."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from image_bytes import RGB, as_bytes
from PIL import Image

from blemish.images import read


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP"])
def test_lossless_formats_come_back_exactly(kind: str) -> None:
    picture = read(as_bytes(Image.fromarray(RGB), kind))
    assert picture.pixels.dtype == np.uint8
    assert picture.value_range is None
    np.testing.assert_array_equal(picture.pixels, RGB)


def test_lossless_webp_comes_back_exactly() -> None:
    np.testing.assert_array_equal(read(as_bytes(Image.fromarray(RGB), "WEBP", lossless=True)).pixels, RGB)


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_lossy_formats_equal_pillow(kind: str) -> None:
    data = as_bytes(Image.fromarray(RGB), kind)
    with Image.open(io.BytesIO(data)) as image:
        np.testing.assert_array_equal(read(data).pixels, np.asarray(image.convert("RGB")))


def test_grey_becomes_three_equal_channels() -> None:
    grey = RGB[..., 0]
    np.testing.assert_array_equal(read(as_bytes(Image.fromarray(grey), "PNG")).pixels, np.stack([grey] * 3, axis=-1))


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP"])
def test_one_bit_becomes_black_and_white(kind: str) -> None:
    bits = RGB[..., 0] > 127
    pixels = read(as_bytes(Image.fromarray(bits), kind)).pixels
    np.testing.assert_array_equal(pixels[..., 0], np.where(bits, 255, 0))


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_grey_of_few_bits_spans_black_to_white(bits: int) -> None:
    data = as_bytes(Image.fromarray(np.zeros((1, 8), np.uint8)), "PNG")
    body = struct.pack(">IIBBBBB", 8, 1, bits, 0, 0, 0, 0)
    rows = zlib.compress(b"\0" + b"\xff" * bits)
    start = data.index(b"IHDR") - 4
    chunks = b"".join(
        struct.pack(">I", len(b)) + k + b + struct.pack(">I", zlib.crc32(k + b))
        for k, b in ((b"IHDR", body), (b"IDAT", rows), (b"IEND", b""))
    )
    assert (read(data[:start] + chunks).pixels == 255).all()


def test_cmyk_is_converted() -> None:
    cmyk = Image.fromarray(RGB).convert("CMYK")
    data = as_bytes(cmyk, "JPEG", quality=100)
    with Image.open(io.BytesIO(data)) as image:
        assert image.mode == "CMYK"
    assert abs(read(data).pixels.astype(int) - RGB).mean() < 20
    np.testing.assert_array_equal(read(as_bytes(cmyk, "TIFF")).pixels, RGB)


def test_palette_is_looked_up() -> None:
    palette = Image.fromarray(RGB).quantize(16)
    np.testing.assert_array_equal(read(as_bytes(palette, "PNG")).pixels, np.asarray(palette.convert("RGB")))


def test_transparent_palette_entry_shows_white() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    np.testing.assert_array_equal(read(as_bytes(image, "PNG", transparency=1)).pixels, [[[10, 20, 30], [255] * 3]])


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_alpha_is_laid_on_white(kind: str) -> None:
    rgba = np.zeros((1, 3, 4), np.uint8)
    rgba[0, :, 3] = [255, 0, 51]
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    pixels = read(as_bytes(Image.fromarray(rgba), kind, **options)).pixels
    np.testing.assert_array_equal(pixels[0, :, 0], [0, 255, 204])


def test_grey_with_alpha_is_laid_on_white() -> None:
    pixels = read(as_bytes(Image.fromarray(np.array([[[7, 255], [7, 0]]], np.uint8), "LA"), "PNG")).pixels
    np.testing.assert_array_equal(pixels[0, :, 0], [7, 255])


def test_transparent_colour_shows_white() -> None:
    pixels = np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8)
    data = as_bytes(Image.fromarray(pixels), "PNG", transparency=(4, 5, 6))
    np.testing.assert_array_equal(read(data).pixels, [[[1, 2, 3], [255] * 3]])
