"""`blemish calibrate` and its file in `inspect`: the real loading around a method without a model."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from blemish import cli
from blemish.images import save
from cli.calibrating import (
    GOOD,
    RULE,
    Model,
    calibrated,
    fails,
    good_images,
    parts_to_inspect,
    read,
    records,
    shades,
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


# good images


def test_good_images_become_thresholds_that_inspect_uses(
    good: str, parts: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["calibrate", good, *RULE]) == 0
    printed = capsys.readouterr().out
    assert "At most 5 % of good images will be NG" in printed
    assert "calibration: calibration.json" in printed
    found = read("calibration.json")
    assert found["n_good"] == GOOD
    assert 38 / 255 > found["thresholds"]["image"] > 37 / 255 > found["thresholds"]["review"]
    assert cli.main(["inspect", parts, "--calibration", "calibration.json", "--out", "run", "-q"]) == 0
    assert verdicts() == ["ok", "ok", "review", "ng", "ng"]
    record = records()[0]
    assert record["thresholds"]["calibration"] == record["thresholds"]["pixel_calibration"] == "calibrated"
    assert record["thresholds"]["image"] == found["thresholds"]["image"]
    assert read("run/run.json")["calibration"] == found["id"]


def test_no_calibration_image_is_called_ng_beyond_what_was_allowed(good: str) -> None:
    cli.main(["calibrate", good, *RULE, "-q"])
    cli.main(["inspect", good, "--calibration", "calibration.json", "--out", "run", "-q", "--min-area", "1"])
    assert verdicts().count("ng") == 1  # of 39; the next one makes it 2 of 40
    assert verdicts().count("review") == 2
    assert sum(record["map_peak"] >= record["thresholds"]["pixel"] for record in records()) == 1


def test_your_own_threshold_comes_before_the_calibrations(good: str, parts: str) -> None:
    cli.main(["calibrate", good, *RULE, "-q"])
    cli.main(["inspect", parts, "--calibration", "calibration.json", "--threshold", "0.95", "--out", "run", "-q"])
    thresholds = records()[0]["thresholds"]
    assert (thresholds["image"], thresholds["calibration"], thresholds["pixel_calibration"]) == (
        0.95,
        "user",
        "calibrated",
    )


def test_a_file_is_not_overwritten_unasked(good: str, capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["calibrate", good, *RULE, "-q"])
    assert "--overwrite replaces it" in fails(capsys, "calibrate", good)
    assert cli.main(["calibrate", good, *RULE, "--overwrite", "-q"]) == 0


def test_too_few_images_say_what_can_be_promised(good: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "is 2.5 %; give 99" in fails(capsys, "calibrate", good)
    assert "give 299" in fails(capsys, "calibrate", good, "--confidence", "95%")
    assert not Path("calibration.json").exists()


def test_unreadable_images_are_named_and_not_counted(good: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path(good, "bad.png").write_text("text")
    assert cli.main(["calibrate", good, *RULE]) == 3
    assert "unreadable: good/bad.png" in capsys.readouterr().err
    assert read("calibration.json")["n_good"] == GOOD


def test_lists_of_images_are_taken_too(good: str) -> None:
    names = [f"good/{number:03}.png" for number in range(20)]
    Path("list.txt").write_text("# good ones\n" + "\n".join(names) + "\n\n")
    assert cli.main(["calibrate", "list.txt", "--max-false-rejects", "0.05", "--review", "off", "-q"]) == 0
    assert read("calibration.json")["n_good"] == 20


# other rules


def test_unlabelled_images_give_an_estimate(good: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["calibrate", good, "--unlabelled"]) == 0
    assert "Nothing is promised" in capsys.readouterr().out
    assert read("calibration.json")["rule"]["kind"] == "unlabelled"


def test_labelled_images_give_the_f1_or_the_cost_point(good: str, capsys: pytest.CaptureFixture[str]) -> None:
    bad = shades("bad", [0.1, 0.7, 0.8, 0.9])
    assert cli.main(["calibrate", good, "--bad", bad]) == 0
    assert f"By the highest F1 on {GOOD} good and 4 bad" in capsys.readouterr().out
    assert read("calibration.json")["thresholds"]["image"] > 38 / 255
    costs = ["--cost-miss", "1000", "--cost-false-reject", "1", "--out", "costs.json", "-q"]
    assert cli.main(["calibrate", good, "--bad", bad, *costs]) == 0
    assert read("costs.json")["thresholds"]["image"] < 0.1


def test_another_model_is_refused_with_both_hashes(
    good: str, parts: str, without_a_model: type[Model], capsys: pytest.CaptureFixture[str]
) -> None:
    options = calibrated(good)
    without_a_model.fingerprint = "ffffffffffffffff"
    message = fails(capsys, "inspect", parts, *options)
    assert "(0123456789abcdef), not darkness on embedded (ffffffffffffffff)" in message
    assert "(ffffffffffffffff)" in fails(capsys, "inspect", parts, *options, "--force")
    assert not Path("blemish-results").exists()


def test_another_vocabulary_is_refused_where_it_moves_scores_and_only_there(
    good: str, parts: str, without_a_model: type[Model], capsys: pytest.CaptureFixture[str]
) -> None:
    options = calibrated(good)
    assert cli.main(["inspect", parts, *options, "--defects", "hole, stain"]) == 0
    without_a_model.depends = True
    cli.main(["calibrate", good, *RULE, "--overwrite", "-q"])
    assert cli.main(["inspect", parts, *options]) == 0
    assert "the vocabulary" in fails(capsys, "inspect", parts, *options, "--defects", "hole, stain")


def test_other_tiles_or_masks_are_refused_and_tiles_are_taken_over(
    good: str, parts: str, capsys: pytest.CaptureFixture[str]
) -> None:
    cli.main(["calibrate", good, *RULE, "--tiles", "8", "-q"])
    options = ["--calibration", "calibration.json", "-q", "--out", "run"]
    assert cli.main(["inspect", parts, *options]) == 0
    assert {record["image_score_from"] for record in records()} == {"tiles"}
    assert read("run/run.json")["setup"]["tiles"] == 8
    assert "--tiles 8, not off" in fails(capsys, "inspect", parts, *options[:3], "--tiles", "off")
    save(np.full((16, 16), 255, np.uint8), "roi.png")
    assert "--roi none, not " in fails(capsys, "inspect", parts, *options[:3], "--roi", "roi.png")


def test_a_mask_of_the_wrong_size_is_said(good: str, capsys: pytest.CaptureFixture[str]) -> None:
    save(np.full((8, 8), 255, np.uint8), "roi.png")
    message = fails(capsys, "calibrate", good, "--roi", "roi.png")
    assert "none of the 39 images can be used" in message
    assert "roi.png is 8 x 8 pixels, but the image is 16 x 16" in message


def test_deep_images_carry_their_value_range_into_the_calibration(capsys: pytest.CaptureFixture[str]) -> None:
    Path("deep").mkdir()
    for number in range(19):
        Image.fromarray(np.full((8, 8), 3000 + number, np.uint16)).save(f"deep/{number}.png")
    options = ["--max-false-rejects", "5%", "--review", "off", "-q"]
    assert cli.main(["calibrate", "deep", *options]) == 0
    assert read("calibration.json")["setup"]["value_range"] == [0, 4095]
    assert cli.main(["inspect", "deep/0.png", "--calibration", "calibration.json", "--out", "run", "-q"]) == 0
    assert records()[0]["value_range"] == [0, 4095]
    message = fails(capsys, "inspect", "deep", "--calibration", "calibration.json", "--range", "0:65535", "-q")
    assert "--range 0:4095, not 0:65535" in message


def test_percentiles_become_the_numbers_that_a_calibration_holds_for(capsys: pytest.CaptureFixture[str]) -> None:
    Path("deep").mkdir()
    for number in range(19):
        Image.fromarray(np.arange(101, dtype=np.uint16)[None] + 3000 + number).save(f"deep/{number}.png")
    options = ["--max-false-rejects", "5%", "--review", "off", "-q", "--range", "1%:99%"]
    assert cli.main(["calibrate", "deep", *options]) == 0
    assert read("calibration.json")["setup"]["value_range"] == [3001, 3000 + 18 + 99]
    assert cli.main(["inspect", "deep/0.png", "--calibration", "calibration.json", "--out", "run", "-q"]) == 0
    assert records()[0]["value_range"] == [3001, 3117]
    message = fails(capsys, "inspect", "deep", "--calibration", "calibration.json", "--range", "1%:99%", "-q")
    assert "the thresholds hold for 3001:3117: leave --range out" in message


# bad usage: one clear line each


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["calibrate"], "give the good images, or --false-alarms"),
        (["calibrate", "good", "--false-alarms", "list.txt"], "--false-alarms goes with --calibration"),
        (["calibrate", "good", "--run", "run"], "--run with both"),
        (["calibrate", "good", "--max-false-rejects", "much"], "takes a share such as 1% or 0.01"),
        (["calibrate", "good", "--max-false-rejects", "1"], "takes a share such as 1% or 0.01"),
        (["calibrate", "good", "--review", "0.5%"], "must be above that of false rejects"),
        (["calibrate", "good", "--unlabelled", "--confidence", "95%"], "nothing can be promised"),
        (["calibrate", "good", "--cost-miss", "3"], "give --bad"),
        (["calibrate", "good", "--bad", "good"], "is among the good and among the bad"),
        (["calibrate", "good", "--bad", "good/000.png", "--cost-miss", "3"], "costs come in pairs"),
        (["calibrate", "good", "--tiles", "many"], "--tiles takes auto, off or the side"),
        (["calibrate", "nowhere"], "no such file or folder"),
        (["calibrate", "good", "--peers", "auto"], "good images that judge each other promise nothing of others"),
        (["inspect", "good", "--calibration", "none.json"], "none.json: the calibration cannot be read"),
        (["inspect", "good", "--min-area", "0"], "must be above 0"),
        (["rethreshold", "good", "--threshold", "0.5"], "holds no run"),
        (["rethreshold", "good"], "give --calibration, --threshold or --pixel-threshold"),
    ],
)
def test_bad_usage_is_one_clear_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    shades("good", [0.1, 0.2])
    assert message in fails(capsys, *arguments)


def test_copies_are_named_and_count_once(capsys: pytest.CaptureFixture[str]) -> None:
    shades("good", [step / 255 for step in range(20)])
    copy = Path("good") / "copy.png"
    copy.write_bytes(next(path for path in sorted(Path("good").iterdir())).read_bytes())
    assert cli.main(["calibrate", "good", "--max-false-rejects", "5%"]) == 0
    shown = capsys.readouterr().out
    assert "1 image is a copy of another and does not count again: " in shown
    found = json.loads(Path("calibration.json").read_text(encoding="utf-8"))
    assert found["n_good"] == 20
    assert found["rule"]["review"] == 0.1  # the default never collides with the share of false rejects


def test_copies_are_named_where_they_leave_too_few_images(capsys: pytest.CaptureFixture[str]) -> None:
    shades("good", [0.1])
    original = next(Path("good").iterdir())
    for number in range(30):
        (Path("good") / f"copy-{number:02d}.png").write_bytes(original.read_bytes())
    assert cli.main(["calibrate", "good", "--max-false-rejects", "5%"]) == 2
    said = capsys.readouterr().err
    assert "1 good image is too few for 5 %" in said
    assert "30 images are copies of others and do not count again: " in said
    assert not Path("calibration.json").exists()


def test_files_that_are_no_images_are_counted_and_closed_folders_named(
    good: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (Path(good) / "notes.mp4").write_bytes(b"")
    closed = Path(good) / "closed"
    closed.mkdir()
    scandir = os.scandir

    def refuse(path: str | Path) -> Any:
        if Path(path) == closed:
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert cli.main(["calibrate", good, *RULE]) == 3
    told = capsys.readouterr()
    assert "note: left out: 1 file (.mp4 1)" in told.out
    assert "closed" in told.err
    assert "cannot be listed" in told.err


def test_peers_off_calibrates_each_image_alone(good: str) -> None:
    assert cli.main(["calibrate", good, *RULE, "--out", "alone.json", "-q"]) == 0
    assert cli.main(["calibrate", good, *RULE, "--peers", "off", "--out", "off.json", "-q"]) == 0
    assert read("off.json")["thresholds"] == read("alone.json")["thresholds"]
