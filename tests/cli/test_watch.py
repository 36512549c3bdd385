"""`blemish inspect --watch`: images as they arrive, each once, whole."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blemish import cli
from blemish.errors import UsageError
from blemish.images import save, watch_images, watching
from fakes import use_darkness

POLL_S = 0.02


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save(np.full((8, 8), 255, np.uint8), tmp_path / "in" / "a.png")
    return tmp_path / "in"


def test_what_is_there_comes_first_and_what_arrives_after_it(folder: Path) -> None:
    arrivals = watch_images([folder], for_s=30, rest_s=POLL_S, poll_s=POLL_S)
    assert next(arrivals).path.name == "a.png"
    save(np.full((8, 8), 255, np.uint8), folder / "sub" / "b.png")
    assert next(arrivals).path == folder / "sub" / "b.png"


def test_a_file_that_still_grows_is_waited_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    growing, written_to, sleep = folder / "0.png", [True], time.sleep
    growing.write_bytes(b"x")

    def grow_and_sleep(seconds: float) -> None:  # between any two looks at the folder
        if written_to[0]:
            with growing.open("ab") as stream:
                stream.write(b"x")
        sleep(seconds)

    monkeypatch.setattr(time, "sleep", grow_and_sleep)
    arrivals = watch_images([folder], for_s=30, rest_s=POLL_S, poll_s=POLL_S)
    assert next(arrivals).path.name == "a.png"
    written_to[0] = False
    assert next(arrivals).path.name == "0.png"


def test_known_and_empty_files_are_not_given_and_it_ends(folder: Path) -> None:
    (folder / "empty.png").touch()
    known = [(folder / "a.png").as_posix()]
    assert list(watch_images([folder], known=known, for_s=5 * POLL_S, rest_s=POLL_S, poll_s=POLL_S)) == []


def test_ctrl_c_while_it_waits_ends_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", interrupted)
    assert list(watch_images([folder])) == []


def test_only_folders_are_watched(folder: Path) -> None:
    with pytest.raises(UsageError, match="takes folders"):
        watch_images([folder / "a.png"])


def watched(folder: Path, **options: Any) -> Any:
    return watch_images([folder], **{"for_s": 30, "rest_s": POLL_S, "poll_s": POLL_S, **options})


def test_a_file_that_could_not_be_read_is_given_again_when_it_changes(folder: Path) -> None:
    arrivals = watched(folder)
    image = next(arrivals)
    assert arrivals.failed(image.path)
    (folder / "a.png").write_bytes(b"another content")
    assert next(arrivals).path == image.path


def test_it_is_given_for_the_last_time_when_it_does_not_change(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "RETRY_S", 3 * POLL_S)
    arrivals = watched(folder)
    image = next(arrivals)
    assert arrivals.failed(image.path)
    assert next(arrivals) == image
    assert not arrivals.failed(image.path)


def test_what_failed_is_given_for_the_last_time_at_the_end(folder: Path) -> None:
    arrivals = watched(folder, for_s=5 * POLL_S)
    given = []
    for image in arrivals:
        given.append(image.path.name)
        last = not arrivals.failed(image.path)
    assert (given, last) == (["a.png", "a.png"], True)


def test_a_file_that_is_written_again_is_given_again(folder: Path) -> None:
    save(np.full((8, 8), 9, np.uint8), folder / "z.png")
    arrivals = watched(folder, known=[(folder / "a.png").as_posix()])
    assert next(arrivals).path.name == "z.png"
    save(np.full((9, 9), 7, np.uint8), folder / "a.png")
    assert next(arrivals).path.name == "a.png"
    save(np.full((7, 9), 7, np.uint8), folder / "z.png")
    assert next(arrivals).path.name == "z.png"


def test_a_file_is_waited_for_until_it_rests_so_long(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])

    def sleep(seconds: float) -> None:
        clock[0] += seconds

    monkeypatch.setattr(time, "sleep", sleep)
    assert next(watch_images([folder], rest_s=5, poll_s=0.5)).path.name == "a.png"
    assert clock[0] == 105


def test_a_folder_that_goes_away_does_not_end_it(folder: Path) -> None:
    arrivals = watched(folder, for_s=5 * POLL_S)
    assert next(arrivals).path.name == "a.png"
    (folder / "a.png").unlink()
    folder.rmdir()
    assert list(arrivals) == []
    assert [error.source for error in arrivals.unlisted] == [folder.as_posix()]


@pytest.mark.parametrize("kind", ["reserved", "stalled"])
def test_a_copy_that_looks_whole_and_is_not_is_read_in_the_end(
    kind: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = (folder / "a.png").read_bytes()
    target, sleep, looks = folder / "b.png", time.sleep, [0]
    target.write_bytes(bytes(len(whole)) if kind == "reserved" else whole[: len(whole) // 2])

    def write_and_sleep(seconds: float) -> None:
        looks[0] += 1
        if looks[0] == 8:  # long after it was looked at for the first time
            target.write_bytes(whole)
        sleep(min(seconds, POLL_S))

    monkeypatch.setattr(time, "sleep", write_and_sleep)
    use_darkness(monkeypatch)
    out = tmp_path / "out"
    command = ["inspect", str(folder), "--watch-for", "1", "--watch-rest", "0.02", "--out", str(out), "-q"]
    assert cli.main(command) == 0
    records = [json.loads(line) for line in (out / "results.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(Path(record["source"]).name, record["error"]) for record in records] == [("a.png", None), ("b.png", None)]
    assert [record["overlay"] for record in records] == ["overlays/a.png.jpg", "overlays/b.png.jpg"]


def test_the_command_watches_and_resumes(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    use_darkness(monkeypatch)
    out = tmp_path / "in" / "out"
    command = ["inspect", str(folder), "--watch-for", "1.2", "--out", str(out), "-q", "--resume"]
    assert cli.main(command) == 0
    (folder / "broken.png").write_text("text")
    save(np.zeros((8, 8), np.uint8), folder / "A.png")
    save(np.zeros((8, 8), np.uint8), folder / "a.jpg")
    assert cli.main(command) == 3
    records = [json.loads(line) for line in (out / "results.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [Path(record["source"]).name for record in records] == ["a.png", "a.jpg", "A.png", "broken.png"]
    assert [record["overlay"] for record in records[:2]] == ["overlays/a.png.jpg", "overlays/a.jpg.jpg"]
    assert len({str(record["overlay"]).casefold() for record in records}) == 4
    assert json.loads((out / "run.json").read_text(encoding="utf-8"))["status"] == "finished"
