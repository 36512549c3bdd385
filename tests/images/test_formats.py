"""HEIC, AVIF, JPEG 2000, JPEG XL, PGM/PPM, GIF and TGA: the values that they hold, or a line that says what is missing."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, features

from blemish import images
from blemish.errors import ImageError
from blemish.images import SUFFIXES, isolation

Y, X = np.mgrid[:48, :64]
SMOOTH = np.stack([X * 3, Y * 4, X + Y], axis=-1).astype(np.uint8)
DEEP = SMOOTH.astype(np.uint16) * 200 + 7


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def heic(image: Image.Image, **options: Any) -> bytes:
    pillow_heif = pytest.importorskip("pillow_heif")
    stream = io.BytesIO()
    pillow_heif.from_pillow(image).save(stream, **{"quality": -1, "chroma": 444, **options})
    return stream.getvalue()


def codecs() -> Any:
    return pytest.importorskip("imagecodecs")


def test_heic_is_read_in_its_colours_and_upright() -> None:
    np.testing.assert_allclose(images.read(heic(Image.fromarray(SMOOTH))).pixels, SMOOTH, atol=4)
    grey = images.read(heic(Image.fromarray(SMOOTH[..., 0]))).pixels
    np.testing.assert_allclose(grey, np.repeat(SMOOTH[..., :1], 3, axis=2), atol=4)
    exif = Image.Exif()
    exif[0x0112] = 6
    data = heic(Image.fromarray(SMOOTH), exif=exif.tobytes())
    np.testing.assert_allclose(images.read(data).pixels, np.rot90(SMOOTH, -1), atol=4)
    assert images.read_size(data) == (48, 64)
    clear = Image.fromarray(np.dstack([SMOOTH, np.zeros((48, 64), np.uint8)]))
    assert (images.read(heic(clear)).pixels == 255).all()


def test_heic_of_10_bits_keeps_them() -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    stream = io.BytesIO()
    pillow_heif.from_bytes(mode="RGB;16", size=(64, 48), data=(DEEP).tobytes()).save(stream, quality=-1, chroma=444)
    samples = images.decode(stream.getvalue())
    assert (samples.declared_bits, samples.values.dtype) == (10, np.uint16)
    np.testing.assert_allclose(samples.values, DEEP >> 6, atol=8)
    assert images.read(stream.getvalue()).value_range == (0, 1023)


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
def test_avif_is_read_in_8_and_in_10_bits() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = saved(Image.fromarray(SMOOTH), "AVIF", quality=100, exif=exif)
    np.testing.assert_allclose(images.read(data).pixels, np.rot90(SMOOTH, -1), atol=6)
    assert images.read_size(data) == (48, 64)
    samples = images.decode(bytes(codecs().avif_encode(DEEP >> 6, level=100, bitspersample=10)))
    assert samples.declared_bits == 10
    np.testing.assert_allclose(samples.values, DEEP >> 6, atol=8)


@pytest.mark.parametrize("container", [True, False])
def test_jpeg_2000_keeps_its_values(container: bool) -> None:
    np.testing.assert_array_equal(
        images.read(saved(Image.fromarray(SMOOTH), "JPEG2000", no_jp2=not container)).pixels, SMOOTH
    )
    kind = "jp2" if container else "j2k"
    for values in (DEEP, DEEP[..., 0]):
        data = bytes(codecs().jpeg2k_encode(values, reversible=True, codecformat=kind))
        np.testing.assert_array_equal(images.decode(data).values, values)
        assert images.read_header(data) == images.Header(64, 48, True)
    signed = DEEP[..., 0].astype(np.int16) - 3000
    data = bytes(codecs().jpeg2k_encode(signed, reversible=True, codecformat=kind))
    np.testing.assert_array_equal(images.decode(data).values, signed)


@pytest.mark.parametrize("values", [SMOOTH, SMOOTH[..., 0], DEEP, (DEEP / 65535).astype(np.float32)])
def test_jpeg_xl_keeps_its_values(values: np.ndarray[Any, Any]) -> None:
    data = bytes(codecs().jpegxl_encode(values, lossless=True))
    samples = images.decode(data)
    expected = values if samples.is_deep or values.ndim == 3 else np.repeat(values[..., None], 3, axis=2)
    np.testing.assert_array_equal(samples.values, expected)
    assert images.read_size(data) == (64, 48)


@pytest.mark.parametrize(
    ("width", "height"), [(8, 8), (256, 256), (300, 200), (1, 999), (640, 480), (1280, 720), (257, 1)]
)
def test_the_size_of_a_jpeg_xl_is_read_from_its_first_bits(width: int, height: int) -> None:
    data = bytes(codecs().jpegxl_encode(np.zeros((height, width), np.uint8)))
    assert images.read_size(data) == (width, height)


def netpbm(kind: str, values: np.ndarray[Any, Any], highest: int) -> bytes:
    height, width = values.shape[:2]
    head = f"{kind}\n# a comment\n{width} {height}\n{highest}\n".encode()
    if kind in ("P2", "P3"):
        return head + " ".join(map(str, values.ravel())).encode() + b"\n"
    return head + values.astype(">u2" if highest > 255 else np.uint8).tobytes()


@pytest.mark.parametrize("plain", [True, False])
def test_pgm_and_ppm_keep_their_values_and_state_their_range(plain: bool) -> None:
    grey, colour = ("P2", "P3") if plain else ("P5", "P6")
    np.testing.assert_array_equal(images.read(netpbm(colour, SMOOTH, 255)).pixels, SMOOTH)
    np.testing.assert_array_equal(images.read(netpbm(grey, SMOOTH[..., 0], 255)).pixels[..., 1], SMOOTH[..., 0])
    np.testing.assert_array_equal(images.decode(netpbm(colour, DEEP, 65535)).values, DEEP)
    twelve = DEEP[..., 0] >> 4
    assert images.read(netpbm(grey, twelve, 4095)).value_range == (0, 4095)
    picture = images.read(netpbm(grey, twelve % 1001, 1000))
    assert picture.value_range == (0, 1000)
    np.testing.assert_allclose(picture.pixels[..., 0], (twelve % 1001) / 1000, atol=1e-6)
    few = SMOOTH[..., 0] % 4
    np.testing.assert_array_equal(images.read(netpbm(grey, few, 3)).pixels[..., 0], few * 85)
    np.testing.assert_array_equal(images.read_mask(netpbm(grey, few, 3)).values, few)
    with pytest.raises(ImageError, match="above 3"):
        images.read(netpbm(grey, few + 1, 3))


def test_pbm_pam_and_pfm_are_read() -> None:
    bits = SMOOTH[..., 0] > 90
    packed = b"P4 64 48\n" + np.packbits(bits, axis=1).tobytes()
    text = b"P1\n64 48\n" + b"\n".join(b"".join(b"1" if bit else b"0" for bit in row) for row in bits)
    for data in (packed, text):
        np.testing.assert_array_equal(images.read(data).pixels[..., 0], np.where(bits, 0, 255))
    head = b"P7\nWIDTH 64\nHEIGHT 48\nDEPTH 4\nMAXVAL 255\nTUPLTYPE RGB_ALPHA\nENDHDR\n"
    for alpha, expected in ((255, SMOOTH), (0, np.full_like(SMOOTH, 255))):
        rgba = np.dstack([SMOOTH, np.full((48, 64), alpha, np.uint8)])
        np.testing.assert_array_equal(images.read(head + rgba.tobytes()).pixels, expected)
    values = (DEEP / 65535).astype(np.float32)
    for scale, order in (("-1.0", "<f4"), ("1.0", ">f4")):
        data = f"PF\n64 48\n{scale}\n".encode() + values[::-1].astype(order).tobytes()
        np.testing.assert_array_equal(images.decode(data).values, values)


def test_gif_gives_its_first_image_and_tga_is_known_by_its_name_or_its_end(tmp_path: Path) -> None:
    palette = Image.fromarray(SMOOTH).quantize(32)
    data = saved(palette, "GIF", save_all=True, append_images=[palette.rotate(180)])
    np.testing.assert_array_equal(images.read(data).pixels, np.asarray(palette.convert("RGB")))
    assert images.read_mask(data).kind == "ids"
    for options in ({}, {"compression": "tga_rle"}):
        tga = saved(Image.fromarray(SMOOTH), "TGA", **options)
        np.testing.assert_array_equal(images.read(tga).pixels, SMOOTH)
        (tmp_path / "a.tga").write_bytes(tga.removesuffix(b"TRUEVISION-XFILE.\0")[:-8])
        np.testing.assert_array_equal(images.read(tmp_path / "a.tga").pixels, SMOOTH)


@pytest.mark.parametrize(
    ("package", "make"),
    [
        ("pillow_heif", lambda: heic(Image.fromarray(SMOOTH))),
        ("imagecodecs", lambda: bytes(codecs().jpegxl_encode(SMOOTH))),
        ("imagecodecs", lambda: bytes(codecs().jpeg2k_encode(DEEP, reversible=True))),
    ],
)
def test_a_missing_library_is_named_with_its_extra(package: str, make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    data = make()
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr(isolation, "can_isolate", lambda: False)
    with pytest.raises(ImageError, match=rf'needs {package.replace("_", "-")}: pip install "blemish\[formats\]"'):
        images.read(data)


def test_each_format_is_looked_for_in_folders(tmp_path: Path) -> None:
    assert {".heic", ".avif", ".jp2", ".jxl", ".pgm", ".ppm", ".gif", ".tga"} <= SUFFIXES
    for name in ("IMG_1.HEIC", "b.avif", "c.txt", "d.CR2", "e.cr2"):
        (tmp_path / name).write_bytes(b"x")
    found = images.find_images(tmp_path)
    assert [image.path.name for image in found] == ["b.avif", "IMG_1.HEIC"]
    assert dict(found.left_out) == {".txt": 1, ".cr2": 2}
    assert found.summary == "left out: 3 files (.cr2 2, .txt 1)"


def test_16_bit_values_that_fit_into_8_get_a_note() -> None:
    eight = SMOOTH[..., 0].astype(np.uint16)
    picture = images.read(eight)
    assert picture.value_range == (0, 1023)
    assert "fit into 8 bits (highest: 189), and were read as 0 to 1023" in picture.tags["note"]
    stream = io.BytesIO()
    Image.fromarray(eight).save(stream, "TIFF")
    assert "note" in images.read(stream.getvalue()).tags
    for quiet in (images.read(eight, value_range=(0, 255)), images.read(eight * 2), images.read(SMOOTH)):
        assert "note" not in quiet.tags
