"""`evaluate --profile`: images are measured beside the memory of a profile."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import blemish
from blemish.images import save


def tile(seed: int, *, spot: bool = False) -> NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    grey = np.clip(128 + 4 * rng.standard_normal((64, 64, 1)), 0, 255)
    if spot:
        grey[20:36, 20:36] = 20
    return np.repeat(grey, 3, axis=2).astype(np.uint8)


@pytest.mark.slow
@pytest.mark.parametrize("compare_px", [None, 448])
def test_images_are_measured_beside_the_memory_of_a_profile(
    compare_px: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for number in range(4):
        save(tile(number), Path("good") / f"{number}.png")
        save(tile(10 + number), Path("tiles/test/good") / f"{number}.png")
        save(tile(20 + number, spot=True), Path("tiles/test/hole") / f"{number}.png")
    learned = blemish.learn("good", out="tile.blemish", keep_all=True, compare_px=compare_px)
    report = blemish.evaluate("tiles", out="measured", rounds=0, profile="tile.blemish")
    told = json.loads(Path("measured/results.json").read_text(encoding="utf-8"))
    assert told["evaluations"][0]["settings"]["profile"] == "tile.blemish"
    (folder,) = Path("measured/runs").iterdir()
    identity = json.loads((folder / "identity.json").read_text(encoding="utf-8"))
    assert identity["profile"] == learned.profile.identity
    shown = {found.source: found.image_score for found in blemish.load(profile="tile.blemish").inspect(sorted_tiles())}
    (evaluation,) = report.session.evaluations
    assert len(evaluation.records) == len(shown) == 8
    for record in evaluation.records:
        (score,) = (score for source, score in shown.items() if source.endswith(record["name"]))
        assert record["image_score"] == pytest.approx(score, abs=1e-5)


def sorted_tiles() -> list[str]:
    return [str(path) for path in sorted(Path("tiles/test").rglob("*.png"))]
