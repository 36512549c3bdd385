"""The judge of the embedded model: its images, its figures, and that its default is the prompt ensemble's own."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from blemish import models
from blemish.backbones.preprocess import to_array
from blemish.errors import UsageError
from blemish.images import Picture
from blemish.methods.ensemble import EnsembleTexts, PromptEnsemble

sys.path.insert(0, str(Path(__file__).parents[2]))

from recipes.real import judging
from recipes.real.judge import Prediction, fused, predict, predict_all
from recipes.real.judging import Truth, figures, judged_images, table
from recipes.real.pairs import Pair, write_shard


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (448, 448, 3), np.uint8)


def shards(folder: Path) -> Path:
    mask = np.zeros((448, 448), bool)
    mask[100:140, 100:140] = True
    folder.mkdir(exist_ok=True)
    write_shard(
        [Pair(noise(2 * i), noise(2 * i + 1), mask, "scratch", "a/cup", 1.0) for i in range(2)], folder / "0000"
    )
    return folder


@pytest.fixture(scope="module")
def method() -> PromptEnsemble:
    return PromptEnsemble(models.load_backbone("embedded"))


@pytest.fixture(scope="module")
def texts(method: PromptEnsemble) -> EnsembleTexts:
    encoded = method.encode_texts()
    assert isinstance(encoded, EnsembleTexts)
    return encoded


def test_the_default_is_the_score_and_map_of_the_ensemble(method: PromptEnsemble, texts: EnsembleTexts) -> None:
    image = torch.from_numpy(to_array(Picture(noise(5), ""), method.backbone.config.preprocess))[None]
    with torch.inference_mode():
        expected = method.score(method.encode(image), texts)
    predicted = predict(method, texts, noise(5), input_name="default")
    assert predicted.score == pytest.approx(float(expected.image_score[0]))
    assert predicted.anomaly_map == pytest.approx(expected.anomaly_map[0].numpy())


def test_tiles_are_the_quarters_in_their_order(method: PromptEnsemble, texts: EnsembleTexts) -> None:
    predicted = predict(method, texts, noise(6), input_name="tiles")
    quarter = predict(method, texts, np.ascontiguousarray(noise(6)[224:, :224]), input_name="default").anomaly_map
    height, width = quarter.shape
    assert predicted.anomaly_map.shape == (2 * height, 2 * width)
    assert predicted.anomaly_map[height:, :width] == pytest.approx(quarter, abs=1e-5)
    assert 0 <= predicted.score <= 1


def test_a_larger_input_gives_a_finer_map(method: PromptEnsemble, texts: EnsembleTexts) -> None:
    default, large = (predict(method, texts, noise(7), input_name=name).anomaly_map for name in ("default", "448"))
    assert large.shape == (2 * default.shape[0], 2 * default.shape[1])


def test_kept_predictions_are_taken_again_and_those_of_other_images_are_refused(
    method: PromptEnsemble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs, options = (
        shards(tmp_path / "pairs"),
        {"inputs": ["default"], "sources": ["photos"], "keep": tmp_path / "keep"},
    )
    truths, first = predict_all(method.backbone, tmp_path, pairs, **options)
    assert [(truth.pair, truth.mask is not None) for truth in truths] == [(0, False), (0, True), (1, False), (1, True)]
    monkeypatch.setattr("recipes.real.judge.predict", lambda *_, **__: pytest.fail("it was kept"))
    again = predict_all(method.backbone, tmp_path, pairs, **options)[1]
    assert [one.score for one in again["default"]] == pytest.approx([one.score for one in first["default"]])
    monkeypatch.setattr(judging, "COUNT_PHOTOS", 1)
    with pytest.raises(UsageError, match="predictions of photos at default are of other images"):
        predict_all(method.backbone, tmp_path, pairs, **options)


@pytest.mark.parametrize("source", ["capsules", "deep-pcb", "photos", "large"])
def test_a_source_without_images_says_how_to_make_them(tmp_path: Path, source: str) -> None:
    with pytest.raises(UsageError, match=r"recipes\.real|--large-pairs"):
        next(judged_images(tmp_path, tmp_path, sources=[source]))


def test_the_judge_counts_order_leads_and_good_images_called_ng() -> None:
    mask = np.zeros((448, 448), bool)
    mask[:40, :40] = True
    on, off = np.zeros((28, 28), np.float32), np.zeros((28, 28), np.float32)
    on[0, 0], off[27, 27] = 1, 1
    truths = [Truth("a", truth, pair) for pair in (0, 1) for truth in (None, mask)] + [
        Truth("b", None),
        Truth("b", mask),
    ]
    by_source = figures(truths, np.array([0.1, 0.9, 0.8, 0.2, 0.5, 0.6]), [off, on, off, off, off, on])
    assert by_source["a"]["order"] == 0.5 and by_source["a"]["leads"] == 0.5 and by_source["a"]["good NG"] == 0.5
    assert by_source["b"]["leads"] == 1 and by_source["b"]["image"] == 1
    assert by_source["mean"]["image"] == pytest.approx((0.75 + 1) / 2)
    assert table({"default": by_source}).splitlines()[-1].startswith(f"| default | {by_source['mean']['J']:.3f} |")


def test_two_inputs_answer_with_the_mean_of_their_log_odds_on_the_finer_grid() -> None:
    fine, coarse = np.full((4, 4), 0.9, np.float32), np.full((2, 2), 0.5, np.float32)
    both = fused(Prediction(0.8, coarse), Prediction(0.5, fine))
    assert both.score == pytest.approx(2 / 3)  # odds of 4 and of 1: the root of 4
    np.testing.assert_allclose(both.anomaly_map, np.full((4, 4), 0.75), rtol=1e-5)  # of 9 and of 1
