"""The table of methods: who is measured together, which images a thinned row keeps, and how seeds become a line."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.measure import Row, measure
from benchmarks.methods_table import PLANS, Trained, in_groups, table, thinned, train_seed
from benchmarks.real_sets import Comparison, Item
from recipes.prompts import Plan

import probe
from blemish import training
from blemish.errors import ModelError
from blemish.metrics import Value
from blemish.synthesis import drawn
from blemish.training import loop
from blemish.training.run import _built


@pytest.fixture
def comparison(tmp_path: Path) -> Comparison:
    """Six good and three bad images."""
    rng, items = np.random.default_rng(0), []
    for number in range(9):
        path = tmp_path / f"{number}.png"
        Image.fromarray(rng.integers(0, 255, (16, 20, 3), np.uint8)).save(path)
        items.append(Item(path, number >= 6))
    return Comparison("elpv mono", tuple(items), has_masks=False, set_name="elpv")


def test_a_thinned_row_keeps_the_same_evenly_spread_images_of_both_kinds(comparison: Comparison) -> None:
    kept = thinned(comparison, 3)
    assert [item.path.stem for item in kept.items] == ["0", "2", "5", "6", "7", "8"]
    assert thinned(comparison, 100).items == comparison.items
    assert thinned(comparison, 0) is comparison


def test_methods_with_the_same_frozen_features_see_each_image_once(comparison: Comparison) -> None:
    probe.register()
    clip = probe.tiny_clip()
    seeds = [Trained(_built("probe", clip, {}, seed=seed).eval(), seed) for seed in range(2)]
    other = Trained(_built("inside", clip, {}, seed=0).eval(), 0)
    first, second = in_groups([*seeds, replace(other, method=_with_key(other))])
    assert [member.name for member in first] == ["probe seed 0", "probe seed 1"]
    assert [member.name for member in second] == ["inside seed 0"]
    probe.Probe.encoded = 0
    rows = [measure(comparison, member) for member in first]
    assert probe.Probe.encoded == 9
    assert rows[0].image_auroc.value != rows[1].image_auroc.value  # each with its own prompts
    assert (rows[0].normal, rows[0].anomalous) == (6, 3)


def _with_key(other: Trained) -> probe.InsideProbe:
    method = other.method
    assert isinstance(method, probe.InsideProbe)
    method.frozen_key = lambda: "inside"  # type: ignore[method-assign]
    return method


def test_a_line_is_the_mean_over_seeds_with_their_spread() -> None:
    def rows(image: float) -> list[Row]:
        none = Value(value=None, reason="no masks")
        return [
            Row("faprompt", name, "elpv", 1, 1, Value(value=image), none, {}, {}, {})
            for name in ("elpv mono", "elpv poly")
        ]

    shown = table({"ensemble": [rows(0.5)], "faprompt": [rows(0.6), rows(0.8)]}).splitlines()
    assert shown[0].startswith("| AUROC | seeds | image, elpv |")
    assert shown[2].startswith("| ensemble | none | 0.500 |")
    assert shown[3].startswith("| faprompt | 2 | 0.700 ± 0.141 |")


def test_a_finished_training_is_taken_and_one_of_another_plan_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BLEMISH_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(loop, "plot_losses", lambda _: None)
    probe.register()
    clip, plan = probe.tiny_clip(), Plan(options={}, images=4, epochs=2, rate=0.01)
    done = training.train(
        "probe",
        drawn(4, first_seed=10_000_000),
        out=tmp_path / "probe" / "seed-0",
        backbone=clip,
        recipe=plan.recipe("probe", seed=0),
    )

    def again(plan: Plan) -> Path:
        return train_seed("probe", plan, 0, cache=tmp_path, clip=clip, threads=1)

    assert again(plan) == done.prompts[1]
    assert again(replace(plan, epochs=1)) == done.prompts[0]  # as a training of one epoch leaves them
    with pytest.raises(ModelError, match="by another plan"):
        again(replace(plan, rate=0.1))
    with pytest.raises(ModelError, match="by another plan"):
        again(replace(plan, images=6))


def test_every_method_that_can_be_trained_has_a_plan() -> None:
    from blemish.methods import METHODS, method_class
    from blemish.methods.base import Method

    own = {name for name in METHODS if method_class(name).__module__.startswith("blemish.")}
    assert {name for name in own if method_class(name).loss is not Method.loss} == set(PLANS)
