"""What is left of a run that was cut off anywhere: nothing of it is lost that was whole, and nothing is there twice."""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest

from blemish.errors import ImageError, OutputError, UsageError
from blemish.inspection.inspector import Inspected
from blemish.runs import pictures
from blemish.runs.folder import ResultsFolder
from blemish.runs.header import header_of
from blemish.runs.resume import recover
from fakes import darkness_inspector

NAMES = [PurePosixPath(name) for name in ("a", "b", "sub/c", "d")]


@pytest.fixture(autouse=True)
def in_a_new_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def results(*, identity: dict[str, Any] | None = None, **options: Any) -> ResultsFolder:
    return ResultsFolder("out", header_of(darkness_inspector()), identity=identity or {"model": "m"}, **options)


def fill(target: ResultsFolder, names: list[PurePosixPath]) -> None:
    outcomes = list(darkness_inspector().stream([np.full((20, 30), 90, np.uint8) for _ in NAMES]))
    with target:
        for name in names:
            outcome = outcomes[NAMES.index(name)]
            assert isinstance(outcome, Inspected)
            target.add(outcome, name)


def lines() -> list[bytes]:
    return Path("out/results.jsonl").read_bytes().splitlines(keepends=True)


@pytest.mark.parametrize("tail", [b"", b"{", b'{"source": "\xc3', b"\0" * 40, b"\0" * 40 + b"\n", b"[]\n", b"{}\n"])
def test_a_torn_last_line_is_cut(tail: bytes) -> None:
    fill(results(), NAMES)
    whole = lines()
    with Path("out/results.jsonl").open("ab") as stream:
        stream.write(tail)
    assert recover(Path("out")) == 4
    assert lines() == whole


@pytest.mark.parametrize("damage", ["cut", "empty", "gone"])
@pytest.mark.parametrize("picture", ["overlays/sub/c.jpg", "masks/sub/c.png", "maps/sub/c.npz"])
def test_records_stay_up_to_the_first_whose_pictures_are_not_whole(damage: str, picture: str) -> None:
    fill(results(keep_maps=True), NAMES)
    path = Path("out") / picture
    whole = path.read_bytes()
    path.unlink() if damage == "gone" else path.write_bytes(whole[: len(whole) // 2 if damage == "cut" else 0])
    assert recover(Path("out")) == 2
    assert len(lines()) == 2


def test_half_written_pictures_are_removed_and_whole_ones_stay() -> None:
    fill(results(), NAMES)
    for folder_name in ("overlays", "masks/sub", "."):
        (Path("out") / folder_name / ".c.jpg.0123.tmp").write_bytes(b"half")
    recover(Path("out"))
    assert not list(Path("out").rglob("*.tmp"))
    assert len(list(Path("out").rglob("*.jpg"))) == 4


def test_a_resumed_run_is_the_one_that_was_never_cut_off() -> None:
    fill(results(), NAMES)
    whole = {path: path.read_bytes() for path in Path("out").rglob("*.*") if path.name != "run.json"}
    Path("out/results.jsonl").write_bytes(b"".join(lines()[:2]) + b'{"source": "d')
    Path("out/results.csv").write_bytes(whole[Path("out/results.csv")][:70])
    target = results(resume=True)
    assert target.resumed == 2
    fill(target, NAMES[2:])
    assert {path: path.read_bytes() for path in Path("out").rglob("*.*") if path.name != "run.json"} == whole


def test_new_records_are_reported_and_all_are_counted() -> None:
    new: list[str | None] = []
    fill(results(), NAMES[:2])
    target = results(resume=True, on_record=lambda record: new.append(record["mask"]))
    assert (target.resumed, target.counts.verdicts.total()) == (2, 2)
    fill(target, NAMES[2:])
    assert new == ["masks/sub/c.png", "masks/d.png"]
    assert target.counts.verdicts.total() == 4


def test_a_difference_is_refused_in_words_and_nothing_touched() -> None:
    fill(results(identity={"model": "m", "thresholds": {"image": 0.5, "pixel": 0.25}, "images": "4"}), NAMES)
    before = lines()
    with pytest.raises(UsageError, match=r"with thresholds image 0\.5, not 0\.6; images 4, not 5"):
        results(identity={"model": "m", "thresholds": {"image": 0.6, "pixel": 0.25}, "images": "5"}, resume=True)
    assert lines() == before


def test_resume_begins_where_there_is_nothing() -> None:
    fill(results(resume=True), NAMES)
    assert len(lines()) == 4


def test_a_run_killed_before_its_first_file_was_whole_is_begun_again() -> None:
    Path("out").mkdir()
    Path("out/results.jsonl").touch()
    Path("out/.run.json.0123.tmp").write_text("{")
    fill(results(resume=True), NAMES)
    assert len(lines()) == 4


def test_a_folder_with_something_else_in_it_is_never_resumed() -> None:
    Path("out").mkdir()
    Path("out/notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="choose a new or empty one"):
        results(resume=True)


def test_two_runs_never_write_into_one_folder() -> None:
    pytest.importorskip("fcntl", reason="this system has no locks that a killed process gives back")
    with results(), pytest.raises(UsageError, match="another run is writing there"):
        results(resume=True)


def test_a_record_is_written_after_its_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = pictures.draw_overlay
    counts: list[int] = []

    def count(*args: Any, **options: Any) -> Any:
        counts.append(len(lines()))
        return draw(*args, **options)

    monkeypatch.setattr(pictures, "draw_overlay", count)
    fill(results(), NAMES)
    assert all(written <= drawn for drawn, written in enumerate(counts))


def test_a_disk_that_fills_up_loses_nothing_that_was_written(monkeypatch: pytest.MonkeyPatch) -> None:
    fill(results(), NAMES)
    whole = lines()
    save = pictures.save

    def full(pixels: Any, path: Path) -> Any:
        if path.stem in ("c", "d"):  # by name, not by count: two threads write, in whatever order they come
            error = OutputError("out: cannot be written (no space left on device)")
            error.__cause__ = OSError(28, "No space left on device")
            raise error
        return save(pixels, path)

    monkeypatch.setattr(pictures, "save", full)
    with pytest.raises(OutputError, match="no space left"):
        fill(results(overwrite=True), NAMES)
    monkeypatch.setattr(pictures, "save", save)
    with results(resume=True) as target:
        kept = target.resumed
    assert kept == 2
    fill(results(resume=True), NAMES[kept:])
    assert lines() == whole


def test_images_that_cannot_be_inspected_are_rows_with_all_fields() -> None:
    fill(results(parquet=True), NAMES[:1])
    target = results(resume=True, parquet=True)
    with target:
        target.add_error(ImageError("bad.png", "is empty"))
    good, bad = map(json.loads, lines())
    assert list(good) == list(bad) or set(good) == set(bad)
    assert (bad["source"], bad["error"], bad["verdict"]) == ("bad.png", "is empty", None)
    assert good["error"] is None
    from pyarrow import parquet

    table = parquet.read_table("out/results.parquet").to_pylist()
    assert [row["error"] for row in table] == [None, "is empty"]
    assert table[0]["image_score"] == good["image_score"]
    assert dict(table[0]["types"]) == good["types"]
    assert table[0]["regions"] == good["regions"]
