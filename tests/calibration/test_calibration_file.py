"""calibration.json: it comes back, is refused where it does not fit or was changed, and takes false alarms."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from blemish.calibration import Calibration, Rule, Scored, Setup, calibrate_scores, read_calibration
from blemish.calibration import file as calibration_file
from blemish.calibration.conformal import just_above
from blemish.errors import UsageError
from blemish.results import ModelInfo

MODEL = ModelInfo(backbone="tiny", method="ensemble", version="1", fingerprint="aaaabbbbccccdddd")
SETUP = Setup(model=MODEL, vocabulary="", input_px=64, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


def scored(count: int, *, highest: float = 0.5, prefix: str = "good") -> list[Scored]:
    return [Scored(f"{prefix}/{n}.png", highest * (count - n) / count, highest / 2) for n in range(count)]


def calibration(count: int = 99, **rule: Any) -> Calibration:
    return calibrate_scores(Rule(**rule), scored(count), setup=SETUP, types=["hole"], command=["blemish"], version="1")


def test_a_calibration_comes_back_from_its_file(tmp_path: Path) -> None:
    for rule in ({}, {"kind": "confidence", "confidence": 0.9, "max_false_rejects": 0.05, "review": None}):
        found = calibration(**rule)
        found.write(tmp_path / "c.json")
        assert read_calibration(tmp_path / "c.json") == found
    deep = replace(found, setup=replace(SETUP, value_range=(0.0, 4095.0), tiles=512))
    deep.write(tmp_path / "c.json")
    assert read_calibration(tmp_path / "c.json").setup.value_range == (0.0, 4095.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"thresholds": {"image": 0.1, "review": None, "pixel": 0.5}}, "changed by hand"),
        ({"scores": None}, "damaged"),
        ({"schema": "blemish.calibration/9"}, "of this version"),
        ({"rule": {"kind": "average", "colour": 1}}, "damaged"),
    ],
)
def test_a_changed_file_is_refused(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text(json.dumps({**calibration().to_dict(), **change}))
    with pytest.raises(UsageError, match=message):
        read_calibration(tmp_path / "c.json")


def test_a_changed_score_is_noticed(tmp_path: Path) -> None:
    data = calibration().to_dict()
    data["scores"]["good"][3]["image_score"] = 0.75
    (tmp_path / "c.json").write_text(json.dumps(data))
    with pytest.raises(UsageError, match="changed by hand"):
        read_calibration(tmp_path / "c.json")


@pytest.mark.parametrize("text", ["[]", "no", None])
def test_what_is_no_calibration_is_refused(text: str | None, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "c.json").write_text(text)
    with pytest.raises(UsageError, match=r"c\.json"):
        read_calibration(tmp_path / "c.json")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"model": replace(MODEL, method="dapo", fingerprint="0000111122223333")},
            r"ensemble on tiny \(aaaabbbbccccdddd\), not dapo on tiny \(0000111122223333\)",
        ),
        ({"vocabulary": "1234123412341234"}, "the vocabulary none, not 1234123412341234"),
        ({"input_px": 336}, "an input of 64 px, not 336"),
        ({"tiles": 512}, "--tiles off, not 512"),
        ({"roi": "ffff"}, "--roi none, not ffff"),
        ({"value_range": (0.0, 255.0)}, "--range none, not 0:255"),
    ],
)
def test_another_setup_is_refused_with_both_sides_named(change: dict[str, Any], message: str) -> None:
    calibration().check(SETUP)
    with pytest.raises(UsageError, match=message):
        calibration().check(replace(SETUP, **change))


@pytest.mark.parametrize(
    ("before", "now", "same"),
    [
        ({}, {"engine": "openvino", "deviation": 1e-5}, True),
        ({"engine": "openvino", "deviation": 1e-5}, {"engine": "onnxruntime", "deviation": 1e-5}, True),
        ({}, {"engine": "openvino", "deviation": 1e-2}, False),
        ({}, {"precision": "half", "deviation": 1.0}, False),
        ({}, {"precision": "half", "deviation": 1e-3}, True),
        ({"precision": "half", "deviation": 1.0}, {"precision": "half", "deviation": 1.0}, True),
    ],
)
def test_a_threshold_holds_for_engines_whose_scores_are_measured_to_be_the_same(
    before: dict[str, Any], now: dict[str, Any], same: bool, tmp_path: Path
) -> None:
    made = replace(SETUP, **before)
    calibrate_scores(Rule(), scored(99), setup=made, types=["hole"], command=["blemish"], version="1").write(
        tmp_path / "c.json"
    )
    found = read_calibration(tmp_path / "c.json")
    if same:
        found.check(replace(SETUP, **now))
    else:
        with pytest.raises(UsageError, match=r"the engine \w+ in \w+, not the engine \w+ in \w+ \(their scores may"):
            found.check(replace(SETUP, **now))


def test_another_version_or_name_of_the_same_model_is_the_same_model() -> None:
    calibration().check(replace(SETUP, model=replace(MODEL, version="2", backbone="copy")))


def test_false_alarms_move_the_thresholds_and_say_why() -> None:
    before = calibration(99)
    alarms = [Scored("line/1.png", 0.6, 0.2), Scored("line/2.png", 0.7, 0.9), Scored("line/1.png", 0.6, 0.2)]
    after = before.with_false_alarms(alarms, reason="glare", command=["blemish", "calibrate"])
    assert after.thresholds.image == just_above(0.7)
    assert after.thresholds.pixel == just_above(0.9)
    assert (after.n_good, len(after.good)) == (101, 101)
    (entry,) = after.history
    assert entry["why"] == "glare"
    assert [one["source"] for one in entry["added"]] == ["line/1.png", "line/2.png"]
    assert entry["thresholds_before"]["image"] == before.thresholds.image
    assert entry["now_below_image_threshold"] == 2
    assert after.identity != before.identity
    again = after.with_false_alarms([Scored("line/3.png", 0.8, 0.3)])
    assert again.thresholds.promise.count("only raised since") == 1
    assert again.thresholds.figures["n"] == 99  # what was promised came from those


def test_images_that_were_no_false_alarms_lower_nothing() -> None:
    before = calibration(299, kind="confidence", confidence=0.95)
    after = before.with_false_alarms(scored(400, highest=0.01, prefix="low"))
    assert after.thresholds.image == before.thresholds.image
    assert after.thresholds.pixel == before.thresholds.pixel


def test_false_alarms_that_cannot_be_added_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="already"):
        calibration().with_false_alarms(scored(5))
    with pytest.raises(UsageError, match="unlabelled"):
        calibration(kind="unlabelled").with_false_alarms([Scored("a", 0.9, 0.9)])
    monkeypatch.setattr(calibration_file, "MOST_SCORES", 50)
    large = calibration()
    assert (large.n_good, large.good, len(large.digest)) == (99, (), 16)
    with pytest.raises(UsageError, match="keeps no scores"):
        large.with_false_alarms([Scored("a", 0.9, 0.9)])


def test_false_alarms_of_a_labelled_calibration_count_as_good() -> None:
    found = calibrate_scores(Rule(kind="labelled"), scored(10), [Scored("bad", 0.75, 0.75)], setup=SETUP)
    after = found.with_false_alarms([Scored("alarm", 0.7, 0.7)])
    assert after.thresholds.image == pytest.approx(0.725)
    assert "11 good" in after.thresholds.promise


@pytest.mark.parametrize("name", ["version_0.1.json", "version_0.1_labelled.json"])
def test_a_file_of_an_older_version_is_read_with_its_identity(name: str, tmp_path: Path) -> None:
    path = Path(__file__).parent / name
    found = read_calibration(path)
    assert found.identity == json.loads(path.read_text())["id"]
    found.write(tmp_path / "again.json")
    assert json.loads((tmp_path / "again.json").read_text()) == json.loads(path.read_text())
