"""`blemish inspect --resume`: killed at any moment, the run ends as if it had never been."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from blemish import cli
from blemish.images import save
from blemish.inspection import load as loading
from fakes import DarknessEngine, use_darkness

KILLS = 20


def inspect(images: Path, out: Path, *options: str) -> int:
    """In a process of its own or in this one: the command with the fake method."""
    loading.ENGINES = {"torch": DarknessEngine}  # type: ignore[assignment]
    return cli.main(["inspect", str(images), "--out", str(out), "-q", *options])


@pytest.fixture(autouse=True)
def with_the_fake(monkeypatch: pytest.MonkeyPatch) -> None:
    use_darkness(monkeypatch)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Images with regions, some of them deep with a range that only all of them together tell, and broken ones."""
    folder = tmp_path / "images"
    random_numbers = np.random.default_rng(0)
    for number in range(60):
        pixels = random_numbers.integers(0, 256, (6, 8), dtype=np.uint8).repeat(20, 0).repeat(20, 1)
        save(pixels, folder / f"{number % 3}" / f"{number}.png")
    for number, most in ((7, 900), (50, 5000)):
        from PIL import Image

        Image.fromarray((random_numbers.random((60, 80)) * most).astype(np.uint16)).save(folder / f"deep{number}.png")
    (folder / "1" / "broken.png").write_text("text")
    (folder / "2" / "empty.jpg").touch()
    return folder


def contents(out: Path) -> dict[str, bytes]:
    """All files but run.json, which holds times."""
    files = [path for path in out.rglob("*") if path.is_file() and path.name != "run.json"]
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in files}


def test_a_finished_run_is_left_as_it_is(images: Path, tmp_path: Path) -> None:
    assert inspect(images, tmp_path / "out", "--parquet") == 3
    before = contents(tmp_path / "out")
    assert inspect(images, tmp_path / "out", "--resume", "--parquet") == 3
    assert contents(tmp_path / "out") == before
    run = json.loads((tmp_path / "out" / "run.json").read_text(encoding="utf-8"))
    assert run["counts"]["unreadable"] == 2
    assert sum(run["counts"].values()) == 64


@pytest.mark.parametrize(("kept", "options"), [(1, ()), (8, ()), (13, ("--range", "1%:99%")), (63, ())])
def test_scores_and_value_range_are_those_of_the_whole_run(
    images: Path, tmp_path: Path, kept: int, options: Sequence[str]
) -> None:
    inspect(images, tmp_path / "out", *options)
    before = contents(tmp_path / "out")
    lines = before["results.jsonl"].splitlines(keepends=True)
    (tmp_path / "out" / "results.jsonl").write_bytes(b"".join(lines[:kept]) + lines[kept][:20])
    assert inspect(images, tmp_path / "out", "--resume", *options) == 3
    assert contents(tmp_path / "out") == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--threshold", "0.9"], "thresholds image 0.6, not 0.9"),
        (["--batch-size", "4"], "batch size 8, not 4"),
        (["--range", "0:4095"], "value range none, not 0.0 4095.0"),
        (["--range", "1%:99%"], "value range none, not 1% 99%"),
        (["--keep-maps"], "keep maps False, not True"),
        (["--mm-per-px", "0.1"], "mm per px none, not 0.1"),
    ],
)
def test_other_options_are_refused_in_words(
    images: Path, tmp_path: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    inspect(images, tmp_path / "out")
    capsys.readouterr()
    assert inspect(images, tmp_path / "out", "--resume", *options) == 2
    assert message in capsys.readouterr().err


def test_another_list_of_images_is_refused(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inspect(images, tmp_path / "out")
    capsys.readouterr()
    (images / "1" / "broken.png").unlink()
    assert inspect(images, tmp_path / "out", "--resume") == 2
    assert "images 64 (list " in capsys.readouterr().err


def test_resume_takes_a_folder(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["inspect", str(images), "--resume"]) == 2
    assert "--resume takes the folder" in capsys.readouterr().err


def test_lists_come_from_a_file_and_from_stdin(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import io
    import sys

    listed = tmp_path / "list.txt"
    listed.write_text(f"# two of them\n{images / '0' / '0.png'}\n\n{images / '1' / '1.png'}\n")
    assert cli.main(["inspect", "--list", str(listed), "--json", "-q"]) == 0
    from_file = capsys.readouterr().out
    monkeypatch.setattr(sys, "stdin", io.StringIO(listed.read_text().partition("\n")[2]))
    assert cli.main(["inspect", "-", "--json", "-q"]) == 0
    assert capsys.readouterr().out == from_file
    assert len(from_file.splitlines()) == 2


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system cannot kill a process at once")
def test_killed_at_twenty_random_moments_nothing_is_lost_and_nothing_twice(images: Path, tmp_path: Path) -> None:
    inspect(images, tmp_path / "whole", "--keep-maps")
    whole = contents(tmp_path / "whole")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["blemish.cli", "blemish.runs.run", "blemish.runs.folder", "fakes"])
    moments, kills, runs = random.Random(0), 0, 0
    longest_s = 1.0
    while kills < KILLS:
        out = tmp_path / f"out{runs}"
        runs += 1
        while True:
            process = context.Process(target=inspect, args=(images, out, "--resume", "--keep-maps"))
            started = time.monotonic()
            process.start()
            if kills < KILLS:
                process.join(moments.uniform(0, longest_s))
            else:
                process.join()
            if process.exitcode is not None:
                longest_s = max(0.2, time.monotonic() - started)
                break
            assert process.pid is not None
            os.kill(process.pid, signal.SIGKILL)
            process.join()
            kills += 1
        assert contents(out) == whole
