"""Images of more than 8 bits keep their values, on one value range a batch."""

from __future__ import annotations

import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from image_bytes import DEEP, RGB, RNG, as_bytes, png, tiff
from PIL import Image

from blemish.errors import ImageError, UsageError
from blemish.images import Header, RangeGiven, Samples, ValueRanges, decode, read, read_header


def test_undeclared_depth_is_the_smallest_that_holds_the_maximum() -> None:
    for maximum, high in [(5, 1023), (1023, 1023), (1024, 4095), (4096, 16383), (16384, 65535), (65535, 65535)]:
        picture = read(np.array([[0, maximum]], np.uint16))
        assert picture.value_range == (0, high)
        assert picture.pixels.dtype == np.float32
        np.testing.assert_allclose(picture.pixels[0, :, 0], [0, maximum / high], rtol=1e-6)


@pytest.mark.parametrize("order", ["<", ">"])
def test_16_bit_grey_keeps_its_values(order: str) -> None:
    expected = DEEP / np.float32(4095)
    for data in (png(DEEP, 0, 16), tiff(DEEP, byteorder=order), tiff(DEEP, byteorder=order, compression="zlib")):
        picture = read(data)
        assert picture.value_range == (0, 4095)
        np.testing.assert_allclose(picture.pixels, np.stack([expected] * 3, axis=-1), rtol=1e-6)


def test_one_batch_has_one_range() -> None:
    dark, bright = np.array([[0, 100]], np.uint16), np.array([[0, 5000]], np.uint16)
    ranges = ValueRanges()
    for array in (dark, bright):
        ranges.learn(decode(array))
    assert [ranges.picture(decode(array)).value_range for array in (dark, bright)] == [(0, 16383)] * 2


def test_without_a_batch_the_first_image_sets_the_range_and_a_brighter_one_is_refused() -> None:
    ranges = ValueRanges()
    assert ranges.picture(decode(np.array([[0, 4000]], np.uint16))).value_range == (0, 4095)
    assert ranges.picture(decode(np.array([[0, 9]], np.uint16))).value_range == (0, 4095)
    with pytest.raises(ImageError, match=r"holds values from 0 to 5000.*0:4095.*--range"):
        ranges.picture(decode(np.array([[0, 5000]], np.uint16)))


def test_png_depth_is_read_from_its_sbit_chunk() -> None:
    dark = np.minimum(DEEP, 200)
    assert read(png(dark, 0, 16)).value_range == (0, 1023)
    assert read(png(dark, 0, 16, (b"sBIT", b"\x0c"))).value_range == (0, 4095)
    colour = np.stack([dark] * 3, axis=-1)
    assert read(png(colour, 2, 16, (b"sBIT", b"\x0c\x0b\x0c"))).value_range == (0, 4095)


