"""Masks are read by value, whatever depth, palette or file they come in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from blemish import images
from blemish.data import open_data
from blemish.errors import ImageError
from miniatures import SIZE, image, mask


def masked(tmp_path: Path, save: Callable[[Path], object], suffix: str = ".png") -> np.ndarray | None:
    """What is read of a mask that `save` writes."""
    image(tmp_path / "x/images/1.png")
    image(tmp_path / "x/images/2.png")
    mask(tmp_path / "x/masks/2.png", value=0)
    path = tmp_path / f"x/masks/1{suffix}"
    save(path)
    return next(sample for sample in open_data(tmp_path / "x").samples if sample.name == "images/1.png").mask()


BLOB = np.zeros(SIZE[::-1], bool)
BLOB[3:7, 2:8] = True


def palette(path: Path) -> None:
    picture = Image.fromarray(BLOB.astype(np.uint8)).convert("P")
    picture.putpalette([255, 255, 255, 0, 0, 0])  # index 0 is white: a conversion of colour would turn it round
    picture.putdata(BLOB.astype(np.uint8).ravel())
    picture.save(path)


def on_transparent(path: Path) -> None:
    colours = np.full((*BLOB.shape, 4), 255, np.uint8)
    colours[..., 3] = np.where(BLOB, 255, 0)
    Image.fromarray(colours).save(path)


def red(path: Path) -> None:
    colours = np.zeros((*BLOB.shape, 3), np.uint8)
    colours[BLOB, 0] = 255
    Image.fromarray(colours).save(path)


MASKS: dict[str, tuple[Callable[[Path], object], str]] = {
    "8 bits, 255": (lambda path: Image.fromarray(BLOB.astype(np.uint8) * 255).save(path), ".png"),
    "8 bits, ids": (lambda path: Image.fromarray(BLOB.astype(np.uint8) * 3).save(path), ".png"),
    "8 bits, anti-aliased": (
        lambda path: Image.fromarray(np.where(BLOB, 255, np.where(np.roll(BLOB, 1, 0), 90, 0)).astype(np.uint8)).save(
            path
        ),
        ".png",
    ),
    "16 bits, full": (lambda path: Image.fromarray(BLOB.astype(np.uint16) * 65535).save(path), ".png"),
    "16 bits, 255": (lambda path: Image.fromarray(BLOB.astype(np.uint16) * 255).save(path), ".tif"),
    "16 bits, ids": (lambda path: Image.fromarray(BLOB.astype(np.uint16) * 2).save(path), ".png"),
    "palette": (palette, ".png"),
    "1 bit": (lambda path: Image.fromarray(BLOB).save(path), ".png"),
    "1 bit TIFF": (lambda path: Image.fromarray(BLOB).save(path), ".tif"),
    "colour": (red, ".png"),
    "alpha": (on_transparent, ".png"),
    "BMP": (lambda path: Image.fromarray(BLOB.astype(np.uint8) * 255).save(path), ".bmp"),
}


@pytest.mark.parametrize("kind", MASKS)
def test_masks_are_read_by_value(kind: str, tmp_path: Path) -> None:
    save, suffix = MASKS[kind]
    found = masked(tmp_path, save, suffix)
    assert found is not None
    assert np.array_equal(found, BLOB)


def test_the_noise_of_a_jpeg_mask_is_not_foreground(tmp_path: Path) -> None:
    found = masked(tmp_path, lambda path: Image.fromarray(BLOB.astype(np.uint8) * 255).save(path, quality=75), ".jpg")
    assert found is not None
    assert found.sum() == pytest.approx(BLOB.sum(), abs=2)


def test_a_rotated_photo_and_its_upright_mask_fit(tmp_path: Path) -> None:
    path = image(tmp_path / "x/images/1.jpg", size=(12, 16))
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(path) as picture:
        picture.save(path, exif=exif)
    mask(tmp_path / "x/masks/1.png")
    (sample,) = open_data(tmp_path / "x").samples
    found = sample.mask()
    assert found is not None
    assert found.shape == sample.picture().pixels.shape[:2] == (12, 16)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif", ".webp"])
def test_the_size_is_that_of_the_picture(suffix: str, tmp_path: Path) -> None:
    path = image(tmp_path / f"a{suffix}", size=(7, 5))
    exif = Image.Exif()
    exif[0x0112] = 8
    with Image.open(path) as picture:
        picture.save(path, exif=exif)
    picture = images.read(path)
    assert images.read_size(path) == (picture.width_px, picture.height_px)


def test_the_size_of_deep_and_in_memory_images(tmp_path: Path) -> None:
    path = tmp_path / "deep.png"
    Image.fromarray(np.zeros((5, 7), np.uint16)).save(path)
    assert images.read_size(path) == (7, 5)
    assert images.read_size(np.zeros((5, 7, 3), np.uint8)) == (7, 5)
    assert images.read_mask(np.full((5, 7), 9, np.uint8)).values.shape == (5, 7)


def test_sizes_of_what_is_no_image_are_errors(tmp_path: Path) -> None:
    for data in (b"", b"no", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"):
        (tmp_path / "a.png").write_bytes(data)
        with pytest.raises(ImageError):
            images.read_size(tmp_path / "a.png")
        with pytest.raises(ImageError):
            images.read_mask(tmp_path / "a.png")
