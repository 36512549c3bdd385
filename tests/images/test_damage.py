"""Every kind of damage is one clear error."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from image_bytes import DEEP, RGB, RNG, as_bytes, png, tiff
from PIL import Image

from blemish.errors import ImageError
from blemish.images import read, read_header


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
