"""A user's good images: what is told of each, and what is said about those that look wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from blemish.errors import UsageError
from blemish.images import find_images, save
from blemish.synthesis.photos import is_grey, subject_of
from blemish.synthesis.survey import Survey, survey


def disc(*, size: int = 120, seed: int = 0, at: tuple[int, int] = (60, 60), colour: bool = False) -> NDArray[np.uint8]:
    """A bright disc with a dark spot on a dark ground, with some noise, [size, size, 3]."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:size, 0:size]
    grey = np.where(np.hypot(x - at[0], y - at[1]) < 0.3 * size, 180.0, 40.0)
    grey[np.hypot(x - at[0] + 12, y - at[1]) < 6] = 70
    pixels = np.repeat(grey[..., None], 3, -1) + rng.normal(0, 3, (size, size, 3 if colour else 1))
    return pixels.clip(0, 255).astype(np.uint8)


def look(folder: Path) -> Survey:
    return survey(find_images(str(folder)))


def test_the_thing_the_ground_and_the_parts_are_told_apart() -> None:
    subject = subject_of(disc(), light=0.0)
    assert not subject.fills_image
    assert subject.foreground[60, 60] > 0.9
    assert subject.foreground[5, 5] < 0.1
    assert subject.behind.mean() == pytest.approx(40 / 255, abs=0.02)
    assert len(subject.parts) == 1
    x, y, radius = subject.parts[0]
    assert (x, y) == (pytest.approx(48, abs=3), pytest.approx(60, abs=3))
    assert 5 < radius < 14
    assert subject.grain == pytest.approx(3 / 255, rel=0.3)
    assert subject.grey


def test_a_texture_fills_its_image() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (70, 200, 3), dtype=np.uint8)
    subject = subject_of(noise, light=0.0)
    assert subject.fills_image
    assert not subject.grey
    assert not is_grey(noise)
    assert subject_of(np.full((40, 40, 3), 255, np.uint8), light=0.0).fills_image


def test_identical_images_are_used_once_and_said(tmp_path: Path) -> None:
    for number in range(3):
        save(disc(), tmp_path / f"{number}.png")
    found = look(tmp_path)
    assert [good.name for good in found.good] == ["0.png"]
    assert found.remarks == ("all 3 good images are identical: every defect is drawn on the same picture",)
    save(disc(seed=1), tmp_path / "other.png")
    found = look(tmp_path)
    assert [good.name for good in found.good] == ["0.png", "other.png"]
    assert found.remarks == ("2 images are identical to others and left out: 1.png, 2.png",)


def test_an_image_that_stands_out_is_named_and_the_others_are_not(tmp_path: Path) -> None:
    for number in range(9):
        save(disc(seed=number, at=(60 + number % 3, 60)), tmp_path / f"{number}.png")
    assert look(tmp_path).remarks == ()
    spoiled = disc(seed=4)
    spoiled[50:70, 62:90] = 60
    save(spoiled, tmp_path / "4.png")
    (remark,) = look(tmp_path).remarks
    assert remark.startswith("4.png stands out from the other good images")


def test_what_cannot_be_used_is_named_with_the_reason(tmp_path: Path) -> None:
    save(disc(), tmp_path / "fine.png")
    save(disc()[:20, :25], tmp_path / "small.png")
    (tmp_path / "text.png").write_bytes(b"no image")
    found = look(tmp_path)
    assert [good.name for good in found.good] == ["fine.png"]
    said = sorted(str(error).removeprefix(str(tmp_path)) for error in found.unusable)
    assert "small.png: is 25 x 20 px; defects need 32 x 32 px or more" in said[0]
    assert "text.png: is not a JPEG" in said[1]
    (tmp_path / "fine.png").unlink()
    with pytest.raises(UsageError, match=r"none of the 2 good images can be used; the first: .*small\.png"):
        look(tmp_path)


def test_deep_images_share_one_value_range(tmp_path: Path) -> None:
    from PIL import Image

    for number in range(2):
        values = (disc(seed=number)[..., 0].astype(np.uint16) * 8) + number
        Image.fromarray(values).save(tmp_path / f"{number}.png")
    found = look(tmp_path)
    assert {good.value_range for good in found.good} == {(0, 4095)} or {good.value_range for good in found.good} == {
        (0, 2047)
    }
    assert "2 images hold more than 8 bits and are written with 8" in found.remarks[0]
    fixed = survey(find_images(str(tmp_path)), value_range=(0, 2000))
    assert {good.value_range for good in fixed.good} == {(0, 2000)}
