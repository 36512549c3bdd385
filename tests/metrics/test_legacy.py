"""The papers' AUPRO against the value of the official FAPrompt code, and its other metrics."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from blemish.errors import UsageError
from blemish.metrics import SteppedAupro, aupro, auroc, average_precision
from golden.golden_sets import load, sets
from maps import make_maps

TOLERANCE = 1e-6


@pytest.mark.parametrize("path", sets("faprompt"))
def test_legacy_aupro_and_pixel_auroc_equal_the_official_code(path: Path) -> None:
    values = load(path).values
    maps, masks = values["unit/pro_maps"].numpy(), values["unit/pro_masks"].numpy()
    assert float(aupro(list(maps), list(masks), legacy_steps=200)) == pytest.approx(
        float(values["unit/pro"]), abs=TOLERANCE
    )
    assert float(auroc(maps, masks)) == pytest.approx(float(values["unit/pixel_auroc"]), abs=TOLERANCE)


def test_fed_map_by_map_it_is_the_same() -> None:
    maps, masks = make_maps("random", images=6)
    stepped = SteppedAupro(min(one.min() for one in maps), max(one.max() for one in maps))
    for index in (3, 1, 0, 5, 4, 2):
        stepped.add(maps[index], masks[index])
    assert float(stepped.value()) == pytest.approx(float(aupro(maps, masks, legacy_steps=200)), abs=1e-12)


def test_one_outlier_moves_the_papers_number_and_not_ours() -> None:
    maps, masks = make_maps("random")
    moved = [one.copy() for one in maps]
    moved[0][0, 0] = 20
    assert abs(float(aupro(moved, masks)) - float(aupro(maps, masks))) < 1e-3
    assert abs(float(aupro(moved, masks, legacy_steps=200)) - float(aupro(maps, masks, legacy_steps=200))) > 0.02


def test_extremes_must_be_extremes() -> None:
    for lowest, highest in ((1.0, 0.0), (np.nan, 1.0), (0.0, np.inf)):
        with pytest.raises(UsageError, match="finite and in order"):
            SteppedAupro(lowest, highest)


@pytest.mark.parametrize("path", sets("faprompt"))
def test_image_metrics_equal_the_official_code(path: Path) -> None:
    values = load(path).values
    scores, labels = values["unit/bfocal_score"].numpy(), values["unit/bfocal_label"].numpy()
    assert float(auroc(scores, labels)) == pytest.approx(float(values["unit/image_auroc"]), abs=TOLERANCE)
    assert float(average_precision(scores, labels)) == pytest.approx(float(values["unit/image_ap"]), abs=TOLERANCE)
