"""TIFF of every sample format: the values as they are stored, or a refusal."""

from __future__ import annotations

import io
import sys
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from blemish import images
from blemish.errors import ImageError
from tiff_files import one_strip_tiff

RNG = np.random.default_rng(11)
TYPES = ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8")
PLAIN_CODINGS = (None, "zlib", "packbits", "lzma")
CODINGS = ("lzw", "zstd", "webp", "jpeg", "jpeg2000", "jpegxl", "jpegxr", "png", "lerc")


def pixels(kind: str, channels: int) -> NDArray[Any]:
    """Random values over the whole range of a type, both ends among them."""
    dtype, shape = np.dtype(kind), (17, 23) if channels == 1 else (17, 23, channels)
    if dtype.kind == "f":
        return RNG.random(shape).astype(dtype)
    limits = np.iinfo(dtype)
    values = RNG.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)
    values.flat[:2] = limits.min, limits.max
    return values


def tiff(array: NDArray[Any], **options: Any) -> bytes:
    stream = io.BytesIO()
    options = {"photometric": "rgb" if array.ndim == 3 else "minisblack", "metadata": None, **options}
    tifffile.imwrite(stream, array, **options)
    return stream.getvalue()


def assert_read(data: bytes, expected: NDArray[Any]) -> None:
    """That the samples are those values; uint8 ones as three channels."""
    samples = images.decode(data)
    if expected.dtype == np.uint8:
        assert samples.values.dtype == np.uint8
        expected = expected if expected.ndim == 3 else np.repeat(expected[..., None], 3, axis=2)
    np.testing.assert_array_equal(samples.values, expected)
    assert images.read_header(data) == images.Header(23, 17, expected.dtype != np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", TYPES)
def test_values_of_every_sample_format_are_those_stored(kind: str, channels: int) -> None:
    array = pixels(kind, channels)
    for order in "<>":
        for coding in PLAIN_CODINGS:
            assert_read(tiff(array, byteorder=order, compression=coding), array)
        if kind not in ("u8", "i8"):
            assert_read(tiff(array, byteorder=order, compression="zlib", predictor=True), array)
    assert_read(tiff(array, tile=(16, 16), compression="zlib"), array)
    assert_read(tiff(array, bigtiff=True), array)
    if channels == 3:
        planes = np.ascontiguousarray(np.moveaxis(array, -1, 0))
        assert_read(tiff(planes, planarconfig="separate", photometric="rgb"), array)


@pytest.mark.parametrize("coding", CODINGS)
def test_values_of_every_coding_are_those_stored(coding: str) -> None:
    pytest.importorskip("imagecodecs")
    lossless = {
        "jpegxr": {"level": 100},
        "webp": {"level": 101},
        "jpegxl": {"lossless": True},
        "jpeg": {"lossless": True},
    }
    options = {"compression": coding, "compressionargs": lossless.get(coding)}
    eight = pixels("u1", 3)
    if coding == "jpeg":
        smooth = np.add.outer(np.arange(17), np.arange(23))[..., None] * np.array([3, 2, 1])
        data = tiff(smooth.astype(np.uint8), compression="jpeg", compressionargs={"level": 100})
        assert abs(images.decode(data).values.astype(int) - smooth).mean() < 4
        return
    assert_read(tiff(eight, **options), eight)
    if coding != "webp":
        deep = pixels("u2", 3)
        assert_read(tiff(deep, **options), deep)
    if coding in ("lzw", "zstd"):
        for predictor in (False, True):
            for kind in ("i2", "f4", "f8"):
                deep = pixels(kind, 1)
                assert_read(tiff(deep, byteorder=">", predictor=predictor, **options), deep)


@pytest.mark.parametrize("bits", [9, 10, 12, 14])
def test_packed_bits_are_unpacked(bits: int) -> None:
    codecs = pytest.importorskip("imagecodecs")
    values = RNG.integers(0, 2**bits, (17, 24), dtype=np.uint16)
    packed = codecs.packints_encode(values, bits, runlen=24)
    data = one_strip_tiff(24, 17, bits=bits, samples=1, compression=1, data=bytes(packed))
    samples = images.decode(data)
    np.testing.assert_array_equal(samples.values, values)
    assert samples.declared_bits == bits


def test_white_is_zero_and_alpha_hold_in_rare_layouts_of_8_bits() -> None:
    grey = pixels("u1", 1)
    np.testing.assert_array_equal(
        images.decode(tiff(grey, photometric="miniswhite", compression="zstd")).values[..., 0], 255 - grey
    )
    rgba = np.dstack([pixels("u1", 3), np.zeros((17, 23), np.uint8)])
    planes = np.ascontiguousarray(np.moveaxis(rgba, -1, 0))
    data = tiff(planes, photometric="rgb", extrasamples=["unassalpha"], planarconfig="separate", compression="zlib")
    assert (images.decode(data).values == 255).all()


def test_whole_numbers_of_32_bits_and_more_keep_their_differences() -> None:
    values = np.array([[2**40, 2**40 + 1, 2**40 + 2]], np.uint64)
    picture = images.read(tiff(values), value_range=(2**40, 2**40 + 2))
    np.testing.assert_allclose(picture.pixels[0, :, 0], [0, 0.5, 1], atol=1e-6)
    small = images.read(tiff(np.array([[100_000_001, 100_000_003]], np.uint32)), value_range=(100_000_001, 100_000_003))
    np.testing.assert_allclose(small.pixels[0, :, 0], [0, 1], atol=1e-6)


def test_signed_bytes_are_not_taken_for_unsigned_ones() -> None:
    values = np.array([[-1, 5]], np.int8)
    with pytest.raises(ImageError, match="from -1 to 5"):
        images.read(tiff(values))
    np.testing.assert_allclose(images.read(tiff(values), value_range=(-1, 5)).pixels[0, :, 0], [0, 1])


@pytest.mark.parametrize("kind", ["c8", "c16"])
def test_complex_values_are_refused(kind: str) -> None:
    with pytest.raises(ImageError, match="not supported"):
        images.read(tiff(np.zeros((4, 5), kind)))


def test_values_that_are_not_numbers_are_refused_on_any_range() -> None:
    data = tiff(np.array([[0.5, np.nan]], np.float32))
    for value_range in (None, (0, 1), ("1%", "99%")):
        with pytest.raises(ImageError, match="NaN"):
            images.read(data, value_range=value_range)


def test_the_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    data = tiff(pixels("u2", 3), compression="lzw")
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    with pytest.raises(
        ImageError, match=r'compression LZW, 16 bits\) needs imagecodecs: pip install "blemish\[formats\]"'
    ):
        images.read(data)
    assert images.read(tiff(pixels("u2", 3), compression="zlib")).value_range == (0, 65535)
    monkeypatch.setitem(sys.modules, "tifffile", None)
    with pytest.raises(ImageError, match=r'pip install "blemish\[tiff\]"'):
        images.read(tiff(pixels("u2", 3)))


def test_raw_files_of_cameras_are_not_taken_for_their_thumbnails() -> None:
    data = bytearray(tiff(pixels("u1", 3)))
    data[8:10] = b"CR"
    with pytest.raises(ImageError, match="raw file"):
        images.read(bytes(data))
    dng = tiff(pixels("u1", 3), extratags=[(50706, "B", 4, (1, 4, 0, 0), True)])
    with pytest.raises(ImageError, match=r"raw file \(DNG\)"):
        images.read(dng)


def test_a_mask_keeps_its_values() -> None:
    ids = RNG.integers(0, 4, (17, 23), dtype=np.uint8)
    for data in (tiff(ids), tiff(ids, compression="zstd"), tiff(ids.astype(np.uint16), byteorder=">")):
        np.testing.assert_array_equal(images.read_mask(data).values, ids)
    palette = Image.fromarray(ids, "L").convert("P")
    stream = io.BytesIO()
    palette.save(stream, "TIFF")
    assert images.read_mask(stream.getvalue()).kind == "ids"
