"""Rendered samples: repeatable, typed, and with masks that say where the change is."""

from __future__ import annotations

import numpy as np
import pytest

from blemish.data.synthetic import DEFECTS, NORMAL, render
from blemish.data.synthetic.defects import add_defect
from blemish.data.synthetic.scenes import good_scene


def test_a_seed_always_gives_the_same_sample() -> None:
    first, second = render(7, size_px=96), render(7, size_px=96)
    assert np.array_equal(first.image, second.image)
    assert np.array_equal(first.mask, second.mask)
    assert (first.defect_type, first.caption) == (second.defect_type, second.caption)


def test_seeds_differ() -> None:
    assert not np.array_equal(render(1, size_px=64).image, render(2, size_px=64).image)


def test_a_normal_sample_has_no_mask_and_no_defect_in_its_caption() -> None:
    sample = render(3, size_px=96, defect_type=NORMAL)
    assert sample.image.shape == (96, 96, 3)
    assert sample.image.dtype == np.uint8
    assert not sample.mask.any()
    assert sample.caption == f"a photo of {sample.material}"


@pytest.mark.parametrize("defect_type", DEFECTS)
def test_a_defect_changes_the_image_inside_its_mask_and_hardly_outside(defect_type: str) -> None:
    found = 0
    for seed in range(6):
        rng = np.random.default_rng(seed)
        scene = good_scene(128, rng)
        defective = add_defect(scene, rng, defect_type=defect_type)
        if defective is None:
            continue
        found += 1
        change = np.abs(defective.pixels - np.clip(scene.pixels, 0, 1)).mean(-1)
        assert defective.defect_type == defect_type
        assert defective.contrast >= 0.03
        assert change[defective.mask].mean() == pytest.approx(defective.contrast, abs=1e-5)
        # shadows and soft borders may reach beyond the mask, but the change is in it
        assert change[defective.mask].mean() > 3 * change[~defective.mask].mean()
    assert found >= 4


def test_asking_for_a_type_gives_it_wherever_it_can_be_seen() -> None:
    kinds = [render(seed, size_px=96, defect_type="scratch").defect_type for seed in range(12)]
    assert kinds.count("scratch") >= 10
    assert NORMAL not in kinds


def test_every_type_and_normal_images_occur() -> None:
    kinds = {render(seed, size_px=48).defect_type for seed in range(150)}
    assert kinds == {NORMAL, *DEFECTS}
