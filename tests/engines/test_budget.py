"""A budget chooses the largest input that keeps within it, in float32 before 16 bits, and says what that costs."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from small_methods import small_method

from blemish import cli
from blemish.config import ModelConfig
from blemish.engines import budget as module
from blemish.engines.budget import BudgetChoice, choose_within, parse_time
from blemish.engines.exported import EXPORT_FILE
from blemish.engines.held_out import RenderedResult
from blemish.engines.torch import TorchEngine
from blemish.errors import UsageError
from blemish.models.load import Loaded

TIMES = {
    (32, "float32"): 4.0,
    (32, "half"): 3.0,
    (24, "float32"): 2.0,
    (24, "half"): 1.5,
    (16, "float32"): 1.0,
    (16, "half"): 0.8,
}


@pytest.fixture(autouse=True)
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Small methods that take as long as the table says; how often something was measured on held-out photos."""
    monkeypatch.setenv("BLEMISH_HOME", str(tmp_path / "home"))
    measured: list[int] = []

    def load(config: ModelConfig, *, input_px: int | None = None) -> Any:
        engine = SimpleNamespace(name="torch", precision=config.precision, input=SimpleNamespace(size=input_px))
        return SimpleNamespace(engine=engine)

    def on_held_out(engine: Any, *, count: int) -> RenderedResult:
        measured.append(count)
        share = engine.input.size / 40
        return RenderedResult(share, share / 2, np.zeros(count), np.zeros(count))

    monkeypatch.setattr(TorchEngine, "load", load)
    method = small_method()
    monkeypatch.setattr(module, "load_method", lambda *_, **__: Loaded(method))
    monkeypatch.setattr(module, "_seconds", lambda engine, _: TIMES[engine.input.size, engine.precision])
    monkeypatch.setattr(module, "on_held_out", on_held_out)
    return measured


@pytest.mark.parametrize(
    ("budget_s", "expected"),
    [(5.0, (32, "float32")), (3.5, (32, "half")), (2.0, (24, "float32")), (1.6, (24, "half")), (0.9, (16, "half"))],
)
def test_the_first_that_keeps_within_it_is_chosen(budget_s: float, expected: tuple[int, str]) -> None:
    choice = choose_within(ModelConfig(), budget_s=budget_s)
    assert (choice.input_px, choice.precision) == expected
    assert choice.seconds == TIMES[expected] <= budget_s
    assert choice.own_px == 32


def test_it_says_what_it_costs_and_measures_that_once(models: list[int]) -> None:
    assert not choose_within(ModelConfig(), budget_s=5.0).photos  # the model's own input costs nothing
    assert "costs nothing" in str(choose_within(ModelConfig(), budget_s=5.0))
    hurried = choose_within(ModelConfig(), budget_s=2.0, measure_s=10.0)
    assert "was not measured" in str(hurried)
    assert models == []
    choice = choose_within(ModelConfig(), budget_s=2.0)
    assert (choice.image_auroc, choice.pixel_auroc) == ((0.8, 0.6), (0.4, 0.3))
    assert "24 px in float32, 2 s an image here; on 60 held-out rendered pictures image AUROC 0.800 -> 0.600" in str(
        choice
    )
    assert choose_within(ModelConfig(), budget_s=2.0, measure_s=10.0) == choice  # kept
    assert models == [60, 60]


def test_a_budget_that_nothing_keeps_within_is_refused() -> None:
    with pytest.raises(
        UsageError, match=r"keeps within 0.1 s an image here: 32 px in float32 4 s, .*16 px in half 0.8 s"
    ):
        choose_within(ModelConfig(), budget_s=0.1)


def test_an_exported_model_has_one_input_size(tmp_path: Path) -> None:
    (tmp_path / EXPORT_FILE).write_text("{}")
    with pytest.raises(UsageError, match="has one input size"):
        choose_within(ModelConfig(backbone=str(tmp_path)), budget_s=1.0)


@pytest.mark.parametrize(("text", "seconds"), [("2s", 2.0), ("0.5 s", 0.5), ("300ms", 0.3)])
def test_a_budget_is_a_time(text: str, seconds: float) -> None:
    assert parse_time(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["2", "0s", "-1s", "fast", "2 min"])
def test_what_is_no_time_is_refused(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError, match="a budget is a time for an image, as 2s or 300ms"):
        parse_time(text)
    assert cli.main(["inspect", "photos", "--budget", text]) == 2
    assert "as 2s or 300ms" in capsys.readouterr().err


def test_inspect_takes_what_was_chosen_and_says_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[Any] = []

    def inspect_folder(*_: Any, config: Any, **__: Any) -> None:
        asked.append((config.input.input_px, config.model.precision))
        raise UsageError("enough")

    choice = BudgetChoice(input_px=24, precision="half", seconds=0.2, own_px=32)
    monkeypatch.setattr(module, "choose_within", lambda *_, **__: choice)
    monkeypatch.setattr("blemish.runs.run.inspect_folder", inspect_folder)
    assert cli.main(["inspect", "photos", "--budget", "300ms"]) == 2
    assert asked == [(24, "half")]
    assert "budget 300ms: 24 px in half, 0.2 s an image here" in capsys.readouterr().err
    assert cli.main(["inspect", "photos", "--budget", "300ms", "--input-px", "64"]) == 2
    assert "leave out those, a calibration and a profile" in capsys.readouterr().err
    assert cli.main(["engines", "--budget", "2s"]) == 0
    assert "--engine torch --input-px 24 --precision half" in capsys.readouterr().out
