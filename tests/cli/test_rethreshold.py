"""Thresholds that move: false alarms in `calibrate`, and `rethreshold`, which decides a run again."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from blemish import cli
from blemish.images import save
from blemish.language import general
from blemish.results import UNKNOWN
from cli.calibrating import (
    Model,
    calibrated,
    fails,
    good_images,
    parts_to_inspect,
    read,
    records,
    use_model,
    verdicts,
)


@pytest.fixture(autouse=True)
def without_a_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> type[Model]:
    return use_model(monkeypatch, tmp_path)


@pytest.fixture
def good() -> str:
    return good_images()


@pytest.fixture
def parts() -> str:
    return parts_to_inspect()


# false alarms


@pytest.mark.parametrize("from_run", [True, False])
def test_false_alarms_move_the_threshold_and_are_remembered(
    good: str, parts: str, from_run: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    options = calibrated(good)
    cli.main(["inspect", parts, *options, "--out", "run"])
    Path("list.txt").write_text("parts/004.png\n")
    capsys.readouterr()
    extra = ["--run", "run"] if from_run else []
    assert cli.main(["calibrate", "--false-alarms", "list.txt", "--calibration", "calibration.json", *extra]) == 0
    assert "of 1 added images 0 are no longer NG" in capsys.readouterr().out  # one of 40 may lie above
    found = read("calibration.json")
    assert found["history"][0]["added"][0]["source"] == "parts/004.png"
    assert found["history"][0]["why"] == "false alarms listed in list.txt"
    cli.main(["rethreshold", "run", "--calibration", "calibration.json", "-q"])
    assert verdicts() == ["ok", "ok", "review", "review", "ng"]


def test_false_alarms_must_be_in_the_run(good: str, parts: str, capsys: pytest.CaptureFixture[str]) -> None:
    options = calibrated(good)
    cli.main(["inspect", parts, *options, "--out", "run"])
    Path("list.txt").write_text("parts/none.png\n")
    command = ["calibrate", "--false-alarms", "list.txt", "--calibration", "calibration.json", "--run", "run"]
    assert "holds no result of parts/none.png" in fails(capsys, *command)


# rethreshold


def test_a_run_is_decided_again_and_no_score_changes(good: str, parts: str, capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["inspect", parts, "--out", "run", "-q"])
    before = records()
    assert cli.main(["rethreshold", "run", "--threshold", "0.14", "--pixel-threshold", "0.1"]) == 0
    printed = capsys.readouterr().out
    assert "OK 2, REVIEW 0, NG 3; 2 verdicts changed" in printed
    assert "regions of 5 images stay as found at their old pixel threshold: the run kept no maps" in printed
    after = records()
    for old, new in zip(before, after, strict=True):
        for name in ("source", "image_score", "map_peak", "types", "regions"):
            assert old[name] == new[name]
        assert (new["thresholds"]["image"], new["thresholds"]["calibration"]) == (0.14, "user")
        assert new["thresholds"]["pixel"] == old["thresholds"]["pixel"]  # in force for the regions that are there
    with Path("run/results.csv").open(encoding="utf-8", newline="") as stream:
        assert [row["verdict"] for row in csv.DictReader(stream)] == verdicts() == ["ok", "ok", "ng", "ng", "ng"]
    run = read("run/run.json")
    assert run["counts"] == {"ok": 2, "review": 0, "ng": 3, "unreadable": 0}
    assert run["thresholds"]["image"] == 0.14
    (entry,) = run["rethresholded"]
    assert (entry["changed_verdicts"], entry["old_regions"]) == (2, 5)
    assert not list(Path("run").glob(".*"))


@pytest.mark.parametrize("extra", [[], ["--roi", "roi.png", "--mm-per-px", "0.1", "--tiles", "8"]])
def test_with_kept_maps_a_run_becomes_what_inspecting_again_would_give(parts: str, extra: list[str]) -> None:
    roi = np.zeros((16, 16), np.uint8)
    roi[2:9, 3:] = 255
    save(roi, "roi.png")
    limits = ["--threshold", "0.14", "--pixel-threshold", "0.1"]
    cli.main(["inspect", parts, "--out", "run", "-q", "--keep-maps", *extra])
    cli.main(["inspect", parts, "--out", "again", "-q", "--keep-maps", *limits, *extra])
    assert records("run") != records("again")
    assert cli.main(["rethreshold", "run", *limits, "-q"]) == 0
    assert records("run") == records("again")
    for folder in ("masks", "overlays"):
        for path in Path("again", folder).iterdir():
            assert path.read_bytes() == Path("run", folder, path.name).read_bytes()
    assert Path("run/results.csv").read_bytes() == Path("again/results.csv").read_bytes()
    assert read("run/run.json")["thresholds"] == read("again/run.json")["thresholds"]


def test_the_line_below_which_a_type_is_unknown_stays_that_of_the_run(parts: str, without_a_model: type[Model]) -> None:
    without_a_model.min_lead = 0.6  # these images are dark on both sides: no type leads
    limits = ["--threshold", "0.14", "--pixel-threshold", "0.1"]
    cli.main(["inspect", parts, "--out", "run", "-q", "--keep-maps"])
    cli.main(["inspect", parts, "--out", "again", "-q", "--keep-maps", *limits])
    assert read("run/run.json")["min_lead"] == 0.6
    without_a_model.min_lead = 0.0  # what the card says today is not asked
    assert cli.main(["rethreshold", "run", *limits, "-q"]) == 0
    assert records("run") == records("again")
    assert {region["type"] for record in records() for region in record["regions"]} == {UNKNOWN}
    assert {record["top_type"] for record in records()} == {UNKNOWN}
    for path in Path("again/overlays").iterdir():
        assert path.read_bytes() == Path("run/overlays", path.name).read_bytes()
    assert cli.main(["export", "run", "--format", "coco", "--out", "coco.json"]) == 0
    assert UNKNOWN in {category["name"] for category in read("coco.json")["categories"]}


def test_a_run_of_before_there_was_such_a_line_is_decided_without_one(parts: str) -> None:
    cli.main(["inspect", parts, "--out", "run", "-q", "--keep-maps"])
    run = read("run/run.json")
    del run["min_lead"]
    Path("run/run.json").write_text(json.dumps(run), encoding="utf-8")
    assert cli.main(["rethreshold", "run", "--pixel-threshold", "0.1", "-q"]) == 0
    assert {region["type"] for record in records() for region in record["regions"]} < set(general().names)


def test_overlays_whose_image_is_gone_are_counted(parts: str, capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["inspect", parts, "--out", "run", "-q", "--keep-maps"])
    Path(parts, "004.png").unlink()
    cli.main(["rethreshold", "run", "--threshold", "0.3"])
    assert "1 overlays still show the earlier decision" in capsys.readouterr().out


def test_foreign_maps_are_noticed(parts: str, capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["inspect", parts, "--out", "run", "-q", "--keep-maps"])
    Path("run/maps/000.npz").write_bytes(Path("run/maps/004.npz").read_bytes())
    before = Path("run/results.jsonl").read_bytes()
    assert "are not those of parts/000.png" in fails(capsys, "rethreshold", "run", "--pixel-threshold", "0.2")
    assert Path("run/results.jsonl").read_bytes() == before


def test_a_run_of_another_model_is_refused(
    good: str, parts: str, without_a_model: type[Model], capsys: pytest.CaptureFixture[str]
) -> None:
    calibrated(good)
    without_a_model.fingerprint = "ffffffffffffffff"
    cli.main(["inspect", parts, "--out", "run", "-q"])
    message = fails(capsys, "rethreshold", "run", "--calibration", "calibration.json")
    assert "0123456789abcdef" in message
    assert "ffffffffffffffff" in message


def test_an_earlier_run_without_its_setup_takes_thresholds_only(
    good: str, parts: str, capsys: pytest.CaptureFixture[str]
) -> None:
    calibrated(good)
    cli.main(["inspect", parts, "--out", "run", "-q"])
    run = read("run/run.json")
    del run["setup"]
    Path("run/run.json").write_text(json.dumps(run))
    assert "does not say how its scores were made" in fails(
        capsys, "rethreshold", "run", "--calibration", "calibration.json"
    )
    assert cli.main(["rethreshold", "run", "--threshold", "0.1", "-q"]) == 0
