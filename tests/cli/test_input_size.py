"""`--input-px` of inspect, calibrate and evaluate: real methods on a tiny random backbone, nothing of the loading replaced."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_train import write_mvtec

from blemish import cli
from blemish import models as store
from blemish.backbones.config import BackboneConfig
from blemish.backbones.model import Clip
from blemish.images import save

TINY = BackboneConfig.from_dict(
    {
        "name": "tiny",
        "joint_width": 16,
        "vision": {"image_size": 32, "width": 32, "depth": 2, "heads": 2, "patch_size": 8, "position_grid": 4},
        "text": {"width": 16, "depth": 2, "heads": 2},
    }
)
MODEL = ["--backbone", "tiny", "-q"]
RULE = ["--max-false-rejects", "10%", "--review", "off"]


@pytest.fixture(autouse=True)
def tiny_backbone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The backbone "tiny", an empty store, and a folder to stand in with images in `parts`."""

    def load_backbone(_: str) -> Clip:
        torch.manual_seed(0)
        return Clip(TINY)

    monkeypatch.setattr(store, "load_backbone", load_backbone)
    monkeypatch.setattr(store, "card", lambda _: {})
    monkeypatch.setenv("BLEMISH_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    for number in range(10):
        noise = np.random.default_rng(number).integers(0, 256, (80, 100, 3), dtype=np.uint8)
        save(noise, Path("parts") / f"{number}.png")


def read(path: str) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
    return data


def inspect(out: str, *options: str) -> list[dict[str, Any]]:
    """The records of a run over the parts."""
    assert cli.main(["inspect", "parts", *MODEL, "--keep-maps", "--out", out, *options]) == 0
    return [json.loads(line) for line in Path(out, "results.jsonl").read_text(encoding="utf-8").splitlines()]


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert cli.main(list(arguments)) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1, captured.err
    return captured.err


def map_shape(out: str, record: dict[str, Any]) -> tuple[int, ...]:
    with np.load(Path(out) / record["maps"]) as maps:
        shape: tuple[int, ...] = maps["anomaly_map"].shape
    return shape


def test_inspect_at_a_larger_input_has_finer_maps_and_says_so() -> None:
    own, larger, again = inspect("own"), inspect("larger", "--input-px", "64"), inspect("again", "--input-px", "64")
    assert (map_shape("own", own[0]), map_shape("larger", larger[0])) == ((4, 4), (8, 8))
    assert (read("own/run.json")["setup"]["input_px"], read("larger/run.json")["setup"]["input_px"]) == (32, 64)
    assert own[0]["model"]["fingerprint"] != larger[0]["model"]["fingerprint"]
    assert larger[0]["thresholds"]["calibration"] == "uncalibrated"
    assert larger[0]["min_area_px"] == own[0]["min_area_px"] / 4  # a quarter of a smaller patch
    assert [one["image_score"] for one in again] == [one["image_score"] for one in larger]


def test_a_run_is_not_resumed_at_another_input(capsys: pytest.CaptureFixture[str]) -> None:
    inspect("run", "--input-px", "64")
    assert len(inspect("run", "--input-px", "64", "--resume")) == 10
    said = refused(capsys, "inspect", "parts", *MODEL, "--keep-maps", "--out", "run", "--resume")
    assert "input px 64, not 32" in said


def test_a_calibration_brings_its_input_and_is_refused_at_another(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["calibrate", "parts", *RULE, *MODEL, "--input-px", "64"]) == 0
    assert read("calibration.json")["setup"]["input_px"] == 64
    (record, *_) = inspect("run", "--calibration", "calibration.json")
    assert record["thresholds"]["calibration"] == "calibrated"
    assert map_shape("run", record) == (8, 8)
    with_it = ["inspect", "parts", *MODEL, "--calibration", "calibration.json"]
    assert "an input of 64 px, not 32" in refused(capsys, *with_it, "--input-px", "32")
    assert "an input of 64 px, not 96" in refused(capsys, *with_it, "--input-px", "96")
    inspect("own")
    said = refused(capsys, "rethreshold", "own", "--calibration", "calibration.json")
    assert "an input of 64 px, not 32" in said


def test_a_calibration_at_the_backbones_own_input_does_not_hold_at_another(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["calibrate", "parts", *RULE, *MODEL]) == 0
    with_it = ["inspect", "parts", *MODEL, "--calibration", "calibration.json"]
    assert "an input of 32 px, not 64" in refused(capsys, *with_it, "--input-px", "64")


def test_evaluate_at_a_larger_input_is_an_evaluation_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    write_mvtec(Path("things"))
    asked = ["evaluate", "ensemble", "--data", "things", "--backbone", "tiny", "--rounds", "0", "--out", "out"]
    asked += ["--cache", "float32"]
    models = []
    for options in ([], ["--input-px", "64"]):
        assert cli.main([*asked, *options, "--markdown", "page.md"]) == 0
        models.append(read("out/results.json")["evaluations"][0]["model"])
    assert [model["input_px"] for model in models] == [32, 64]
    assert models[0]["fingerprint"] != models[1]["fingerprint"]
    assert models[0]["backbone_fingerprint"] == models[1]["backbone_fingerprint"]
    assert len(list(Path("out/runs").iterdir())) == 2
    assert " at 64 px, method" in capsys.readouterr().out
    assert " at 64 px, method" in Path("page.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["inspect", "parts", "--input-px", "60"], "an input of 60 px does not suit the backbone tiny"),
        (["inspect", "parts", "--input-px", "0"], "multiples of 8 px (its patch) from 56 to 1344; the nearest: 56"),
        (["inspect", "parts", "--input-px", "large"], "--input-px"),
        (["calibrate", "parts", "--input-px", "4000"], "the nearest: 1344"),
        (["evaluate", "ensemble", "--data", "parts", "--input-px", "-8"], "the nearest: 56"),
        (["evaluate", "--suite", "faprompt", "--input-px", "448"], "leave --input-px away"),
    ],
)
def test_bad_values_are_one_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert message in refused(capsys, *arguments, *MODEL)
