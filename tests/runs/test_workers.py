"""Inspection in several processes: the same rows in the same order, whatever happens to one of the processes."""

from __future__ import annotations

import json
import os
import random
import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from blemish.errors import ModelError, UsageError
from blemish.images import find_images, save
from blemish.inspection.inspector import BatchPlan
from blemish.runs import pace, workforce
from blemish.runs.run import FinishedRun, inspect_folder
from blemish.runs.work import ImageJob, plan_jobs
from plugged import ONCE, plug_in

OPTIONS = {"defects": "scratch, stain", "batch_size": 4}


@pytest.fixture(autouse=True)
def with_fake_engines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plug_in(tmp_path, monkeypatch)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Images with regions, two deep ones with a range that only both together tell, a broken one."""
    folder = tmp_path / "images"
    numbers = np.random.default_rng(0)
    for number in range(30):
        pixels = numbers.integers(20, 256, (6, 8), dtype=np.uint8).repeat(10, 0).repeat(10, 1)
        save(pixels, folder / f"{number % 3}" / f"{number}.png")
    for number, most in ((7, 900), (29, 5000)):
        Image.fromarray((numbers.random((60, 80)) * most).astype(np.uint16)).save(folder / f"deep{number}.png")
    (folder / "1" / "broken.png").write_text("text")
    return folder


def inspect(images: Path, out: Path | None, *, engine: str = "darkness", **options: Any) -> FinishedRun:
    return inspect_folder(images, out=out, write_files=out is not None, **{"engine": engine, **OPTIONS, **options})


def contents(out: Path) -> dict[str, bytes]:
    files = [path for path in out.rglob("*") if path.is_file() and path.name != "run.json"]
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in files}


def test_several_processes_write_what_one_writes(images: Path, tmp_path: Path) -> None:
    alone = inspect(images, tmp_path / "alone", workers=0, keep_maps=True)
    together = inspect(images, tmp_path / "together", workers=2, keep_maps=True)
    assert contents(tmp_path / "together") == contents(tmp_path / "alone")
    assert (alone.workers, together.workers) == (0, 2)
    assert together.counts.to_dict() == alone.counts.to_dict()
    run = json.loads((tmp_path / "together" / "run.json").read_text(encoding="utf-8"))
    assert run["workers"] == 2


def test_records_without_files_are_the_same(images: Path) -> None:
    records: dict[int, list[Any]] = {0: [], 1: []}
    for workers, found in records.items():
        inspect(images, None, workers=workers, on_record=found.append)
    assert records[1] == records[0]


@pytest.mark.slow
def test_images_with_which_processes_end_become_rows_with_an_error(images: Path, tmp_path: Path) -> None:
    save(np.zeros((60, 80), np.uint8), images / "1" / "13b.png")
    inspect(images, tmp_path / "alone", workers=0)
    run = inspect(images, tmp_path / "out", workers=2, engine="ending")
    assert {Path(error.source).name for error in run.counts.unreadable} == {"broken.png", "13b.png"}
    error = next(error for error in run.counts.unreadable if error.source.endswith("13b.png"))
    assert error.reason == "the process that inspected it ended 2 times (killed by SIGKILL)"
    rows = [json.loads(line) for line in (tmp_path / "out" / "results.jsonl").read_text().splitlines()]
    expected = [json.loads(line) for line in (tmp_path / "alone" / "results.jsonl").read_text().splitlines()]
    assert [row for row in rows if row["source"] != error.source] == [
        row for row in expected if row["source"] != error.source
    ]
    assert [row["source"] for row in rows] == [row["source"] for row in expected]


def test_a_process_that_is_killed_loses_nothing(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inspect(images, tmp_path / "alone", workers=0)
    monkeypatch.setenv(ONCE, str(tmp_path / "once"))
    (tmp_path / "once").touch()
    inspect(images, tmp_path / "out", workers=2, engine="ending")
    assert contents(tmp_path / "out") == contents(tmp_path / "alone")
    assert not (tmp_path / "once").exists()


def test_a_run_begun_in_one_process_goes_on_in_several(images: Path, tmp_path: Path) -> None:
    inspect(images, tmp_path / "out", workers=0)
    whole = contents(tmp_path / "out")
    lines = whole["results.jsonl"].splitlines(keepends=True)
    (tmp_path / "out" / "results.jsonl").write_bytes(b"".join(lines[:7]) + lines[7][:9])
    run = inspect(images, tmp_path / "out", workers=2, resume=True)
    assert (run.resumed, contents(tmp_path / "out")) == (7, whole)


def test_what_holds_for_all_images_ends_the_run_with_its_reason(images: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="scores that are not numbers"):
        inspect(images, tmp_path / "out", workers=1, engine="refusing")
    assert json.loads((tmp_path / "out" / "run.json").read_text(encoding="utf-8"))["status"] == "failed"


def test_processes_that_do_not_start_are_told_with_their_reason(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workforce, "MODULE", "blemish.runs.nothing_there")
    with pytest.raises(ModelError, match=r"do not start \(exit code 1\).*nothing_there.*--workers 0"):
        inspect(images, tmp_path / "out", workers=1)


@pytest.mark.parametrize("options", [{"workers": -1}, {"workers": 2, "watch": True}])
def test_numbers_of_processes_that_make_no_sense_are_refused(images: Path, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="--workers"):
        inspect(images, None, **options)


@pytest.mark.slow
def test_an_interrupted_run_keeps_its_first_records_and_leaves_no_process(images: Path, tmp_path: Path) -> None:
    seen: list[Any] = []

    def interrupt(record: Any) -> None:
        seen.append(record)
        if len(seen) == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        inspect(images, tmp_path / "out", workers=1, on_record=interrupt)
    assert json.loads((tmp_path / "out" / "run.json").read_text(encoding="utf-8"))["status"] == "interrupted"
    assert not [thread for thread in threading.enumerate() if "_listen" in thread.name]
    inspect(images, tmp_path / "out", workers=1, resume=True)
    inspect(images, tmp_path / "alone", workers=0)
    assert contents(tmp_path / "out") == contents(tmp_path / "alone")


# jobs


def jobs_of(count: int, *, batch: int = 4, done: int = 0, workers: int = 1) -> list[ImageJob]:
    names = [f"{number}.png" for number in range(count)]
    plan = BatchPlan(starts=tuple(range(0, count, batch)), learned=None)
    return list(plan_jobs(names, names, plan, done=done, workers=workers))


@pytest.mark.parametrize("workers", [1, 2, 5])
@pytest.mark.parametrize("count", [1, 4, 5, 90])
def test_jobs_hold_every_image_once_in_whole_batches(count: int, workers: int) -> None:
    jobs = jobs_of(count, workers=workers)
    assert [path for job in jobs for path in job.paths] == [f"{number}.png" for number in range(count)]
    assert [start for job in jobs for start in job.starts] == list(range(0, count, 4))
    assert [batch.start for job in jobs for batch in job.batches()] == list(range(0, count, 4))


def test_jobs_go_on_with_the_batch_of_the_first_image_that_is_not_done() -> None:
    assert jobs_of(20, done=7)[0].start == 4
    assert jobs_of(20, done=8)[0].start == 8


def test_batches_are_cut_where_one_process_cuts_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from fakes import darkness_inspector

    for number in range(5):
        save(np.full((50, 40, 3), 90, np.uint8), tmp_path / "parts" / f"{number}.png")
    monkeypatch.setattr("blemish.inspection.loader.MEMORY_AHEAD", 2 * 50 * 40 * 3)
    paths = [image.path for image in find_images(tmp_path / "parts")]
    inspector = darkness_inspector(batch_size=4)
    assert inspector.plan_batches(paths).starts == (0, 2, 4)
    list(inspector.stream(paths))
    assert inspector.engine.batches == [2, 2, 1]  # type: ignore[attr-defined]


# how many


def test_a_short_run_is_not_measured(images: Path, tmp_path: Path) -> None:
    assert inspect(images, tmp_path / "out").workers == 0


@pytest.mark.parametrize(("faster", "expected"), [(2.0, 2), pytest.param(0.5, 0, marks=pytest.mark.slow)])
def test_a_long_run_gets_the_processes_that_are_faster(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, faster: float, expected: int
) -> None:
    monkeypatch.setattr(pace, "LEAST_IMAGES", 1)
    monkeypatch.setattr(pace, "LEAST_S", 0)
    monkeypatch.setattr(pace, "_most_workers", lambda: 2)
    measured = {name: getattr(pace, name) for name in ("_rate", "_rate_alone")}
    monkeypatch.setattr(pace, "_rate_alone", lambda *given: 0 * measured["_rate_alone"](*given) + 1.0)
    monkeypatch.setattr(pace, "_rate", lambda *given: 0 * measured["_rate"](*given) + faster)
    assert inspect(images, tmp_path / "out").workers == expected
    assert inspect(images, tmp_path / "out", resume=True).workers == expected
    inspect(images, tmp_path / "alone", workers=0)
    assert contents(tmp_path / "out") == contents(tmp_path / "alone")


@pytest.mark.slow
def test_twenty_kills_of_processes_change_no_byte(images: Path, tmp_path: Path) -> None:
    """Two processes, killed one after the other at random moments while they inspect."""
    for number in range(400):
        save(np.full((40, 50), 60 + number % 190, np.uint8), images / "many" / f"{number}.png")
    inspect(images, tmp_path / "alone", workers=0)
    chance, kills = random.Random(0), 0
    ends = threading.Event()

    def kill() -> None:
        nonlocal kills
        while not ends.is_set() and kills < 20:
            time.sleep(chance.uniform(1.5, 3.5))
            children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
            for child in chance.sample(children, min(1, len(children))):
                command = Path(f"/proc/{child}/cmdline").read_bytes()
                if workforce.MODULE.encode() in command:
                    os.kill(int(child), signal.SIGKILL)
                    kills += 1

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        for attempt in range(100):
            inspect(images, tmp_path / f"out{attempt}", workers=2)
            assert contents(tmp_path / f"out{attempt}") == contents(tmp_path / "alone")
            if kills >= 20:
                break
    finally:
        ends.set()
        killer.join()
    assert kills >= 20
