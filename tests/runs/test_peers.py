"""What a run decides of comparing its images with each other: a series judges itself, a mixture does not, and both say so."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from blemish import cli
from blemish.config import Config
from blemish.images import find_images, save
from blemish.runs.peers import LEAST_SERIES, settle_peers
from blemish.synthesis import render_series

INPUT_PX = 224  # quicker than the 320 px that are the default
SERIES, MIXED = 51_000_111, range(51_000_200, 51_000_206)


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("series")
    for number, piece in enumerate(render_series(SERIES, pieces=LEAST_SERIES, defective=3)):
        save(piece.image, folder / f"{number:02}.png")
    return folder


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mixed")
    for seed in MIXED:
        for number, piece in enumerate(render_series(seed, pieces=2, defective=0)):
            save(piece.image, folder / f"{seed}-{number}.png")
    return folder


def test_a_series_judges_itself_and_says_how_to_switch_that_off(
    series: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = ["inspect", str(series), "--input-px", str(INPUT_PX), "--out"]
    assert cli.main([*call, str(tmp_path / "auto")]) == 0
    assert "--peers off" in capsys.readouterr().out
    run = json.loads((tmp_path / "auto" / "run.json").read_text())
    assert run["setup"]["peers"].startswith(f"{LEAST_SERIES} ")
    assert run["model"]["method"] == "ensemble+peers"
    assert "series of one product" in run["peers"]
    assert cli.main([*call, str(tmp_path / "auto"), "--resume", "--quiet"]) == 0
    assert cli.main([*call, str(tmp_path / "off"), "--peers", "off", "--quiet"]) == 0
    alone = json.loads((tmp_path / "off" / "run.json").read_text())
    assert "peers" not in alone["setup"]
    assert alone["peers"] == ""
    assert cli.main([*call, str(tmp_path / "auto"), "--peers", "off", "--resume", "--quiet"]) == 2


def test_a_mixture_is_looked_at_one_by_one(mixed: Path) -> None:
    settled = settle_peers(Config().with_settings(input_px=INPUT_PX), [mixed], find_images(mixed))
    assert settled.config.references.peers is None
    assert "no series of one product" in settled.note


def test_a_series_most_of_which_looks_defective_is_looked_at_one_by_one(
    series: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("blemish.runs.peers.MOST_DEFECTIVE", -0.01)
    settled = settle_peers(Config().with_settings(input_px=INPUT_PX), [series], find_images(series))
    assert settled.config.references.peers is None
    assert "look defective, and images judge each other only where most are good" in settled.note
    assert f"--peers {series}" in settled.note


def test_nothing_is_decided_where_it_was_said_or_where_thresholds_hold_without_peers(series: Path) -> None:
    found = find_images(series)
    for settings in ({"peers": "off"}, {"threshold": 0.6}, {"tiles": "auto"}, {"references": str(series)}):
        settled = settle_peers(Config().with_settings(**settings), [series], found)
        assert (settled.config.references.peers, settled.note) == (None, "")
    named = settle_peers(Config().with_settings(peers=str(series)), [series], found)
    assert (named.config.references.peers, named.note) == (str(series), "")
    for images, some in (([series], found[: LEAST_SERIES - 1]), ([series, series], found), ([series], None)):
        assert settle_peers(Config(), images, some).note == ""


def test_images_of_noise_decide_nothing_that_breaks(tmp_path: Path) -> None:
    for number in range(LEAST_SERIES):
        save(np.full((16, 16, 3), 7 * number, np.uint8), tmp_path / f"{number}.png")
    assert settle_peers(Config().with_settings(input_px=INPUT_PX), [tmp_path], find_images(tmp_path)).note != ""