def test_png_that_is_scaled_to_16_bits_as_the_standard_asks_is_read_so() -> None:
    scaled = (DEEP.astype(np.uint32) * 65535 // 4095).astype(np.uint16)
    assert read(png(scaled, 0, 16, (b"sBIT", b"\x0c"))).value_range == (0, 65535)


@pytest.mark.parametrize("tag", [281, 341])
def test_tiff_depth_is_read_from_its_tags(tag: int) -> None:
    dark = np.minimum(DEEP, 200)
    assert read(tiff(dark)).value_range == (0, 1023)
    assert read(tiff(dark, extratags=[(tag, "H", 1, 4095, True)])).value_range == (0, 4095)
    statistic = read(tiff(dark, extratags=[(tag, "H", 1, 3977, True)]))
    assert statistic.value_range == (0, 1023)


def test_packed_12_bit_tiff_declares_its_depth() -> None:
    flat = np.array([[0, 4095], [2048, 100]], np.uint16)
    packed = b"".join(bytes([a >> 4, (a & 15) << 4 | b >> 8, b & 255]) for a, b in flat.tolist())
    picture = read(minimal_tiff(packed, width=2, height=2, bits=12))
    assert picture.value_range == (0, 4095)
    np.testing.assert_allclose(picture.pixels[..., 0], flat / 4095, rtol=1e-6)


def minimal_tiff(data: bytes, *, width: int, height: int, bits: int) -> bytes:
    entries = [(256, width), (257, height), (258, bits), (259, 1), (262, 1), (273, 8), (277, 1), (278, height)]
    entries.append((279, len(data)))
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", tag, 4, 1, v) for tag, v in entries)
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + directory + b"\0\0\0\0"


def test_a_given_range_holds_and_cuts_what_is_outside() -> None:
    picture = read(np.array([[50, 100, 200, 900]], np.uint16), value_range=(100, 300))
    assert picture.value_range == (100, 300)
    np.testing.assert_allclose(picture.pixels[0, :, 0], [0, 0, 0.5, 1])


def test_a_range_in_percentiles_cuts_that_share_of_the_pixels() -> None:
    ramp = np.arange(1001, dtype=np.uint16).reshape(7, 143) * 7 + 50
    picture = read(ramp, value_range=("1%", "95%"))
    assert picture.value_range == (50 + 70, 50 + 6650)
    assert ((picture.pixels[..., 0] == 0).sum(), (picture.pixels[..., 0] == 1).sum()) == (11, 51)
    assert read(ramp, value_range=(0, "95%")).value_range == (0, 50 + 6650)
    assert np.isfinite(read(np.full((3, 4), 7, np.uint16), value_range=("1%", "99%")).pixels).all()
    assert read(RGB, value_range=("1%", "99%")).value_range is None


def test_percentiles_of_a_batch_cut_no_more_from_any_of_its_images() -> None:
    rng = np.random.default_rng(0)
    batch = [rng.normal(mean, 90, (40, 50)).clip(0, 60000).astype(np.uint16) for mean in (900, 3000, 2000)]
    ranges = ValueRanges(("2%", "98%"))
    samples = [decode(image) for image in batch]
    for one in samples:
        ranges.learn(one)
    for picture in map(ranges.picture, samples):
        low, high = picture.value_range or (0, 0)
        assert (low, high) == (
            min(np.percentile(one, 2) for one in batch),
            max(np.percentile(one, 98) for one in batch),
        )
        assert ((picture.pixels[..., 0] == 0).mean() <= 0.021) & ((picture.pixels[..., 0] == 1).mean() <= 0.021)


def test_what_is_transparent_has_no_say_in_percentiles() -> None:
    samples = Samples(np.array([[0, 100, 200, 300]], np.uint16), "a", coverage=np.array([[0, 1, 1, 1]], np.float32))
    assert ValueRanges(("0%", "100%")).picture(samples).value_range == (100, 300)


def test_a_given_range_leaves_8_bit_images_alone() -> None:
    picture = read(RGB, value_range=(0, 4095))
    np.testing.assert_array_equal(picture.pixels, RGB)
    assert picture.value_range is None


@pytest.mark.parametrize(
    "bad", [(5, 5), (9, 1), (0, float("nan")), ("9%", "1%"), ("1%", "101%"), ("a", "b"), ("-1%", 9)]
)
def test_a_senseless_range_is_refused(bad: RangeGiven) -> None:
    with pytest.raises(UsageError, match="the lower one first"):
        read(RGB, value_range=bad)


def test_white_is_zero_tiff_is_inverted() -> None:
    picture = read(tiff(DEEP, photometric="miniswhite"))
    np.testing.assert_allclose(picture.pixels[..., 0], 1 - DEEP / 4095, atol=1e-6)


def test_signed_and_32_bit_grey_are_read_and_negative_values_refused() -> None:
    assert read(tiff(DEEP.astype(np.int16))).value_range == (0, 4095)
    assert read(tiff(DEEP.astype(np.int32))).value_range == (0, 4095)
    assert read(tiff(DEEP.astype(np.int32) * 100), value_range=(0, 409500)).pixels.max() == 1
    with pytest.raises(ImageError, match="value_range"):
        read(tiff(DEEP.astype(np.int32) * 100))
    with pytest.raises(ImageError, match="from -1 to"):
        read(tiff(DEEP.astype(np.int16) - 1 - DEEP.min().astype(np.int16)))


def test_floating_point_tiff_is_0_to_1() -> None:
    values = RNG.random((4, 5), np.float32)
    picture = read(tiff(values))
    assert picture.value_range == (0, 1)
    np.testing.assert_array_equal(picture.pixels[..., 0], values)
    with pytest.raises(ImageError, match=r"floating-point images are read as 0\.\.1"):
        read(tiff(values * 300))
    with pytest.raises(ImageError, match="NaN"):
        read(tiff(np.full((2, 2), np.nan, np.float32)))


@pytest.mark.parametrize(("colour_type", "channels"), [(2, 3), (4, 2), (6, 4)])
def test_16_bit_colour_png_keeps_its_values_through_every_row_filter(colour_type: int, channels: int) -> None:
    pixels = RNG.integers(0, 65536, (7, 5, channels), dtype=np.uint16)
    pixels[0, 0] = 65535
    if channels != 3:
        pixels[..., -1] = 65535
    picture = read(png(pixels, colour_type, 16, filters=[0, 1, 2, 3, 4, 4, 3]))
    colour = pixels[..., :1] if channels == 2 else pixels[..., :3]
    np.testing.assert_allclose(picture.pixels, np.broadcast_to(colour / 65535, (7, 5, 3)), atol=1e-6)


def test_16_bit_colour_png_with_interlace_is_read() -> None:
    pixels = RNG.integers(0, 65536, (9, 11, 3), dtype=np.uint16)
    raw = b""
    for y, x, dy, dx in (
        (0, 0, 8, 8),
        (0, 4, 8, 8),
        (4, 0, 8, 4),
        (0, 2, 4, 4),
        (2, 0, 4, 2),
        (0, 1, 2, 2),
        (1, 0, 2, 1),
    ):
        for row in pixels[y::dy, x::dx]:
            raw += b"\0" + row.astype(">u2").tobytes()
    data = bytearray(png(pixels, 2, 16, raw=raw))
    data[28] = 1
    data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
    np.testing.assert_array_equal(decode(bytes(data)).values, pixels)


def test_16_bit_alpha_is_laid_on_white() -> None:
    rgba = np.zeros((1, 2, 4), np.uint16)
    rgba[0, :, 3] = [65535, 0]
    rgba[0, 0, 0] = 65535
    np.testing.assert_array_equal(read(png(rgba, 6, 16)).pixels, [[[1, 0, 0], [1, 1, 1]]])
    np.testing.assert_array_equal(read(tiff(rgba, photometric="rgb", extrasamples=["unassalpha"])).pixels[0, 1], 1)
    np.testing.assert_array_equal(read(rgba).pixels, [[[1, 0, 0], [1, 1, 1]]])
    keyed = np.array([[[9, 9, 9], [65535, 0, 0]]], np.uint16)
    transparent = read(png(keyed, 2, 16, (b"tRNS", struct.pack(">3H", 9, 9, 9)))).pixels
    np.testing.assert_array_equal(transparent, [[[1, 1, 1], [1, 0, 0]]])
    grey = read(png(np.array([[7, 65535, 0]]), 0, 16, (b"tRNS", struct.pack(">H", 7)))).pixels
    np.testing.assert_array_equal(grey[0, :, 0], [1, 1, 0])


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_16_bit_colour_tiff_is_read_by_tifffile(planar: str) -> None:
    pixels = RNG.integers(0, 4096, (6, 9, 3), dtype=np.uint16)
    stored = pixels if planar == "contig" else np.moveaxis(pixels, -1, 0)
    data = tiff(stored, photometric="rgb", planarconfig=planar)
    assert read_header(data) == Header(9, 6, True)
    np.testing.assert_allclose(read(data).pixels, pixels / np.float32(4095), rtol=1e-6)


@pytest.mark.parametrize(
    ("channels", "options"),
    [
        (4, {"photometric": "separated"}),
        (5, {"photometric": "minisblack", "planarconfig": "contig"}),
        (4, {"photometric": "rgb", "extrasamples": ["assocalpha"]}),
    ],
)
def test_deep_layouts_without_a_plain_meaning_are_refused(channels: int, options: dict[str, object]) -> None:
    with pytest.raises(ImageError, match="not supported"):
        read(tiff(np.stack([DEEP] * channels, axis=-1), **options))


def test_deep_grey_tiff_with_alpha_is_laid_on_white() -> None:
    data = tiff(
        np.array([[[65535, 0], [0, 65535]]], np.uint16),
        photometric="minisblack",
        planarconfig="contig",
        extrasamples=["unassalpha"],
    )
    np.testing.assert_array_equal(read(data).pixels[0, :, 0], [1, 0])


def test_rare_tiff_layouts_of_8_bits_are_read() -> None:
    planes = np.moveaxis(RGB, -1, 0)
    data = tiff(np.ascontiguousarray(planes), photometric="rgb", planarconfig="separate")
    np.testing.assert_allclose(read(data).pixels / read(data).pixels.max(), RGB / RGB.max(), atol=1e-2)


def test_the_first_of_several_images_is_read() -> None:
    pages = [Image.fromarray(RGB), Image.fromarray(255 - RGB)]
    for kind, options in (("TIFF", {}), ("PNG", {}), ("WEBP", {"lossless": True})):
        data = as_bytes(pages[0], kind, save_all=True, append_images=pages[1:], **options)
        np.testing.assert_array_equal(read(data).pixels, RGB)


def test_names_that_no_file_can_have_are_image_errors() -> None:
    for name in ("a\0b.png", "x" * 5000 + ".png"):
        with pytest.raises(ImageError):
            read(name)


def test_16_bit_colour_tiff_without_tifffile_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    data = tiff(np.stack([DEEP] * 3, axis=-1), photometric="rgb")
    monkeypatch.setitem(sys.modules, "tifffile", None)
    with pytest.raises(ImageError, match=r'pip install "blemish\[tiff\]"'):
        read(data)


def test_the_header_tells_size_and_depth(tmp_path: Path) -> None:
    for deep in (png(DEEP, 0, 16), tiff(DEEP), DEEP, Image.fromarray(DEEP)):
        assert read_header(deep) == Header(9, 6, True)
    for kind in ("JPEG", "TIFF", "PNG", "BMP", "WEBP"):
        assert read_header(as_bytes(Image.fromarray(RGB), kind)) == Header(9, 6, False)
    assert read_header(RGB) == Header(9, 6, False)
    for bad in (tmp_path / "missing.png", b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", np.zeros(3), 5):
        assert read_header(bad) == Header(0, 0, False)  # type: ignore[arg-type]
    assert (Header(9, 6, False).picture_bytes, Header(9, 6, True).picture_bytes) == (RGB.nbytes, 4 * RGB.nbytes)
