"""Mosaics of four images of one product: of what they are made, their truth, and that the seed decides them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import probe
from blemish.backbones.config import PreprocessConfig
from blemish.backbones.preprocess import to_array
from blemish.errors import UnknownNameError, UsageError
from blemish.maps import mask_at
from blemish.training import Recipe, train
from blemish.training.batches import Source
from blemish.training.examples import Examples, examine
from blemish.training.mosaics import Mosaics

SIZE = probe.SIZE


def examples_of(count: int = 8, *, size: int = SIZE) -> Examples:
    """Two products, one after the other, half of each with a defect."""
    data = probe.data_set(count)
    samples = tuple(replace(sample, product="ab"[row % 4 // 2]) for row, sample in enumerate(data.samples))
    return examine(replace(data, samples=samples), size=size)


def test_none_and_all_of_the_images_become_mosaics_of_their_own_product() -> None:
    examples = examples_of()
    assert all(Mosaics(0.0, (1, 0)).quarters(examples, row) is None for row in range(8))
    for row in range(8):
        rows = Mosaics(1.0, (1, 0)).quarters(examples, row)
        assert rows is not None
        assert len(rows) == 4
        assert {examples.samples[number].product for number in rows} == {examples.samples[row].product}


def test_the_seed_and_the_epoch_decide_which_and_of_what() -> None:
    examples = examples_of(40)

    def drawn(*seed: int) -> list[list[int] | None]:
        return [Mosaics(0.5, (seed[0], seed[1])).quarters(examples, row) for row in range(40)]

    assert drawn(1, 0) == drawn(1, 0)
    assert drawn(1, 0) != drawn(1, 1)
    assert drawn(1, 0) != drawn(2, 0)
    assert 10 < sum(rows is not None for rows in drawn(1, 0)) < 30


@pytest.mark.parametrize("size", [SIZE, SIZE - 1])
def test_each_part_is_an_image_of_half_the_side_with_its_mask(size: int) -> None:
    examples, mosaics, preprocess = examples_of(size=size), Mosaics(1.0, (1, 0)), PreprocessConfig(size=size)
    rows, mosaic = mosaics.quarters(examples, 3), mosaics.mosaic(examples, 3, preprocess)
    assert rows is not None
    assert mosaic is not None
    half = (size + 1) // 2
    part = replace(preprocess, size=half)
    for place, number in enumerate(rows):
        top, left = place // 2 * half, place % 2 * half
        seen = mosaic.image[:, top : top + half, left : left + half]
        whole = to_array(examples.samples[number].picture(), part)
        assert torch.equal(seen, torch.from_numpy(whole)[:, : seen.shape[1], : seen.shape[2]])
        truth = examples.samples[number].mask()
        assert truth is not None
        drawn = mosaic.mask[top : top + half, left : left + half]
        assert np.array_equal(drawn, mask_at(truth, half)[: drawn.shape[0], : drawn.shape[1]])
    assert mosaic.type_id == int(mosaic.mask.any())


def test_a_batch_has_the_truth_of_its_mosaics() -> None:
    examples, preprocess = examples_of(), PreprocessConfig(size=SIZE)
    mosaics = Mosaics(0.5, (3, 0))
    (batch,) = Source(examples, preprocess, mosaics=mosaics).feed([np.arange(8)])
    (plain,) = Source(examples, preprocess).feed([np.arange(8)])
    assert isinstance(batch.inputs, torch.Tensor)
    assert isinstance(plain.inputs, torch.Tensor)
    replaced = [mosaics.quarters(examples, row) is not None for row in range(8)]
    assert 0 < sum(replaced) < 8
    for row, is_mosaic in enumerate(replaced):
        assert torch.equal(batch.inputs[row], plain.inputs[row]) is not is_mosaic
        assert int(batch.targets.label[row]) == int(batch.targets.mask[row].any())
    assert batch.targets.products == plain.targets.products


def test_a_mosaic_can_keep_the_label_of_the_image_that_it_replaced() -> None:
    examples, preprocess = examples_of(), PreprocessConfig(size=SIZE)
    shown, replaced = Mosaics(1.0, (3, 0)), Mosaics(1.0, (3, 0), label_of_replaced=True)
    (plain,) = Source(examples, preprocess).feed([np.arange(8)])
    (of_shown,) = Source(examples, preprocess, mosaics=shown).feed([np.arange(8)])
    (of_replaced,) = Source(examples, preprocess, mosaics=replaced).feed([np.arange(8)])
    assert torch.equal(of_replaced.targets.label, plain.targets.label)
    assert not torch.equal(of_replaced.targets.label, of_shown.targets.label)
    assert torch.equal(of_replaced.targets.mask, of_shown.targets.mask)
    with pytest.raises(UnknownNameError, match="label of mosaics"):
        Recipe(mosaic_label="drawn")  # type: ignore[arg-type]


def test_a_training_with_mosaics_is_another_one_and_keeps_no_features(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BLEMISH_HOME", str(tmp_path / "home"))
    probe.register()
    recipe = Recipe(epochs=1, batch_size=4, rate=0.05, cache_dtype="none")

    def losses(name: str, recipe: Recipe) -> float:
        done = train("probe", probe.data_set(8), out=tmp_path / name, backbone=probe.tiny_clip(), recipe=recipe)
        return float(done.history[0]["means"]["total"])

    plain = losses("a", recipe)
    one, other = (losses(name, replace(recipe, mosaics=0.5)) for name in "bc")
    assert one == other != plain
    assert losses("d", replace(recipe, mosaics=0.5, mosaic_label="replaced")) != one
    with pytest.raises(UsageError, match="whose features cannot be kept: --cache-dtype none"):
        Recipe(mosaics=0.2)
    with pytest.raises(UsageError, match=r"lies in 0\.\.1, not 1\.5"):
        Recipe(mosaics=1.5, cache_dtype="none")
