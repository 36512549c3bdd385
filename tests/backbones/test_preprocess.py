"""Preprocessing as Pillow does it, for 8 bits and for more."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from blemish.backbones.config import PreprocessConfig
from blemish.backbones.preprocess import resize, to_array
from blemish.images import read

RGB = np.random.default_rng(1).integers(0, 256, (20, 31, 3), dtype=np.uint8)
CONFIG = PreprocessConfig(size=24)


@pytest.mark.parametrize("size", [7, 24, 50])
def test_8_bit_pictures_are_resized_exactly_as_by_pillow(size: int) -> None:
    expected = np.asarray(Image.fromarray(RGB).resize((size, size), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(resize(RGB, size), expected)


def test_tensor_is_normalised_by_channel() -> None:
    tensor = to_array(read(RGB), CONFIG)
    assert tensor.shape == (3, 24, 24)
    expected = (resize(RGB, 24) / 255 - np.array(CONFIG.mean)) / np.array(CONFIG.std)
    np.testing.assert_allclose(tensor, expected.transpose(2, 0, 1), atol=1e-5)


def test_deep_pictures_keep_what_8_bits_would_lose() -> None:
    ramp = np.linspace(0, 200, 64, dtype=np.uint16)[None].repeat(8, axis=0)
    tensor = to_array(read(ramp, value_range=(0, 65535)), PreprocessConfig(size=32))
    assert len(np.unique(tensor[0])) > 20


def test_deep_pictures_agree_with_8_bit_ones() -> None:
    deep = to_array(read(RGB.astype(np.uint16) * 257), CONFIG)
    shallow = to_array(read(RGB), CONFIG)
    assert np.abs(deep - shallow).max() < 0.05  # Pillow rounds to 8 bits between its two passes


def test_overshoot_of_deep_pictures_is_cut() -> None:
    step = np.zeros((8, 8), np.float32)
    step[:, 4:] = 1
    resized = resize(read(step).pixels, 32)
    assert resized.min() == 0
    assert resized.max() == 1


def test_one_pixel_is_enough() -> None:
    assert (to_array(read(np.full((1, 1), 9, np.uint8)), CONFIG)).shape == (3, 24, 24)
