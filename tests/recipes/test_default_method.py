"""Which method `blemish inspect` takes: trained prompts only where they lead by more than their seeds differ."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from recipes.prompts import set_default_method


@pytest.mark.parametrize(
    ("mean", "spread", "default"),
    [(0.95, 0.01, "faprompt"), (0.905, 0.01, "ensemble"), (0.85, 0.01, "ensemble"), (0.95, None, "ensemble")],
)
def test_the_ensemble_stays_unless_prompts_lead(
    tmp_path: Path, mean: float, spread: float | None, default: str
) -> None:
    (tmp_path / "card.json").write_text(json.dumps({"held_out": {"image_auroc": 0.9, "pixel_auroc": 0.9}}))
    (tmp_path / "faprompt").mkdir()
    figure = {"mean": mean, "spread": spread}
    seeds = {"image_auroc": figure, "pixel_auroc": figure}
    (tmp_path / "faprompt" / "card.json").write_text(json.dumps({"seeds": seeds}))
    set_default_method(tmp_path)
    assert json.loads((tmp_path / "card.json").read_text())["default_method"] == default
