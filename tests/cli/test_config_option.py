"""`--config FILE` of the commands: what the file says holds, options come before it, and run.json can be asked for again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blemish import cli
from blemish.config import Config
from blemish.images import save
from fakes import use_darkness

SHADES = (0.1, 0.3, 0.5, 0.7, 0.9)


@pytest.fixture(autouse=True)
def in_a_folder_with_parts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The fake engine, a folder of grey parts of these image scores, and a line's configuration."""
    use_darkness(monkeypatch)
    monkeypatch.chdir(tmp_path)
    for number, shade in enumerate(SHADES):
        save(np.full((16, 16, 3), round(255 * (1 - shade)), np.uint8), Path("parts") / f"{number}.png")
    Path("line").mkdir()


def line(text: str) -> str:
    Path("line/line.toml").write_text(text, encoding="utf-8")
    return "line/line.toml"


def run_json(out: str = "out") -> dict[str, Any]:
    data: dict[str, Any] = json.loads(Path(out, "run.json").read_text(encoding="utf-8"))
    return data


def counts(out: str = "out") -> dict[str, int]:
    found: dict[str, int] = run_json(out)["counts"]
    return found


def inspect(*options: str, out: str = "out") -> int:
    return cli.main(["inspect", "parts", "--out", out, *options])


def test_the_file_says_what_options_would(capsys: pytest.CaptureFixture[str]) -> None:
    save(np.full((16, 16), 255, np.uint8), "line/roi.png")
    config = line(
        '[vocabulary]\ndefects = ["dent", "burr"]\n[thresholds]\nthreshold = 0.6\n[regions]\nmm_per_px = 0.5\n'
        '[masks]\nroi = "roi.png"\n'
    )
    assert inspect("--config", config, "-q") == 0
    options = ["--defects", "dent, burr", "--threshold", "0.6", "--mm-per-px", "0.5", "--roi", "line/roi.png", "-q"]
    assert inspect(*options, out="again") == 0
    assert Path("out/results.jsonl").read_bytes() == Path("again/results.jsonl").read_bytes()
    assert run_json()["identity"] == run_json("again")["identity"]
    assert capsys.readouterr().err == ""


def test_an_option_comes_before_the_file_and_that_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    config = line('[thresholds]\nthreshold = 0.6\n[model]\nbatch_size = 4\n[input]\ntiles = "8"\n')
    assert inspect("--config", config, "--threshold", "0.2", "--tiles", "off") == 0
    assert counts()["ng"] == 4
    assert capsys.readouterr().err.splitlines() == [
        "note: --tiles off instead of 8 in line/line.toml",
        "note: --threshold 0.2 instead of 0.6 in line/line.toml",
    ]
    assert run_json()["config"] == {
        "model": {"batch_size": 4},
        "input": {"tiles": "off"},
        "thresholds": {"threshold": 0.2},
    }


def test_names_on_the_command_line_take_away_the_files_vocabulary(capsys: pytest.CaptureFixture[str]) -> None:
    Path("line/parts.toml").write_text(
        "[types.burr]\n[types.dent]\n[types.hole]\n[products.lid]\ntypes = ['burr', 'dent']\n", encoding="utf-8"
    )
    config = line('[vocabulary]\nvocabulary = "parts.toml"\nproduct = "lid"\n')
    assert inspect("--config", config, "-q", out="file") == 0
    assert run_json("file")["types"] == ["burr", "dent"]
    assert inspect("--config", config, "--defects", "dent, hole", "-q") == 0
    assert run_json()["types"] == ["dent", "hole"]
    assert inspect("--config", config, "--defects", "dent", "--product", "lid", "-q", out="x") == 2
    assert "a product (lid) is one of a vocabulary file" in capsys.readouterr().err


def test_a_calibration_on_the_command_line_comes_before_thresholds_of_the_file() -> None:
    rule = ["--max-false-rejects", "20%", "--review", "off", "-q"]
    config = line("[thresholds]\nthreshold = 0.05\n")
    assert cli.main(["calibrate", "parts", *rule, "--config", config]) == 0
    assert inspect("--config", config, "--calibration", "calibration.json", "-q") == 0
    assert run_json()["thresholds"]["calibration"] == "calibrated"
    both = ["--calibration", "calibration.json", "--threshold", "0.05"]
    assert inspect("--config", config, *both, "-q", out="both") == 0
    assert run_json("both")["thresholds"]["calibration"] == "user"


def test_what_run_json_says_can_be_asked_for_again() -> None:
    assert inspect("--defects", "dent, burr", "--threshold", "0.25", "--min-area", "3", "--range", "0:4095", "-q") == 0
    asked = Config.from_dict(run_json()["config"])
    assert inspect("--config", line(asked.to_toml()), "--resume", "-q") == 0  # refused if anything differed
    assert run_json()["status"] == "finished"


def test_calibrate_takes_a_vocabulary_file() -> None:
    Path("words.toml").write_text("[types.dent]\n[types.burr]\n", encoding="utf-8")
    rule = ["--max-false-rejects", "20%", "--review", "off", "-q"]
    assert cli.main(["calibrate", "parts", *rule, "--vocabulary", "words.toml"]) == 0
    assert json.loads(Path("calibration.json").read_text(encoding="utf-8"))["types"] == ["dent", "burr"]


def test_rethreshold_takes_the_thresholds_of_a_file() -> None:
    assert inspect("-q") == 0
    assert counts()["ng"] == 2
    assert cli.main(["rethreshold", "out", "--config", line("[thresholds]\nthreshold = 0.2\n"), "-q"]) == 0
    assert counts()["ng"] == 4


@pytest.mark.parametrize("command", ["inspect", "calibrate", "rethreshold", "evaluate", "train"])
def test_every_command_with_a_model_or_thresholds_takes_a_file(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config = line("[modle]\n")
    arguments = {"train": ["faprompt", "--data", "x", "--out", "o"], "evaluate": ["--data", "x"]}
    assert cli.main([command, *arguments.get(command, ["parts"]), "--config", config]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert "line/line.toml: unknown table 'modle'; did you mean 'model'?" in captured.err


@pytest.mark.parametrize("command", ["inspect", "calibrate", "evaluate"])
def test_what_decides_scores_are_options_of_every_command_that_scores(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([command, "--help"]) == 0
    text = capsys.readouterr().out
    for option in ("--vocabulary", "--product", "--peers", "--tiles", "--roi", "--ignore", "--input-px", "--set"):
        assert f"{option} " in text
