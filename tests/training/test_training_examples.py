"""A look at every image before training: truth at the tower's size, and everything unfit named in clear words."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import probe
from blemish.data.samples import DataSet
from blemish.errors import UsageError
from blemish.maps import mask_at
from blemish.methods import build
from blemish.models.feature_cache import feature_store
from blemish.training.examples import examine, require_both_classes, require_masks


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 33), st.integers(0, 2**32 - 1))
def test_masks_shrink_as_pillow_shrinks_them_and_are_cut_above_one_half(
    height: int, width: int, size: int, seed: int
) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < 0.4
    picture = Image.fromarray(mask.astype(np.uint8) * np.uint8(255))
    resized = np.asarray(picture.resize((size, size), Image.Resampling.BILINEAR), np.float32) / 255
    np.testing.assert_array_equal(mask_at(mask, size), resized > 0.5)


@pytest.mark.parametrize("size", [32, 31])  # 31 x 31 pixels fill no whole number of bytes
def test_targets_are_the_truth_of_the_asked_rows(size: int) -> None:
    data = probe.data_set(6)
    examples = examine(data, size=size)
    targets = examples.targets(np.array([3, 0]))
    assert targets.label.tolist() == [1, 0]
    assert targets.mask.shape == (2, size, size)
    truth = data.samples[3].mask()
    assert truth is not None
    np.testing.assert_array_equal(targets.mask[0].numpy() > 0, mask_at(truth, size))
    assert not targets.mask[1].any()
    assert targets.type_id is not None
    assert targets.type_id.tolist() == [1, 0]
    assert targets.has_mask is not None
    assert targets.has_mask.tolist() == [True, True]
    assert examples.counts() == {
        "images": 6,
        "normal": 3,
        "anomalous": 3,
        "anomalous_with_mask": 3,
        "by_type": {"spot": 3},
    }


def test_an_image_that_nobody_drew_a_mask_for_has_none_and_a_defect_without_a_name_no_type() -> None:
    data = probe.data_set(4, change=lambda sample: replace(probe.without_mask(sample), defect_type=""))
    targets = examine(data, size=32).targets(np.array([0, 1]))
    assert targets.has_mask is not None
    assert targets.has_mask.tolist() == [True, False]
    assert targets.type_id is not None
    assert targets.type_id.tolist() == [0, -1]


def test_one_class_or_no_masks_are_refused() -> None:
    made = probe.samples(6)
    normal = DataSet("good ones", tuple(made[::2]), "image")
    anomalous = DataSet("bad ones", tuple(made[1::2]), "pixel")
    with pytest.raises(UsageError, match="good ones: all 3 images are normal"):
        require_both_classes(examine(normal, size=32), normal.name)
    with pytest.raises(UsageError, match="bad ones: all 3 images are anomalous; it takes normal ones, too"):
        require_both_classes(examine(anomalous, size=32), anomalous.name)
    unmasked = probe.data_set(6, change=probe.without_mask)
    with pytest.raises(UsageError, match="squares: none of 3 anomalous images has a mask"):
        require_masks(examine(unmasked, size=32), unmasked.name)
    with pytest.raises(UsageError, match="there are no images"):
        examine(DataSet("nothing", (), "image"), size=32)


def test_a_mask_of_another_size_than_its_image_is_named() -> None:
    def cut(sample: probe.ArraySample) -> probe.ArraySample:
        return replace(sample, truth=np.zeros((8, 9), bool)) if sample.name == "0/003" else sample

    with pytest.raises(UsageError, match="0/003: its mask is 9 x 8 px, the image 48 x 40"):
        examine(probe.data_set(6, change=cut), size=32)


def test_every_bad_image_is_named_before_anything_starts_or_left_out_on_demand() -> None:
    bad = probe.data_set(40, change=lambda sample: replace(sample, readable=int(sample.name[-3:]) >= 12))
    with pytest.raises(UsageError) as error:
        examine(bad, size=32)
    assert str(error.value).startswith(
        "12 of 40 images of squares cannot be used: 0/000: is damaged; 0/001: is damaged"
    )
    assert "0/009: is damaged; and 2 more; " in str(error.value)
    assert "--skip-unreadable" in str(error.value)
    examples = examine(bad, size=32, skip_unreadable=True)
    assert len(examples) == 28
    assert [error.source for error in examples.unreadable] == [f"0/{number:03d}" for number in range(12)]
    all_bad = probe.data_set(2, change=lambda sample: replace(sample, readable=False))
    with pytest.raises(UsageError, match="none of 2 images can be used"):
        examine(all_bad, size=32, skip_unreadable=True)


def test_identity_changes_with_any_truth_and_with_the_order() -> None:
    plain = probe.data_set(6)
    changed = [
        probe.data_set(5),
        probe.data_set(6, seed=1),
        probe.data_set(6, change=lambda sample: replace(sample, name=sample.name + "x")),
        probe.data_set(6, change=lambda sample: replace(sample, defect_type="hole" if sample.anomalous else "")),
        probe.data_set(6, change=probe.without_mask),
        replace(plain, samples=plain.samples[::-1]),
    ]
    assert examine(plain, size=32).identity() == examine(probe.data_set(6), size=32).identity()
    assert len({examine(data, size=32).identity() for data in (plain, *changed)}) == 7


def test_a_mask_that_vanishes_at_the_towers_size_is_counted() -> None:
    def dot(sample: probe.ArraySample) -> probe.ArraySample:
        mask = np.zeros((40, 48), bool)
        mask[0, 0] = True
        return replace(sample, truth=mask) if sample.anomalous else sample

    assert examine(probe.data_set(6, change=dot), size=8).empty_masks() == 3


def test_pictures_with_kept_features_are_not_decoded(tmp_path: Path) -> None:
    probe.register()
    method = build("probe", probe.tiny_clip())
    store = feature_store(method, dtype="float16", root=tmp_path)
    data = probe.data_set(4)
    with torch.inference_mode():
        features = method.encode(torch.zeros(1, 3, 32, 32))
    for sample in data.samples[:2]:
        store.write(sample.digest(), features, row=0, size_px=(48, 40))
    unreadable = probe.data_set(4, change=lambda sample: replace(sample, readable=sample.name > "0/001"))
    assert examine(unreadable, size=32, store=store).cached.tolist() == [True, True, False, False]
