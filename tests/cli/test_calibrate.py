"""`blemish calibrate`, its file in `inspect`, and `blemish rethreshold`: the real loading around a method without a model."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image

from blemish import cli
from blemish.config import ModelConfig
from blemish.engines.base import LoadedEngine
from blemish.images import save
from blemish.language import general
from blemish.results import UNKNOWN
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


@pytest.fixture(autouse=True)
def without_a_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> type[Model]:
    """The fake engine; the current folder is a new one."""

    class Here(Model):
        pass

    use_darkness(monkeypatch, Here)
    monkeypatch.chdir(tmp_path)
    return Here


def shades(folder: str, darkness: list[float]) -> str:
    """Grey images of these image scores (0..1), in steps of 1/255."""
    for number, value in enumerate(darkness):
        save(np.full((16, 16, 3), round(255 * (1 - value)), np.uint8), Path(folder) / f"{number:03}.png")
    return folder


@pytest.fixture
def good() -> str:
    return shades("good", [number / 255 for number in range(GOOD)])


@pytest.fixture
def parts() -> str:
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


# what does not fit


def calibrated(good: str) -> list[str]:
    cli.main(["calibrate", good, *RULE, "-q"])
    return ["--calibration", "calibration.json", "-q"]


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
