"""Rendered samples: the same for a seed, typed, captioned, and known by the renderer's number."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from blemish.errors import UnknownNameError
from blemish.synthesis import NORMAL, RENDERER_VERSION, defect_types, drawn, render, rendered
from blemish.synthesis.render import _plain
from blemish.synthesis.subjects import Subject

# What renderer 3 draws at 64 px: type, pixels of the mask, mean grey. Bytes differ between mathematical libraries; these do not.
FIRST = {
    0: ("normal", 0, 224.5),
    1: ("corrosion", 87, 93.4),
    3: ("stain", 91, 99.8),
    4: ("dent", 95, 137.3),
    5: ("cut", 62, 166.4),
}


def test_the_renderer_has_not_changed_without_a_new_number() -> None:
    assert RENDERER_VERSION == 3
    for seed, (defect_type, area, grey) in FIRST.items():
        sample = render(seed, size_px=64)
        assert sample.defect_type == defect_type
        assert sample.mask.sum() == pytest.approx(area, rel=0.02, abs=2)
        assert sample.image.mean() == pytest.approx(grey, abs=0.3)


def test_a_seed_always_gives_the_same_sample() -> None:
    for seed in (3, 8, 50_000_001):
        first, second = render(seed, size_px=96), render(seed, size_px=96)
        assert np.array_equal(first.image, second.image)
        assert np.array_equal(first.mask, second.mask)
        assert (first.defect_type, first.caption, first.contrast) == (
            second.defect_type,
            second.caption,
            second.contrast,
        )


def test_seeds_differ() -> None:
    assert not np.array_equal(render(1, size_px=64).image, render(2, size_px=64).image)


def test_digest_and_variant_carry_the_renderers_number() -> None:
    data = rendered(1, first_seed=7, size_px=64)
    words = f"blemish.data.synthetic render {RENDERER_VERSION} seed 7 size 64"
    assert data.samples[0].digest() == hashlib.sha256(words.encode()).hexdigest()
    assert data.variant == f"renderer {RENDERER_VERSION}, seeds 7 to 7, 64 px"


def test_kept_samples_are_the_rendered_ones() -> None:
    kept, lazy = drawn(4, first_seed=20, size_px=64), rendered(4, first_seed=20, size_px=64)
    for one, other in zip(kept.samples, lazy.samples, strict=True):
        assert one.digest() == other.digest()
        assert one.defect_type == other.defect_type
        assert np.array_equal(one.picture().pixels, other.picture().pixels)
        assert np.array_equal(one.mask(), other.mask())


def test_every_type_and_normal_images_occur() -> None:
    assert {render(seed, size_px=48).defect_type for seed in range(200)} == {NORMAL, *defect_types()}


def test_every_type_is_rendered_when_it_is_asked_for() -> None:
    for number, name in enumerate(defect_types()):
        kinds = [render(10 * number + k, size_px=96, defect_type=name).defect_type for k in range(4)]
        assert kinds.count(name) >= 2, name
        assert NORMAL not in kinds


def test_most_defects_can_be_seen_and_a_few_hardly() -> None:
    contrasts = np.array([render(seed, size_px=64, defect_type="scratch").contrast for seed in range(60)])
    assert 0.75 < (contrasts > 0.06).mean() < 1
    assert contrasts.min() > 0.01


def test_a_normal_sample_has_no_mask_and_a_caption_says_what_is_there() -> None:
    good = render(3, size_px=64, defect_type=NORMAL)
    assert good.image.shape == (64, 64, 3)
    assert good.image.dtype == np.uint8
    assert not good.mask.any()
    assert good.contrast == 0
    assert good.caption == f"a photo of {good.material}"
    bad = render(3, size_px=64, defect_type="hole")
    assert bad.mask.any()
    assert bad.caption.startswith(f"a photo of {bad.material} with a")
    assert bad.caption.endswith(bad.defect_type)


def test_materials_can_be_cut_from_photos() -> None:
    stripes = np.zeros((90, 120, 3), np.uint8)
    stripes[:, ::6] = (200, 40, 40)
    drawn_from = [render(seed, size_px=64, photos=[stripes]) for seed in range(40)]
    natural = [sample for sample in drawn_from if sample.material == "a natural material"]
    assert 8 < len(natural) < 32
    assert any(not sample.mask.any() and sample.image.std() > 3 for sample in natural)
    again = render(7, size_px=64, photos=[stripes])
    assert np.array_equal(again.image, drawn_from[7].image)


def test_a_broad_defect_stands_out_from_the_tones_of_its_thing() -> None:
    x = np.linspace(0, 1, 64, dtype=np.float32)
    waves = (np.sin(9 * x)[:, None] * np.cos(7 * x)[None, :])[..., None] * np.ones(3, np.float32)

    def contrasts(strength: float) -> list[float]:
        subject = Subject(0.5 + strength * waves, np.ones((64, 64), np.float32), 0 * waves, 0.0, ())
        return [_plain(subject, kind) for kind in ("stain", "uneven", "scratch")]

    assert contrasts(0.0) == [0.07, 0.07, 0.07]
    stain, uneven, scratch = contrasts(0.4)
    assert stain == uneven > 0.15
    assert scratch < 0.1  # the waves are broader than it


def test_unknown_types_are_refused() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown defect type 'scrach'; did you mean 'scratch'"):
        render(0, defect_type="scrach")
