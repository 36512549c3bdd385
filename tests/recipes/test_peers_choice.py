"""What decides how peers are compared: figures of rendered series, and the lines that go into the card."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from blemish.methods.mutual import CONVOLUTIONAL_VIEWS, MutualConfig, MutualScoring
from blemish.models.load import load_method
from blemish.synthesis import SyntheticSample, render_series

sys.path.insert(0, str(Path(__file__).parents[2]))

from recipes.embedded import peers

SEED = 51_000_111


@pytest.fixture(scope="module")
def series() -> tuple[SyntheticSample, ...]:
    return render_series(SEED, pieces=8, defective=3)


def test_the_tables_measure_what_the_method_does(series: tuple[SyntheticSample, ...]) -> None:
    method = load_method(method="ensemble").method
    batches = peers._tensors(method, series)
    with torch.inference_mode():
        seen, found = peers._look(method, series), peers._scored(MutualScoring(method, batches), batches)
    masks = np.stack([piece.mask for piece in series])
    shown = peers._figures([seen], CONVOLUTIONAL_VIEWS, MutualConfig())
    assert shown[0] == pytest.approx(
        peers._aurocs(found.image_score.numpy(), found.anomaly_map.numpy(), masks), abs=1e-4
    )
    words = peers._aurocs(seen.words.image_score.numpy(), seen.words.anomaly_map.numpy(), masks)
    assert peers._figures([seen], None, MutualConfig())[0] == words
    assert peers._figures([seen], CONVOLUTIONAL_VIEWS, replace(MutualConfig(), weight=0.0))[0] == pytest.approx(
        words, abs=1e-4
    )


def test_the_card_gets_the_lines_of_each_method(series: tuple[SyntheticSample, ...], tmp_path: Path) -> None:
    card = tmp_path / "card.json"
    card.write_text(json.dumps({"name": "x", "peers": {"dapo": {"kept": 1}}}))
    peers._write_card(["ensemble"], [series], card)
    written = json.loads(card.read_text())
    assert written["name"] == "x"
    assert written["peers"]["dapo"] == {"kept": 1}
    assert "1 rendered series" in written["peers"]["measured_on"]
    lines = written["peers"]["ensemble"]["thresholds"]
    assert 0 < lines["review"] < lines["image"] < 1
    assert 0 < lines["pixel"] <= 1
    for who in ("alone", "with peers"):
        assert set(written["peers"]["ensemble"][who]) == {"image_auroc", "pixel_auroc"}
