"""Defects in good images: the mask covers the change and only it, and the asked contrast is met."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from blemish.errors import UnknownNameError, UsageError
from blemish.synthesis.damage import KINDS
from blemish.synthesis.photos import subject_of
from blemish.synthesis.placing import TOLERANCE, draw_defect
from blemish.synthesis.scenery import MATERIALS, good_subject
from blemish.synthesis.subjects import Subject

SHOWS_CONTENT = {
    "bend",
    "misplacement",
    "missing part",
    "break",
    "chip",
    "print error",
}  # may be as strong as what they show


@lru_cache(maxsize=64)
def scene(seed: int, *, plain: bool = False) -> Subject:
    return good_subject(112, np.random.default_rng(seed), plain=plain)


@lru_cache(maxsize=16)
def photo(seed: int) -> Subject:
    """A scene as a photo of another shape: 8 bits, and nothing known of it."""
    pixels = (scene(seed).pixels[:90] * 255 + 0.5).astype(np.uint8)
    return subject_of(pixels, light=0.7)


@pytest.mark.parametrize("defect_type", KINDS)
@settings(max_examples=8)
@given(seed=st.integers(0, 12), draws=st.integers(0, 10**6), known=st.booleans())
def test_a_mask_covers_the_change_and_only_it(defect_type: str, seed: int, draws: int, known: bool) -> None:
    subject = scene(seed) if known else photo(seed)
    before = subject.pixels.copy()
    drawn = draw_defect(subject, np.random.default_rng(draws), defect_type=defect_type)
    assert np.array_equal(subject.pixels, before)
    if drawn is None:
        return
    assert drawn.pixels.dtype == subject.pixels.dtype
    assert drawn.mask.shape == subject.pixels.shape[:2]
    change = np.abs(drawn.pixels.astype(float) - before.astype(float)).max(-1)
    assert not change[~drawn.mask].any()  # nothing else has changed, by not even one grey level
    assert 12 <= drawn.mask.sum() <= 0.75 * drawn.mask.size
    level = 0.4 / 255 if before.dtype == np.float32 else 0.5
    filled = ndimage.binary_fill_holes(ndimage.binary_dilation(change > level, iterations=6))
    assert (
        drawn.mask & ~filled
    ).sum() <= 0.02 * drawn.mask.sum()  # and all that is marked has changed, or its surroundings


@pytest.mark.parametrize("defect_type", [name for name in KINDS if name not in SHOWS_CONTENT])
@settings(max_examples=6)
@given(seed=st.integers(0, 8), draws=st.integers(0, 10**6), contrast=st.floats(0.015, 0.15))
def test_the_asked_contrast_is_met(defect_type: str, seed: int, draws: int, contrast: float) -> None:
    subject = scene(seed, plain=True)
    drawn = draw_defect(subject, np.random.default_rng(draws), defect_type=defect_type, contrast=(contrast, contrast))
    if drawn is None:  # what cannot be had on this image is not drawn at all
        return
    reached = float(np.abs(drawn.pixels - subject.pixels).mean(-1)[drawn.mask].mean())
    assert reached == pytest.approx(contrast, rel=1.5 * TOLERANCE, abs=0.5 / 255)
    assert drawn.contrast == pytest.approx(reached, rel=0.05, abs=0.5 / 255)


@pytest.mark.parametrize("defect_type", KINDS)
def test_nearly_every_picture_can_show_what_is_asked(defect_type: str) -> None:
    free = [draw_defect(scene(seed), np.random.default_rng(seed), defect_type=defect_type) for seed in range(9)]
    assert sum(drawn is not None for drawn in free) >= 7
    if defect_type not in SHOWS_CONTENT:
        levels = np.linspace(0.015, 0.15, 9)
        asked = [
            draw_defect(
                scene(seed, plain=True),
                np.random.default_rng(seed),
                defect_type=defect_type,
                contrast=(float(level), float(level)),
            )
            for seed, level in enumerate(levels)
        ]
        assert sum(drawn is not None for drawn in asked) >= 7


def test_what_shows_content_keeps_to_the_range() -> None:
    found = 0
    for seed in range(40):
        drawn = draw_defect(
            scene(seed % 10), np.random.default_rng(seed), defect_type="misplacement", contrast=(0.05, 0.2)
        )
        if drawn is not None:
            found += 1
            assert 0.05 * (1 - TOLERANCE) <= drawn.contrast <= 0.2 * (1 + TOLERANCE)
    assert found >= 10


@pytest.mark.parametrize("defect_type", KINDS)
def test_a_type_is_drawn_on_most_scenes(defect_type: str) -> None:
    drawn = [draw_defect(scene(seed), np.random.default_rng(seed), defect_type=defect_type) for seed in range(8)]
    assert sum(one is not None for one in drawn) >= 6


def test_a_small_defect_is_small_and_a_large_one_large() -> None:
    areas = []
    for size in ((0.0, 0.1), (0.9, 1.0)):
        drawn = [
            draw_defect(scene(3, plain=True), np.random.default_rng(k), defect_type="stain", size=size)
            for k in range(6)
        ]
        areas.append(np.mean([one.mask.sum() for one in drawn if one is not None]))
    assert areas[1] > 20 * areas[0]


def test_a_grey_image_stays_grey() -> None:
    pixels = np.repeat(np.random.default_rng(0).integers(90, 150, (80, 120, 1), dtype=np.uint8), 3, -1)
    subject = subject_of(pixels, light=0.0)
    for kind in KINDS:
        drawn = draw_defect(subject, np.random.default_rng(1), defect_type=kind)
        if drawn is not None:
            assert np.array_equal(drawn.pixels[..., 0], drawn.pixels[..., 2]), kind


def test_a_large_image_is_changed_at_its_own_resolution_and_elsewhere_not_at_all() -> None:
    pixels = np.random.default_rng(0).integers(100, 140, (1500, 1100, 3), dtype=np.uint8)
    drawn = draw_defect(subject_of(pixels, light=1.0), np.random.default_rng(2), defect_type="stain", size=(0.9, 1.0))
    assert drawn is not None
    assert drawn.mask.sum() > 100_000
    assert np.array_equal(drawn.pixels[~drawn.mask], pixels[~drawn.mask])
    assert drawn.size_px > 400


def test_a_defect_stays_on_its_thing() -> None:
    inside = np.zeros((100, 100), np.float32)
    inside[30:70, 30:70] = 1
    pixels = np.where(inside[..., None] > 0, 0.6, 0.1).repeat(3, -1).astype(np.float32)
    subject = Subject(pixels, inside, np.full((100, 100, 3), 0.1, np.float32), light=0.0, grey=True)
    for seed in range(10):
        drawn = draw_defect(subject, np.random.default_rng(seed), defect_type="crack")
        assert drawn is None or not (drawn.mask & (inside == 0)).any()


def test_a_piece_that_is_missing_shows_what_is_behind() -> None:
    inside = np.zeros((128, 128), np.float32)
    inside[30:100, 30:100] = 1
    pixels = np.where(inside[..., None] > 0, 0.7, 0.2).repeat(3, -1).astype(np.float32)
    subject = Subject(pixels, inside, np.full((128, 128, 3), 0.2, np.float32), light=0.0, grey=True)
    drawn = draw_defect(subject, np.random.default_rng(0), defect_type="missing part", contrast=(0.4, 0.6))
    assert drawn is not None
    assert drawn.pixels[drawn.mask].mean() == pytest.approx(0.2, abs=0.08)


def test_unknown_types_and_ranges_are_refused() -> None:
    with pytest.raises(UnknownNameError, match=r"did you mean 'scratch'.*known: bend, break"):
        draw_defect(scene(0), np.random.default_rng(0), defect_type="scrach")
    with pytest.raises(UsageError, match="contrast is a range"):
        draw_defect(scene(0), np.random.default_rng(0), defect_type="scratch", contrast=(0.4, 0.1))


@pytest.mark.parametrize("material", MATERIALS)
def test_every_material_makes_a_good_image(material: str) -> None:
    subject = good_subject(64, np.random.default_rng(5), material=material)
    assert subject.material == material
    assert subject.pixels.shape == (64, 64, 3)
    assert 0 <= subject.pixels.min() <= subject.pixels.max() <= 1
    assert subject.pixels.std() > 0.002
