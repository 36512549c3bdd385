"""Overlays: original size, an absolute colour scale, clean images left clean."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from blemish.drawing import overlay as overlay_module
from blemish.drawing.colours import NEUTRAL, STOPS, TYPE_COLOURS, heat, scale_position, type_colour
from blemish.drawing.overlay import draw_overlay
from blemish.images import read
from blemish.inspection.decide import decide
from blemish.inspection.regions import find_regions
from blemish.maps import visible_from
from blemish.results import UNKNOWN, Inspection, ModelInfo, Thresholds

THRESHOLDS = Thresholds(image=0.6, pixel=0.5)


def overlay(
    pixels: NDArray[np.generic], scores: NDArray[np.float32], *, types: tuple[str, ...] = ("scratch", "stain")
) -> NDArray[np.uint8]:
    picture = read(pixels)
    size = (picture.width_px, picture.height_px)
    type_maps = np.stack([scores / (i + 2) for i in range(len(types))]) if types else None
    inspection = Inspection(
        source="part",
        width_px=size[0],
        height_px=size[1],
        image_score=float(scores.max()),
        verdict=decide(float(scores.max()), THRESHOLDS),
        thresholds=THRESHOLDS,
        anomaly_map=scores,
        types=types,
        type_scores=np.arange(len(types), dtype=np.float32),
        type_maps=type_maps,
        regions=find_regions(scores, size, threshold=0.5, min_area_px=1, types=types, type_maps=type_maps),
        value_range=picture.value_range,
        model=ModelInfo(backbone="tiny", method="none", version="0"),
    )
    return np.asarray(draw_overlay(picture, inspection))


def spot(peak: float) -> NDArray[np.float32]:
    scores = np.zeros((16, 16), np.float32)
    scores[8:12, 8:12] = peak
    return scores


@pytest.mark.parametrize("shape", [(1, 1), (3, 200), (40, 30), (90, 120), (300, 500)])
def test_overlays_have_the_original_size(shape: tuple[int, int]) -> None:
    drawn = overlay(np.full(shape, 128, np.uint8), spot(0.9))
    assert drawn.shape == (*shape, 3)
    assert drawn.dtype == np.uint8


def test_a_clean_image_stays_as_it_is_but_for_its_caption() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    drawn = overlay(pixels, np.full((16, 16), 0.1, np.float32))
    np.testing.assert_array_equal(drawn[60:], pixels[60:])
    assert (drawn[:60] != pixels[:60]).any()


def test_the_same_score_has_the_same_colour_whatever_else_is_on_the_image() -> None:
    alone = spot(0.7)
    beside = spot(0.7)
    beside[0:3, 13:16] = 1.0
    grey = np.full((320, 320), 128, np.uint8)
    inside = (slice(185, 200), slice(185, 200))
    np.testing.assert_array_equal(overlay(grey, alone)[inside], overlay(grey, beside)[inside])


def test_the_picture_given_is_not_drawn_on() -> None:
    pixels = np.full((200, 200, 3), 128, np.uint8)
    overlay(pixels, spot(0.9))
    assert (pixels == 128).all()


def test_deep_pictures_are_shown_in_their_value_range() -> None:
    ramp = np.linspace(0, 4095, 200, dtype=np.uint16)[None].repeat(200, axis=0)
    drawn = overlay(ramp, spot(0.0))
    np.testing.assert_allclose(drawn[150, :, 0], np.linspace(0, 255, 200), atol=1)


@pytest.mark.parametrize("types", [(), ("划痕",), ("scratch " * 30,)])
def test_any_type_name_can_be_drawn(types: tuple[str, ...]) -> None:
    assert overlay(np.full((200, 200), 128, np.uint8), spot(0.9), types=types).shape == (200, 200, 3)


def test_the_scale_is_fixed_at_zero_the_threshold_and_one() -> None:
    for threshold in (0.1, 0.5, 0.83):
        position = scale_position(np.array([0, threshold, 1], np.float32), threshold)
        np.testing.assert_allclose(position, [0, 0.5, 1], atol=1e-6)
    for threshold in (0.0, 1.0):
        assert np.isfinite(scale_position(np.array([0, 0.5, 1], np.float32), threshold)).all()


def test_heat_grows_with_the_score_and_is_clear_well_below_the_threshold() -> None:
    opacity = heat(np.linspace(0, 1, 300, dtype=np.float32), 0.5)[:, 3].astype(int)
    assert (np.diff(opacity) >= 0).all()
    assert (opacity[:44] == 0).all()
    assert opacity[60] > 0
    assert opacity[-1] == round(STOPS[-1][-1] * 255)


@pytest.mark.parametrize("threshold", [0.0, 0.004, 0.1, 0.5, 0.83, 1.0])
def test_nothing_has_a_colour_below_the_score_that_says_so(threshold: float) -> None:
    lowest = visible_from(threshold)
    assert lowest <= threshold
    below = np.linspace(0, lowest, 400, endpoint=False, dtype=np.float32)
    assert (heat(below[below < lowest], threshold)[..., 3] == 0).all()


def test_an_overlay_is_its_picture_under_the_heat_of_every_pixel() -> None:
    rng = np.random.default_rng(3)
    pixels = rng.integers(0, 256, (90, 90, 3), dtype=np.uint8)  # too small for words
    scores = np.asarray(
        Image.fromarray(rng.random((6, 6), dtype=np.float32)).resize((90, 90), Image.Resampling.BILINEAR)
    ) * np.float32(0.49)
    colour, opacity = np.split(heat(scores, 0.5).astype(float), [3], axis=2)
    assert 0.05 < (opacity > 0).mean() < 0.95
    plain = pixels + (colour - pixels) * opacity / 255  # the slow and obvious way
    np.testing.assert_allclose(overlay(pixels, scores), plain, atol=1)


def test_many_regions_are_drawn_without_falling_over_each_other() -> None:
    scores = np.zeros((32, 32), np.float32)
    scores[::3, ::3] = 0.9
    assert overlay(np.full((400, 400), 90, np.uint8), scores).shape == (400, 400, 3)


def test_outlines_follow_the_mask_and_leave_its_inside_to_the_heat() -> None:
    scores = np.zeros((100, 100), np.float32)
    scores[40:60, 40:60] = 1
    drawn = Image.fromarray(overlay(np.full((100, 100), 128, np.uint8), scores, types=("scratch",)))
    assert drawn.getpixel((39, 50)) == (86, 180, 233)
    assert drawn.getpixel((50, 50)) != (128, 128, 128)


@pytest.mark.parametrize("name", [None, UNKNOWN])
def test_a_defect_that_has_no_type_or_an_unknown_one_has_a_neutral_colour(name: str | None) -> None:
    assert type_colour(name, ("scratch", "stain")) == NEUTRAL
    assert len(set(NEUTRAL)) == 1
    assert type_colour("stain", ("scratch", "stain")) == TYPE_COLOURS[1]


def test_types_that_no_label_tells_are_in_a_legend() -> None:
    scores = np.zeros((40, 40), np.float32)
    scores[2:38:3, 2:38:3] = 0.9  # so many regions that labels find no place
    crowded = np.full((800, 800), 90, np.uint8)
    drawn = overlay(crowded, scores, types=("scratch",))
    with_labels = overlay(crowded, spot(0.9), types=("scratch",))
    assert drawn.shape == with_labels.shape == (800, 800, 3)
    canvas = Image.new("RGB", (400, 300), (90, 90, 90))
    colours = {"scratch": TYPE_COLOURS[0], None: NEUTRAL}
    overlay_module._legend(canvas, colours, font=overlay_module.font_of(14), taken=[(0, 0, 200, 30)], regions=[])
    found = {colour for _, colour in canvas.getcolors(400 * 300) or []}
    assert {TYPE_COLOURS[0], NEUTRAL} <= found
    assert (np.asarray(canvas)[:30, :200] == 90).all()
