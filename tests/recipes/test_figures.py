"""Figures on held-out renders belong to the recipe that made them, and variants are compared with it seed by seed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

import recipes.embedded.__main__ as steps
from recipes.embedded.ablation import SHOWN, WHOLE, table
from recipes.embedded.config import Recipe


def test_figures_of_another_recipe_do_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    monkeypatch.setattr(steps, "predict", lambda clip, _held_out, **_options: clip)
    monkeypatch.setattr(steps, "summary", lambda clip, _other: {"image_auroc": float(len(clip))})

    def measured(name: str, recipe: Recipe) -> dict[str, float]:
        def clip() -> str:
            made.append(name)
            return name

        return steps.measured(clip, [0] * 9, tmp_path / "joint.json", recipe=recipe)  # type: ignore[arg-type]

    assert measured("one", Recipe()) == {"image_auroc": 3.0}
    assert measured("again", Recipe()) == {"image_auroc": 3.0}
    assert measured("other", Recipe(captions=0.0)) == {"image_auroc": 5.0}
    assert made == ["one", "other"]


def test_a_variant_stands_with_its_difference_from_the_recipe_with_the_same_seeds() -> None:
    def run(value: float) -> dict[str, float]:
        return dict.fromkeys(SHOWN, value)

    lines = table({WHOLE: [run(0.8), run(0.9)], "without captions": [run(0.75)]}).splitlines()
    assert lines[2] == f"| {WHOLE} | 2 | " + " | ".join(["0.850 ± 0.071"] * len(SHOWN)) + " |"
    assert lines[3] == "| without captions | 1 | " + " | ".join(["-0.050"] * len(SHOWN)) + " |"
