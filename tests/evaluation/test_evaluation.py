"""What an evaluation finds: the same numbers as when everything is in memory, and words where there are none."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scenes import Darkness, anomalous_only, candidate, data_set

from blemish import metrics
from blemish.backbones.preprocess import to_array
from blemish.data.samples import DataSet, Sample
from blemish.engines.base import RawScores
from blemish.errors import ModelError, UsageError
from blemish.evaluation import Evaluation, EvaluationSettings, evaluate_candidate, grouped
from blemish.evaluation.settings import LEGACY_METRIC
from blemish.evaluation.typing import Typing
from blemish.maps import enlarge, mask_at
from blemish.metrics import Value
from fakes import PREPROCESS, VOCABULARY, DarknessEngine

SIDE = PREPROCESS.size
QUICK = EvaluationSettings(rounds=0, batch_size=5)


def measured(data: DataSet, out: Path, settings: EvaluationSettings = QUICK, **names: Any) -> Evaluation:
    return evaluate_candidate(candidate(**names), data, out=out, settings=settings)[0]


def score_alone(sample: Sample) -> RawScores:
    engine = DarknessEngine()
    features = engine.encode(to_array(sample.picture(), PREPROCESS)[None])
    return engine.score(features, engine.encode_texts(VOCABULARY))[0]


def by_hand(samples: tuple[Sample, ...], *, original: bool) -> tuple[list[float], list[Any], list[Any]]:
    """Image scores, maps and masks of these samples, one by one and all in memory."""
    scores, maps, masks = [], [], []
    for one in samples:
        found = score_alone(one)
        mask = one.mask()
        assert mask is not None
        scores.append(found.image_score)
        size = mask.shape[::-1] if original else (SIDE, SIDE)
        maps.append(enlarge(found.anomaly_map, size))
        masks.append(mask if original else mask_at(mask, SIDE))
    return scores, maps, masks


@pytest.mark.parametrize("size", ["original", "model"])
def test_numbers_equal_those_computed_with_everything_in_memory(tmp_path: Path, size: Any) -> None:
    data = data_set(products=("thing", "other"))
    found = measured(data, tmp_path, replace(QUICK, size=size, legacy=True))
    means = []
    for product in found.report.products:
        own = data.of(product=product.row.name).samples
        scores, maps, masks = by_hand(own, original=size == "original")
        labels = [one.anomalous for one in own]
        flat, truth = np.concatenate([m.ravel() for m in maps]), np.concatenate([m.ravel() for m in masks])
        values = product.row.values
        assert float(values["image_auroc"]) == pytest.approx(float(metrics.auroc(scores, labels)), abs=1e-12)
        assert float(values["image_ap"]) == pytest.approx(float(metrics.average_precision(scores, labels)), abs=1e-12)
        assert float(values["pixel_auroc"]) == pytest.approx(float(metrics.auroc(flat, truth)), abs=1e-4)
        assert float(values["pixel_ap"]) == pytest.approx(float(metrics.average_precision(flat, truth)), abs=1e-4)
        assert float(values["aupro"]) == pytest.approx(float(metrics.aupro(maps, masks)), abs=1e-4)
        stepped = metrics.aupro(maps, masks, legacy_steps=200)
        assert float(values[LEGACY_METRIC]) == pytest.approx(float(stepped), abs=1e-12)
        means.append(float(values["image_auroc"]))
    assert float(found.report.mean.values["image_auroc"]) == pytest.approx(np.mean(means))
    assert [row.name for row in found.report.types] == ["scratch", "stain"]
    assert found.report.sizes


def test_an_image_level_set_has_no_pixel_metrics_and_says_why(tmp_path: Path) -> None:
    found = measured(data_set(level="image"), tmp_path, replace(QUICK, legacy=True))
    assert found.metrics == ("image_auroc", "image_ap", "image_f1_max")
    assert "image level only" in found.report.mean.values["pixel_auroc"].reason
    assert not any(name.startswith("pixel") for name in found.curves)


def test_logical_anomalies_are_refused_at_pixel_level_with_the_sentence(tmp_path: Path) -> None:
    found = measured(replace(data_set(level="image"), name="mvtec-loco"), tmp_path)
    assert "saturated PRO" in found.report.mean.values["aupro"].reason
    assert any("saturated PRO" in note for note in found.notes)


def test_a_set_without_normal_images_has_pixel_metrics_only(tmp_path: Path) -> None:
    found = measured(anomalous_only(data_set()), tmp_path)
    assert "image_auroc" not in found.metrics
    assert found.report.mean.values["pixel_auroc"].defined
    assert "nothing normal" in found.report.mean.values["image_auroc"].reason
    assert "needs a normal image" in found.report.mean.values["aupimo"].reason


def test_images_without_a_mask_count_at_image_level(tmp_path: Path) -> None:
    data = data_set()
    bare = tuple(replace(one, truth=None) if one.anomalous else one for one in data.samples)  # type: ignore[type-var]
    found = measured(replace(data, samples=bare), tmp_path)
    assert found.report.mean.values["image_auroc"].defined
    assert not found.report.mean.values["pixel_auroc"].defined


def test_types_are_told_apart_with_the_words_of_each_product(tmp_path: Path) -> None:
    data = data_set(products=("thing", "other"))
    found = measured(data, tmp_path, replace(QUICK, typed=True))
    assert found.image_types is not None
    assert found.pixel_types is not None
    assert float(found.image_types.mean.values["accuracy"]) > 0.9  # the fake calls the left half scratched
    assert float(found.image_types.mean.values["chance"]) == 0.5
    assert found.confusion is not None
    assert found.confusion[0] == ("scratch", "stain")
    assert found.confusion[1].sum() == 16
    typing = Typing(data)
    assert typing.types == {"thing": ("scratch", "stain"), "other": ("scratch", "stain")}
    thing = next(one for one in found.pixel_types.products if one.row.name == "thing")
    assert [row.name for row in thing.types] == ["normal", "scratch", "stain"]
    direct = typed_by_hand(data.of(product="thing"))
    for row in thing.types:
        assert float(row.values["auroc"]) == pytest.approx(direct[row.name], abs=2e-4)


def typed_by_hand(data: DataSet) -> dict[str, float]:
    names = ("normal", "scratch", "stain")
    scores: dict[str, list[Any]] = {name: [] for name in names}
    truth: dict[str, list[Any]] = {name: [] for name in names}
    for one in data.samples:
        typed = score_alone(one).type_maps
        assert typed is not None
        mask = one.mask()
        assert mask is not None
        large = [enlarge(part, (48, 40)) for part in typed]
        maps = dict(zip(names, [1 - large[0] - large[1], *large], strict=True))
        for name in names:
            scores[name].append(maps[name].clip(0, 1).ravel())
            truth[name].append((mask if name == one.defect_type else ~mask if name == "normal" else 0 * mask).ravel())
    return {n: float(metrics.auroc(np.concatenate(scores[n]), np.concatenate(truth[n]))) for n in names}


def test_unreadable_images_are_in_no_number_and_named(tmp_path: Path) -> None:
    data = data_set()
    damaged = (replace(data.samples[4], readable=False), *data.samples[5:], *data.samples[:4])  # type: ignore[type-var]
    found = measured(replace(data, samples=damaged), tmp_path)
    assert [record["name"] for record in found.unreadable] == [data.samples[4].name]
    assert any("1 of 12 images cannot be read" in note for note in found.notes)
    without = measured(replace(data, samples=damaged[1:]), tmp_path)
    assert float(found.report.mean.values["image_auroc"]) == float(without.report.mean.values["image_auroc"])


def test_data_without_images_or_without_a_readable_one_is_refused(tmp_path: Path) -> None:
    data = data_set(count=3)
    with pytest.raises(UsageError, match="there are no images"):
        measured(replace(data, samples=()), tmp_path)
    damaged = tuple(replace(one, readable=False) for one in data.samples)  # type: ignore[type-var]
    with pytest.raises(UsageError, match=r"none of 3 images can be used; the first: .*is damaged"):
        measured(replace(data, samples=damaged), tmp_path)


def test_a_mask_of_another_size_is_an_unreadable_image(tmp_path: Path) -> None:
    data = data_set()
    wrong = replace(data.samples[1], truth=np.ones((5, 5), bool))  # type: ignore[type-var]
    found = measured(replace(data, samples=(data.samples[0], wrong, *data.samples[2:])), tmp_path)
    assert "5 x 5 px, the image 48 x 40 px" in found.unreadable[0]["error"]


def test_scores_that_are_not_numbers_stop_the_evaluation(tmp_path: Path) -> None:
    class Broken(Darkness):
        def score(self, features: Any, texts: Any) -> list[RawScores]:
            return [replace(row, image_score=np.nan) for row in super().score(features, texts)]

    with pytest.raises(ModelError, match="not numbers"):
        measured(data_set(), tmp_path, engine=Broken())


def test_what_was_stopped_goes_on_and_ends_with_the_same_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, settings = (
        data_set(count=6, products=("thing", "other")),
        EvaluationSettings(rounds=5, batch_size=2, typed=True, save_every_s=0.0),
    )
    whole = measured(data, tmp_path / "whole", settings)
    for stop_after in (0, 3, 1):
        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr(Darkness, "score", interrupted_after(stop_after))
            measured(data, tmp_path / "broken", settings)
    resumed = measured(data, tmp_path / "broken", settings)
    assert without_time(resumed) == without_time(whole)
    assert [record["name"] for record in resumed.records] == [one.name for one in data.samples]
    again = Darkness()
    assert without_time(measured(data, tmp_path / "broken", settings, engine=again)) == without_time(whole)
    assert again.batches == []  # nothing is looked at twice


def interrupted_after(batches: int) -> Callable[[Darkness, Any, Any], list[RawScores]]:
    """A scoring that somebody interrupts with Ctrl-C after so many calls."""
    scored, left = Darkness.score, iter(range(batches))

    def score(self: Darkness, features: Any, texts: Any) -> list[RawScores]:
        if next(left, None) is None:
            raise KeyboardInterrupt
        return scored(self, features, texts)

    return score


def without_time(found: Evaluation) -> dict[str, Any]:
    told = found.to_dict()
    del told["seconds"]
    return told


def test_a_torn_record_of_a_kill_is_cut_off(tmp_path: Path) -> None:
    data, settings = data_set(count=9), replace(QUICK, batch_size=3, save_every_s=0.0)
    measured(data, tmp_path, settings)
    (run,) = tmp_path.iterdir()
    with (run / "images.jsonl").open("ab") as file:
        file.write(b'{"name": "half of a rec')
    found = measured(data, tmp_path, settings)
    assert len(found.records) == 9
    assert (run / "images.jsonl").read_bytes().endswith(b"}\n")


def test_damaged_counts_are_named_with_what_to_delete(tmp_path: Path) -> None:
    measured(data_set(), tmp_path)
    (state,) = tmp_path.rglob("anomaly-*.npz")
    state.write_bytes(b"damaged")
    with pytest.raises(UsageError, match=r"delete .* to start anew"):
        measured(data_set(), tmp_path)


def test_another_setting_or_another_list_of_files_is_another_evaluation(tmp_path: Path) -> None:
    data = data_set()
    measured(data, tmp_path)
    measured(data, tmp_path, replace(QUICK, size="model"))
    measured(replace(data, samples=data.samples[:-1]), tmp_path)
    measured(data, tmp_path, replace(QUICK, limit=0.1, legacy=True))  # these change no count
    assert len(list(tmp_path.iterdir())) == 3


def test_several_checkpoints_make_one_group_with_mean_and_spread(tmp_path: Path) -> None:
    class Duller(Darkness):
        def score(self, features: Any, texts: Any) -> list[RawScores]:
            return [replace(row, image_score=round(row.image_score, 1)) for row in super().score(features, texts)]

    data = data_set()
    made = [measured(data, tmp_path, prompts="one"), measured(data, tmp_path, prompts="two", engine=Duller())]
    (group,) = grouped(made)
    spread = group.spread("image_auroc")
    values = [float(one.report.mean.values["image_auroc"]) for one in made]
    assert not isinstance(spread, Value)
    assert spread.mean == pytest.approx(np.mean(values))
    assert spread.deviation == pytest.approx(np.std(values, ddof=1))
    told = group.to_dict()
    assert told["checkpoints"] == 2
    assert told["mean"]["pixel_auroc"]["deviation"] == pytest.approx(0, abs=1e-12)
    nothing = grouped([measured(anomalous_only(data), tmp_path, prompts=name) for name in ("one", "two")])[0]
    undefined = nothing.spread("image_auroc")
    assert isinstance(undefined, Value)
    assert not undefined.defined


def test_everything_that_is_written_as_json_is_free_of_nan(tmp_path: Path) -> None:
    for data in (data_set(), anomalous_only(data_set()), data_set(level="image"), data_set(count=1)):
        found = measured(data, tmp_path, replace(QUICK, typed=True, legacy=True))
        json.dumps(found.to_dict(), allow_nan=False)
