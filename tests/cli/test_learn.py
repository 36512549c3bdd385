"""`blemish learn`, its profile in `inspect` and `calibrate`, and what changes it, around an engine without a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import blemish
from blemish import cli
from blemish.images import save
from blemish.profiles import read_profile
from fakes import use_darkness
from memory_engine import MemoryEngine

SIDE = 64


@pytest.fixture(autouse=True)
def without_a_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> type[MemoryEngine]:
    """The fake engine; the current folder is a new one."""

    class Here(MemoryEngine):
        pass

    use_darkness(monkeypatch, Here)
    monkeypatch.chdir(tmp_path)
    return Here


def part(seed: int, *, spot: float = 0.0, brightness: float = 0.5) -> NDArray[np.uint8]:
    """A part whose greys differ a little from piece to piece; a spot is a defect."""
    rng = np.random.default_rng(seed)
    grey = brightness + 0.01 * rng.standard_normal() + 0.01 * rng.standard_normal((SIDE, SIDE))
    grey[16:24, 16:24] += spot
    return np.repeat((255 * grey.clip(0, 1)).astype(np.uint8)[..., None], 3, axis=2)


def parts(folder: str, count: int, *, first: int = 0, **options: float) -> str:
    for number in range(first, first + count):
        save(part(number, **options), Path(folder) / f"{number:03}.png")
    return folder


def records(run: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(run, "results.jsonl").read_text(encoding="utf-8").splitlines()]


def verdicts(run: str) -> list[str]:
    return [record["verdict"] for record in records(run)]


def run_json(run: str) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(Path(run, "run.json").read_text(encoding="utf-8"))
    return data


def fails(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert cli.main(list(arguments)) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1, captured.err
    return captured.err


# learning


def test_good_images_become_a_profile_that_inspect_uses(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["learn", parts("good", 30)]) == 0
    printed = capsys.readouterr().out
    assert "At most 5 % of good images will be NG" in printed
    assert "part.blemish (30 images" in printed
    profile = read_profile("part.blemish")
    assert profile.calibration is not None
    assert profile.calibration.n_good == profile.memory.images == 30
    parts("new", 20, first=100)
    parts("new", 3, first=200, spot=0.3)
    assert cli.main(["inspect", "new", "--profile", "part.blemish", "--out", "run"]) == 0
    printed = capsys.readouterr().out
    assert f"profile: part.blemish ({profile.identity})" in printed
    assert "drift: none found" in printed
    assert verdicts("run")[20:] == ["ng"] * 3
    assert verdicts("run")[:20].count("ng") <= 3
    assert run_json("run")["profile"]["id"] == profile.identity
    assert records("run")[0]["thresholds"]["calibration"] == "calibrated"
    assert records("run")[0]["statistics"]["brightness"] == pytest.approx(0.5, abs=0.05)


def test_from_one_image_there_is_a_profile_without_thresholds(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["learn", parts("good", 1)]) == 0
    assert "1 good image is too few for a promise" in capsys.readouterr().out
    assert read_profile("part.blemish").calibration is None
    assert cli.main(["inspect", parts("new", 2, first=50), "--profile", "part.blemish", "--out", "run"]) == 0
    assert "too few to tell" in capsys.readouterr().out
    assert records("run")[0]["thresholds"]["calibration"] == "uncalibrated"


@pytest.mark.parametrize(("count", "share"), [(9, None), (10, 0.1), (19, 0.05), (99, 0.01)])
def test_the_promise_is_the_least_that_so_many_images_can_keep(count: int, share: float | None) -> None:
    calibration = blemish.learn(parts("good", count), keep_all=True).profile.calibration
    assert (None if calibration is None else calibration.rule.max_false_rejects) == share


def test_a_promise_that_the_images_cannot_keep_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert "12 good images are too few for 1 %" in fails(
        capsys, "learn", parts("good", 12), "--max-false-rejects", "1%"
    )
    assert not Path("part.blemish").exists()


def test_split_images_calibrate_without_being_remembered() -> None:
    profile = blemish.learn(parts("good", 40), split=True, keep_all=True).profile
    assert profile.memory.images == 20
    assert profile.calibration is not None
    assert profile.calibration.n_good == 20
    assert [image.memory_digest is None for image in profile.images].count(True) == 20
    with_confidence = blemish.learn("good", confidence=0.5, max_false_rejects=0.1, keep_all=True).profile
    assert with_confidence.memory.images == 20


def test_the_profile_carries_words_masks_and_setup(capsys: pytest.CaptureFixture[str]) -> None:
    roi = np.zeros((SIDE, SIDE), np.uint8)
    roi[:, :32] = 255
    save(roi, "roi.png")
    parts("good", 12)
    assert cli.main(["learn", "good", "--defects", "dent, burr", "--roi", "roi.png", "-q"]) == 0
    Path("roi.png").unlink()
    inspector = blemish.load(profile="part.blemish")
    assert inspector.types == ("dent", "burr")
    assert inspector.masks is not None
    outside = part(70)
    outside[40:48, 48:56] = 0
    assert inspector.inspect(outside).verdict == inspector.inspect(part(70)).verdict
    assert inspector.inspect(outside).image_score_from == "roi"
    assert blemish.load(profile="part.blemish", defects="hole").types == ("hole",)
    assert "--roi" in fails(capsys, "learn", "good", "--roi", "good", "--overwrite")


# bad memories


def test_defective_images_among_the_good_are_shown_before_they_count(capsys: pytest.CaptureFixture[str]) -> None:
    parts("good", 20)
    parts("good", 1, first=50, spot=0.2)
    parts("good", 1, first=51, spot=-0.2)
    line = fails(capsys, "learn", "good", "--out", "here/part.blemish")
    assert "2 images do not look like the other good ones" in line
    assert not Path("here/part.blemish").exists()
    assert Path("here/part.suspicious.jpg").is_file()
    listed = Path("here/part.suspicious.txt").read_text(encoding="utf-8").splitlines()[1:]
    assert sorted(Path(name).name for name in listed) == ["050.png", "051.png"]
    out = ["--out", "here/part.blemish"]
    assert cli.main(["learn", "good", *out, "--leave-out", "here/part.suspicious.txt", "-q"]) == 0
    profile = read_profile("here/part.blemish")
    assert len(profile.images) == 20
    assert [Path(name).name for name in profile.history[0]["left_out"]] == ["050.png", "051.png"]
    assert cli.main(["learn", "good", *out, "--keep-all", "--overwrite", "-q"]) == 0
    assert len(read_profile("here/part.blemish").images) == 22


def test_copies_count_once_and_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    parts("good", 12)
    for number in (3, 4):
        Path(f"good/copy{number}.png").write_bytes(Path(f"good/{number:03}.png").read_bytes())
    save(np.asarray(part(5)), "good/other.png")
    Path("good/other.png").write_bytes(Path("good/other.png").read_bytes() + b"\0")  # another file, the same pixels
    assert cli.main(["learn", "good"]) == 0
    assert "3 images are copies of others" in capsys.readouterr().out
    assert len(read_profile("part.blemish").images) == 12


def test_identical_images_are_one(capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(12):
        save(part(1), Path("good") / f"{number}.png")
    assert cli.main(["learn", "good"]) == 0
    assert "all files hold the same image" in capsys.readouterr().out
    assert len(read_profile("part.blemish").images) == 1


def test_no_profile_is_overwritten_unasked(capsys: pytest.CaptureFixture[str]) -> None:
    parts("good", 3)
    Path("part.blemish").write_text("mine", encoding="utf-8")
    assert "is there already; --overwrite replaces it" in fails(capsys, "learn", "good")
    assert Path("part.blemish").read_text(encoding="utf-8") == "mine"
    assert cli.main(["learn", "good", "--overwrite", "-q"]) == 0


def test_profiles_that_cannot_be_used_are_one_line(
    capsys: pytest.CaptureFixture[str], without_a_model: type[MemoryEngine]
) -> None:
    parts("good", 3)
    cli.main(["learn", "good", "-q"])
    whole = Path("part.blemish").read_bytes()
    inspect = ["inspect", "good", "--out", "run", "--profile"]
    assert "cannot be read" in fails(capsys, *inspect, "none.blemish")
    for cut in (0, 5, 100, len(whole) - 1):
        Path("cut.blemish").write_bytes(whole[:cut])
        assert "was cut off" in fails(capsys, *inspect, "cut.blemish")
    Path("newer.blemish").write_bytes(whole.replace(b"blemish.profile/1", b"blemish.profile/7"))
    assert "a newer version of Blemish" in fails(capsys, *inspect, "newer.blemish")
    Path("changed.blemish").write_bytes(whole.replace(b'\\"brightness\\": 0.', b'\\"brightness\\": 1.', 1))
    assert "changed by hand or damaged" in fails(capsys, *inspect, "changed.blemish")
    save(part(1), "picture.png")
    assert "is no profile" in fails(capsys, *inspect, "picture.png")
    assert "leave --peers and --references out" in fails(capsys, *inspect, "part.blemish", "--references", "good")
    without_a_model.fingerprint = "fedcba9876543210"
    line = fails(capsys, *inspect, "part.blemish")
    assert "the profile was learned with greys on embedded" in line
    assert not Path("run").exists()


# runs


def test_a_run_goes_on_with_the_same_profile_only(capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["learn", parts("good", 12), "-q"])
    inspect = ["inspect", parts("new", 3, first=80), "--profile", "part.blemish", "--out", "run", "-q"]
    assert cli.main(inspect) == 0
    assert cli.main([*inspect, "--resume"]) == 0
    cli.main(["learn", parts("good", 1, first=300), "--keep-all", "--overwrite", "-q"])
    assert "profile" in fails(capsys, *inspect, "--resume")


def test_drift_is_told_and_written(capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["learn", parts("good", 30), "-q"])
    parts("brighter", 20, first=100, brightness=0.6)
    capsys.readouterr()
    assert cli.main(["inspect", "brighter", "--profile", "part.blemish", "--out", "run"]) == 0
    assert "do not look like the profile's good ones: brighter" in capsys.readouterr().out
    drift = run_json("run")["drift"]
    assert "brightness" in drift["changed"]
    assert drift["level"] == 0.01
    save(part(1)[:32], "small/1.png")
    assert cli.main(["inspect", "small", "--profile", "part.blemish", "--out", "small-run"]) == 0
    assert "1 of 1 images have a size that no good image had" in capsys.readouterr().out
    page = blemish.report("run").path.read_text(encoding="utf-8")
    assert "do not look like the profile's good ones" in page


def test_calibration_beside_a_profile_uses_its_memory(capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["learn", parts("good", 12), "-q"])
    more = parts("more", 25, first=100)
    rule = ["--max-false-rejects", "5%", "--review", "off"]
    assert cli.main(["calibrate", more, "--profile", "part.blemish", *rule, "-q"]) == 0
    inspect = ["inspect", more, "--profile", "part.blemish", "--calibration", "calibration.json", "--out", "run", "-q"]
    assert cli.main(inspect) == 0
    assert verdicts("run").count("ng") <= 1
    line = fails(capsys, "calibrate", "good", "--profile", "part.blemish", "--overwrite", *rule)
    assert "12 of the good images" in line
    assert "the calibration" in fails(capsys, "inspect", more, "--calibration", "calibration.json", "--out", "no")


# feedback


def test_false_alarms_are_remembered_and_are_ok_then(capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["learn", parts("good", 20), "-q"])
    parts("alarms", 3, first=60, brightness=0.56)
    assert {
        image.verdict.value for image in blemish.load(profile="part.blemish").inspect(sorted(Path("alarms").iterdir()))
    } == {"ng"}
    before = read_profile("part.blemish")
    Path("alarms.txt").write_text("".join(f"alarms/{number:03}.png\n" for number in (60, 61)), encoding="utf-8")
    assert cli.main(["learn", "--profile", "part.blemish", "--add", "alarms.txt"]) == 0
    assert "images: 20 -> 22" in capsys.readouterr().out
    after = read_profile("part.blemish")
    assert after.calibration is not None
    assert after.calibration.history
    assert [image.origin for image in after.images].count("added") == 2
    assert blemish.load(profile="part.blemish").inspect("alarms/062.png").verdict.value == "ok"
    assert after.identity != before.identity
    assert len(after.good) == 20
    assert "are in the profile part.blemish already" in fails(
        capsys, "learn", "--profile", "part.blemish", "--add", "alarms.txt"
    )


def test_files_that_are_no_images_are_counted_when_learning_and_when_adding(capsys: pytest.CaptureFixture[str]) -> None:
    for folder, count, first in (("good", 20, 0), ("more", 1, 60)):
        (Path(parts(folder, count, first=first)) / "clip.mp4").write_bytes(b"")
    assert cli.main(["learn", "good"]) == 0
    assert "note: left out: 1 file (.mp4 1)" in capsys.readouterr().out
    assert cli.main(["learn", "--profile", "part.blemish", "--add", "more"]) == 0
    assert "note: left out: 1 file (.mp4 1)" in capsys.readouterr().out


def test_misses_are_reported_with_their_cost_and_nothing_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["learn", parts("good", 20), "-q"])
    whole = Path("part.blemish").read_bytes()
    parts("bad", 1, first=70, spot=0.4)
    save(part(71), "bad/no-defect.png")
    capsys.readouterr()
    assert cli.main(["learn", "--profile", "part.blemish", "--found", "bad"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "NG already" in next(line for line in lines if "070.png" in line)
    assert " of 20 " in next(line for line in lines if "no-defect.png" in line)
    assert Path("part.blemish").read_bytes() == whole


def test_removing_the_last_added_image_gives_the_memory_back(capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["learn", parts("good", 20), "-q"])
    first = read_profile("part.blemish")
    cli.main(["learn", "--profile", "part.blemish", "--add", parts("more", 1, first=60), "-q"])
    Path("more/060.png").rename("renamed.png")
    assert cli.main(["learn", "--profile", "part.blemish", "--remove", "renamed.png", "-q"]) == 0
    last = read_profile("part.blemish")
    assert last.memory.digests == first.memory.digests
    assert last.calibration is not None and first.calibration is not None
    assert last.calibration.thresholds.image == first.calibration.thresholds.image
    assert [entry["what"] for entry in last.history] == ["learned", "changed", "changed"]
    assert "holds no such image" in fails(
        capsys, "learn", "--profile", "part.blemish", "--remove", parts("x", 1, first=99)
    )


def test_two_profiles_become_one_like_one_that_learned_all(capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["learn", parts("a", 12), "--out", "a.blemish", "-q"])
    cli.main(["learn", parts("b", 12, first=10), "--out", "b.blemish", "-q"])
    assert cli.main(["learn", "--profile", "a.blemish", "--merge", "b.blemish", "--out", "both.blemish", "-q"]) == 0
    both = read_profile("both.blemish")
    all_at_once = blemish.learn(["a", "b"], keep_all=True, max_false_rejects=0.1).profile
    assert len(both.images) == 22
    assert both.calibration is not None and all_at_once.calibration is not None
    assert both.calibration.thresholds.image == all_at_once.calibration.thresholds.image
    assert len(read_profile("a.blemish").images) == 12
    cli.main(["learn", "b", "--defects", "dent", "--out", "dent.blemish", "-q"])
    assert "other defect types" in fails(capsys, "learn", "--profile", "a.blemish", "--merge", "dent.blemish")
    assert "is there already" in fails(
        capsys, "learn", "--profile", "a.blemish", "--merge", "b.blemish", "--out", "both.blemish"
    )


def test_what_does_not_go_together_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert "give the good images" in fails(capsys, "learn")
    assert "give the good images" in fails(capsys, "learn", "good", "--profile", "part.blemish")
    assert "changes nothing" in fails(capsys, "learn", "--profile", "p", "--add", "a", "--found", "b")
    assert "not tiles" in fails(capsys, "learn", parts("good", 2), "--tiles", "32")
