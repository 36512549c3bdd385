"""The only image reader: every format, every kind of damage, one upright RGB picture."""

from __future__ import annotations

import io
import os
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from blemish.errors import ImageError, OutputError, UsageError
from blemish.images import Header, RangeGiven, Samples, ValueRanges, decode, read, read_header, save

RNG = np.random.default_rng(5)
RGB = RNG.integers(0, 256, (6, 9, 3), dtype=np.uint8)
DEEP = RNG.integers(0, 4096, (6, 9), dtype=np.uint16)
DEEP[0, 0] = 4095


def png(
    pixels: NDArray[np.integer], colour_type: int, bits: int, *chunks: tuple[bytes, bytes], filters=None, raw=None
) -> bytes:
    """A PNG written by hand, row filter by row filter, for what Pillow cannot write."""
    height, width = pixels.shape[:2]

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows = np.ascontiguousarray(pixels.astype(">u2" if bits == 16 else np.uint8)).view(np.uint8).reshape(height, -1)
    if raw is None:
        raw = encode_rows(rows, rows.shape[1] // width, filters or [0] * height)
    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    extra = b"".join(chunk(kind, body) for kind, body in chunks)
    data = chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + data


def encode_rows(rows: NDArray[np.uint8], step: int, filters: list[int]) -> bytes:
    """The slow and obvious PNG row filters."""
    out = b""
    for y, kind in enumerate(filters):
        line = bytearray([kind])
        for i, value in enumerate(rows[y]):
            left = int(rows[y][i - step]) if i >= step else 0
            up = int(rows[y - 1][i]) if y else 0
            corner = int(rows[y - 1][i - step]) if y and i >= step else 0
            estimate = left + up - corner
            nearest = min((left, up, corner), key=lambda near: abs(estimate - near))
            guess = (0, left, up, (left + up) // 2, nearest)[kind]
            line.append((int(value) - guess) % 256)
        out += bytes(line)
    return out


def as_bytes(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def tiff(array: NDArray[np.generic], **options: object) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, array, **options)
    return stream.getvalue()


# formats and 8-bit modes


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


# orientation


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


# more than 8 bits


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


# arrays and Pillow images


@pytest.mark.parametrize("array", [RGB, RGB[..., 0], np.dstack([RGB, np.full((6, 9), 255, np.uint8)]), RGB[..., :1]])
def test_uint8_arrays_are_pictures(array: NDArray[np.uint8]) -> None:
    expected = RGB if array.ndim == 3 and array.shape[2] >= 3 else np.stack([RGB[..., 0]] * 3, axis=-1)
    np.testing.assert_array_equal(read(array).pixels, expected)


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_floating_point_arrays_are_0_to_1(kind: type[np.floating]) -> None:
    picture = read((RGB / 255).astype(kind))
    assert picture.pixels.dtype == np.float32
    np.testing.assert_allclose(picture.pixels, RGB / 255, atol=1e-3)
    with pytest.raises(ImageError, match=r"0\.\.1"):
        read(RGB.astype(kind))


@pytest.mark.parametrize("shape", [(4,), (3, 4, 5), (2, 3, 4, 4), (4, 4, 2)])
def test_arrays_of_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ImageError, match=r"\[H, W\], \[H, W, 3\] or \[H, W, 4\], not"):
        read(np.zeros(shape, np.uint8))


@pytest.mark.parametrize("kind", [bool, np.int64, np.int8, np.complex64])
def test_arrays_of_other_types_are_refused(kind: type) -> None:
    with pytest.raises(ImageError, match="must be uint8, uint16 or floating-point"):
        read(np.zeros((4, 4), kind))


def test_arrays_without_pixels_are_refused() -> None:
    with pytest.raises(ImageError, match="no pixels"):
        read(np.zeros((0, 4, 3), np.uint8))


def test_pillow_images_are_read_and_left_alone() -> None:
    image = Image.fromarray(RGB)
    np.testing.assert_array_equal(read(image).pixels, RGB)
    assert image.mode == "RGB"
    assert read(Image.fromarray(DEEP)).value_range == (0, 4095)


def test_other_objects_are_refused() -> None:
    with pytest.raises(UsageError, match="not int"):
        read(5)  # type: ignore[arg-type]


def test_paths_and_buffers_of_any_kind_are_read(tmp_path: Path) -> None:
    path = save(RGB, tmp_path / "a.png")

    class Named:
        def __fspath__(self) -> str:
            return str(path)

    for item in (Named(), bytearray(path.read_bytes()), memoryview(path.read_bytes())):
        np.testing.assert_array_equal(read(item).pixels, RGB)
    assert read(Named()).source == path.as_posix()


# damage and limits


def one_line(error: pytest.ExceptionInfo[ImageError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "BMP", "WEBP"])
def test_truncated_files_are_one_clear_error(kind: str, tmp_path: Path) -> None:
    pixels = RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = as_bytes(Image.fromarray(pixels), kind)
    path = tmp_path / "cut.img"
    for size in (len(data) // 2, 40, 13):
        path.write_bytes(data[:size])
        with pytest.raises(ImageError, match=r"cannot be decoded|is not a|tifffile|cut off") as error:
            read(path)
        assert path.as_posix() in one_line(error)


@pytest.mark.parametrize("colour_type", [0, 2])
def test_damaged_deep_png_is_one_clear_error(colour_type: int) -> None:
    pixels = DEEP if colour_type == 0 else np.stack([DEEP] * 3, axis=-1)
    data = bytearray(png(pixels, colour_type, 16))
    for broken in (bytes(data[: len(data) // 2]), bytes(data[:60]) + b"\xff\xff\xff" + bytes(data[63:])):
        with pytest.raises(ImageError, match="cannot be decoded"):
            read(broken)


def test_truncated_deep_colour_tiff_is_one_clear_error() -> None:
    data = tiff(np.stack([DEEP] * 3, axis=-1), photometric="rgb")
    for size in (len(data) - 50, 60, 10):
        with pytest.raises(ImageError):
            read(data[:size])


@pytest.mark.parametrize("good_bytes", [0, 40, 140])
def test_a_drive_that_fails_while_it_is_read_is_an_image_error(
    good_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if size is None or size < 0 or self.tell() + size > good_bytes:
                raise OSError(5, "Input/output error")
            return super().read(size)

    content = png(DEEP, 0, 16)
    (tmp_path / "a.png").write_bytes(content)
    monkeypatch.setattr(Path, "open", lambda *_: Failing(content))
    with pytest.raises(ImageError, match=r"a\.png: .*[Ii]nput/output error"):
        read(tmp_path / "a.png")
    assert (read_header(tmp_path / "a.png").width_px == 0) == (good_bytes < 132)


def test_what_does_not_fit_into_memory_is_an_image_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(Image, "fromarray", refuse)
    monkeypatch.setattr(Image.Image, "convert", refuse)
    for item in (RGB, png(RGB, 2, 8)):
        with pytest.raises(ImageError, match="does not fit into memory"):
            read(item)


def test_noise_behind_a_signature_is_an_image_error() -> None:
    for signature in (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"BM", b"RIFF\x20\0\0\0WEBP"):
        for _ in range(20):
            with pytest.raises(ImageError):
                read(signature + RNG.bytes(200))


def test_files_that_are_no_images_say_so(tmp_path: Path) -> None:
    text, empty = tmp_path / "text.png", tmp_path / "empty.png"
    text.write_text("not an image at all")
    empty.touch()
    with pytest.raises(ImageError, match=r"text\.png: is not a JPEG, PNG, TIFF, BMP, WebP, GIF, .* or DICOM image"):
        read(text)
    with pytest.raises(ImageError, match=r"empty\.png: the file is empty"):
        read(empty)
    with pytest.raises(ImageError, match="is a folder"):
        read(tmp_path)
    with pytest.raises(ImageError, match="no such file"):
        read(tmp_path / "missing.png")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_is_refused_instead_of_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(ImageError, match="not a regular file"):
        read(tmp_path / "pipe.png")


def bomb(side: int = 30000, *, bits: int = 1, colour_type: int = 0) -> bytes:
    body = struct.pack(">IIBBBBB", side, side, bits, colour_type, 0, 0, 0)
    chunk = b"IHDR" + body
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))


@pytest.mark.parametrize(("bits", "colour_type"), [(1, 0), (16, 0), (16, 2), (8, 2)])
def test_too_many_pixels_are_refused_from_the_header(bits: int, colour_type: int) -> None:
    limit = Image.MAX_IMAGE_PIXELS
    tail = struct.pack(">I", 2) + b"IDAT" + b"xx" + struct.pack(">I", zlib.crc32(b"IDATxx"))
    with pytest.raises(ImageError, match=r"30000 x 30000 pixels are 900 megapixels, above the limit of 200"):
        read(bomb(bits=bits, colour_type=colour_type) + tail)
    assert limit == Image.MAX_IMAGE_PIXELS


def test_the_limit_is_an_option_and_pillows_own_does_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    np.testing.assert_array_equal(read(as_bytes(Image.fromarray(RGB), "PNG")).pixels, RGB)
    with pytest.raises(ImageError, match="limit of 5e-05"):
        read(RGB, max_megapixels=0.00005)


# writing


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".JPEG"])
def test_saved_images_come_back(suffix: str, tmp_path: Path) -> None:
    smooth = np.tile(np.arange(64, dtype=np.uint8)[:, None, None], (1, 64, 3))
    path = save(smooth, tmp_path / "new" / f"a{suffix}")
    assert abs(read(path).pixels.astype(int) - smooth).max() <= (0 if suffix == ".png" else 4)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_thin_lines_keep_their_colour_where_pictures_are_small(tmp_path: Path) -> None:
    for side, colours in ((767, ((1, 1), (1, 1), (1, 1))), (768, ((2, 2), (1, 1), (1, 1)))):
        with Image.open(save(np.zeros((side, 900, 3), np.uint8), tmp_path / "a.jpg")) as saved:
            assert tuple(layer[1:3] for layer in saved.layer) == colours  # type: ignore[attr-defined]


def test_saving_where_it_cannot_be_done_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"cannot be written"):
        save(RGB, tmp_path / "file" / "a.png")
    with pytest.raises(UsageError, match=r"\.png, \.jpg or \.jpeg"):
        save(RGB, tmp_path / "a.gif")
