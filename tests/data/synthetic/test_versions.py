"""Two renderers: the one that the shipped model was trained with stays as it was, and the other never mixes with it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from blemish.data.synthetic import (
    DEFECTS,
    NORMAL,
    RENDERER_VERSION,
    RENDERER_VERSIONS,
    defect_types,
    drawn,
    render,
    rendered,
)
from blemish.errors import UnknownNameError, UsageError
from blemish.vocabulary import general, problems_of, read_vocabulary_file

TYPES = Path(__file__).parents[3] / "src/blemish/data/synthetic/types.toml"
# What version 1 renders at 64 px: type, pixels of the mask, mean grey. Bytes differ between mathematical libraries; these do not.
FIRST = {
    0: ("hole", 30, 170.4),
    1: ("discolouration", 327, 87.5),
    2: ("normal", 0, 217.2),
    3: ("contamination", 61, 148.9),
    4: ("missing part", 199, 166.1),
}


def test_the_first_renderer_is_the_default_and_has_not_changed() -> None:
    assert RENDERER_VERSION == 1
    for seed, (defect_type, area, grey) in FIRST.items():
        sample = render(seed, size_px=64)
        assert sample.defect_type == defect_type
        assert sample.mask.sum() == pytest.approx(area, rel=0.02, abs=2)
        assert sample.image.mean() == pytest.approx(grey, abs=0.3)


def test_the_second_has_the_types_of_the_first_in_the_same_places() -> None:
    assert defect_types(1) == tuple(DEFECTS)
    assert defect_types(2)[: len(DEFECTS)] == tuple(DEFECTS)
    assert {"chip", "break", "fray", "uneven", "bend", "extra part", "misplacement", "print error"} < set(
        defect_types(2)
    )


def test_the_types_have_words_and_the_built_in_ones_keep_theirs() -> None:
    types = read_vocabulary_file(TYPES).types
    assert tuple(defect.name for defect in types) == defect_types(2)
    assert not problems_of(types)
    assert all(defect.sentence for defect in types)
    words = {defect.name: set(defect.synonyms) for defect in types}
    for defect in general().types:  # some words now have a type of their own
        assert len(set(defect.synonyms) - words[defect.name]) <= 2


@pytest.mark.parametrize("version", RENDERER_VERSIONS)
def test_a_seed_always_gives_the_same_sample(version: int) -> None:
    for seed in (3, 8, 50_000_001):
        first, second = render(seed, size_px=96, version=version), render(seed, size_px=96, version=version)
        assert np.array_equal(first.image, second.image)
        assert np.array_equal(first.mask, second.mask)
        assert (first.defect_type, first.caption, first.contrast) == (
            second.defect_type,
            second.caption,
            second.contrast,
        )


def test_samples_of_the_two_versions_never_count_as_the_same() -> None:
    one, two = rendered(3, size_px=64).samples, rendered(3, size_px=64, version=2).samples
    assert not {sample.digest() for sample in one} & {sample.digest() for sample in two}
    assert rendered(3).variant != rendered(3, version=2).variant
    assert not np.array_equal(one[0].picture().pixels, two[0].picture().pixels)


def test_kept_samples_are_those_of_their_version() -> None:
    kept, lazy = drawn(4, first_seed=20, size_px=64, version=2), rendered(4, first_seed=20, size_px=64, version=2)
    for one, other in zip(kept.samples, lazy.samples, strict=True):
        assert one.digest() == other.digest()
        assert one.defect_type == other.defect_type
        assert np.array_equal(one.picture().pixels, other.picture().pixels)
        assert np.array_equal(one.mask(), other.mask())


def test_every_type_is_rendered_when_it_is_asked_for() -> None:
    for number, name in enumerate(defect_types(2)):
        kinds = [render(10 * number + k, size_px=96, defect_type=name, version=2).defect_type for k in range(4)]
        assert kinds.count(name) >= 2, name
        assert NORMAL not in kinds


def test_a_normal_sample_has_no_mask_and_a_caption_says_what_is_there() -> None:
    good = render(3, size_px=64, defect_type=NORMAL, version=2)
    assert not good.mask.any()
    assert good.caption == f"a photo of {good.material}"
    bad = render(3, size_px=64, defect_type="hole", version=2)
    assert bad.caption.startswith(f"a photo of {bad.material} with a")
    assert bad.caption.endswith(bad.defect_type)
    assert bad.contrast > 0.015


def test_unknown_versions_and_types_are_refused() -> None:
    with pytest.raises(UsageError, match="renderer version 3 is none of 1, 2"):
        render(0, version=3)
    with pytest.raises(UsageError, match="renderer version 9"):
        rendered(4, version=9)
    with pytest.raises(UnknownNameError, match=r"unknown defect type .fray."):
        render(0, defect_type="fray")  # which the first renderer does not have
