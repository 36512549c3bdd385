"""Grey images whose scores are known, and the fake engine that gives them, for the commands about thresholds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from blemish import cli
from blemish.config import ModelConfig
from blemish.engines.base import LoadedEngine
from blemish.images import save
from fakes import CARD, DarknessEngine, use_darkness

GOOD = 39  # images: two of them may reach the threshold's rank, as 5 % of 40 are 2
RULE = ["--max-false-rejects", "5%", "--review", "10%"]


class Model(DarknessEngine):
    """The fake engine whose facts tests change."""

    fingerprint: ClassVar[str] = "0123456789abcdef"
    depends: ClassVar[bool] = False
    min_lead: ClassVar[float] = 0.0

    @classmethod
    def load(cls, config: ModelConfig, *, input_px: int | None = None) -> LoadedEngine:
        del input_px
        engine = cls(backbone=config.backbone, fingerprint=cls.fingerprint)
        engine.scores_depend_on_vocabulary = cls.depends
        return LoadedEngine(engine=engine, thresholds=CARD, min_lead=cls.min_lead)


def use_model(monkeypatch: pytest.MonkeyPatch, folder: Path) -> type[Model]:
    """The fake engine; the current folder is a new one."""

    class Here(Model):
        pass

    use_darkness(monkeypatch, Here)
    monkeypatch.chdir(folder)
    return Here


def shades(folder: str, darkness: list[float]) -> str:
    """Grey images of these image scores (0..1), in steps of 1/255."""
    for number, value in enumerate(darkness):
        save(np.full((16, 16, 3), round(255 * (1 - value)), np.uint8), Path(folder) / f"{number:03}.png")
    return folder


def good_images() -> str:
    return shades("good", [number / 255 for number in range(GOOD)])


def parts_to_inspect() -> str:
    return shades("parts", [0.1, 35 / 255, 37 / 255, 38 / 255, 0.9])


def read(path: str) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
    return data


def records(run: str = "run") -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(run, "results.jsonl").read_text(encoding="utf-8").splitlines()]


def verdicts(run: str = "run") -> list[str]:
    return [record["verdict"] for record in records(run)]


def fails(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert cli.main(list(arguments)) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1, captured.err
    return captured.err


def calibrated(good: str) -> list[str]:
    cli.main(["calibrate", good, *RULE, "-q"])
    return ["--calibration", "calibration.json", "-q"]
