"""Arrays, Pillow images and buffers are read like files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from image_bytes import DEEP, RGB
from numpy.typing import NDArray
from PIL import Image

from blemish.errors import ImageError, UsageError
from blemish.images import read, save


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
