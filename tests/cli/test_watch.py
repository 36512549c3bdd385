"""`blemish inspect --watch`: images as they arrive, each once, whole."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest

from blemish import cli
from blemish.errors import UsageError
from blemish.images import save, watch_images
from fakes import use_darkness

POLL_S = 0.02


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save(np.full((8, 8), 255, np.uint8), tmp_path / "in" / "a.png")
    return tmp_path / "in"


def test_what_is_there_comes_first_and_what_arrives_after_it(folder: Path) -> None:
    arrivals = watch_images([folder], for_s=30, poll_s=POLL_S)
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
    arrivals = watch_images([folder], for_s=30, poll_s=POLL_S)
    assert next(arrivals).path.name == "a.png"
    written_to[0] = False
    assert next(arrivals).path.name == "0.png"


def test_known_and_empty_files_are_not_given_and_it_ends(folder: Path) -> None:
    (folder / "empty.png").touch()
    known = [(folder / "a.png").as_posix()]
    assert list(watch_images([folder], known=known, for_s=5 * POLL_S, poll_s=POLL_S)) == []


def test_ctrl_c_while_it_waits_ends_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", interrupted)
    assert list(watch_images([folder])) == []


def test_only_folders_are_watched(folder: Path) -> None:
    with pytest.raises(UsageError, match="takes folders"):
        watch_images([folder / "a.png"])


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
