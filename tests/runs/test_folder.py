"""A folder of results: one run each, claimed at once; what cannot be written is said, and by whom it is caused."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
from PIL import Image

from blemish.errors import OutputError, UsageError
from blemish.inspection import inspector as pipeline
from blemish.inspection.inspector import Inspected
from blemish.runs import folder, pictures
from blemish.runs.folder import ResultsFolder, check_out
from blemish.runs.header import header_of
from fakes import darkness_inspector

A, B = PurePosixPath("a"), PurePosixPath("b")


@pytest.fixture(autouse=True)
def in_a_new_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def inspected(height: int = 20, width: int = 30) -> Inspected:
    (outcome,) = darkness_inspector().stream([np.full((height, width), 90, np.uint8)])
    assert isinstance(outcome, Inspected)
    return outcome


def results(out: str | None, **options: bool) -> ResultsFolder:
    return ResultsFolder(out, header_of(darkness_inspector(), command=[]), **options)


def add(target: ResultsFolder, outcome: Inspected, *names: PurePosixPath) -> None:
    for name in names:
        target.add(outcome, name)


def records(path: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (Path(path) / "results.jsonl").read_text(encoding="utf-8").splitlines()]


def run_json(path: str) -> dict[str, Any]:
    run: dict[str, Any] = json.loads((Path(path) / "run.json").read_text(encoding="utf-8"))
    return run


# one run a folder


def test_runs_beside_each_other_get_folders_of_their_own() -> None:
    with results(None) as one, results(None) as other:
        assert [one.path.name, other.path.name] == ["blemish-results", "blemish-results-2"]
        assert run_json("blemish-results")["status"] == "running"


def test_a_run_that_comes_second_into_a_folder_is_refused_and_deletes_nothing() -> None:
    assert check_out("out") == check_out("out") == Path("out")  # both find it free
    with results("out") as first:
        add(first, inspected(), A)
        with pytest.raises(UsageError, match="never mixed"):
            results("out")
    assert Path("out/overlays/a.jpg").is_file()
    assert run_json("out")["status"] == "finished"


def test_of_two_runs_that_claim_an_empty_folder_one_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "check_out", lambda out, **_: Path(out))  # both have passed it
    with results("out") as first:
        add(first, inspected(), A)
        with pytest.raises(UsageError, match="another run has begun"):
            results("out")
    assert len(Path("out/results.jsonl").read_text(encoding="utf-8").splitlines()) == 1


# what one image causes does not end the run


def test_an_overlay_too_large_for_jpeg_is_a_png() -> None:
    with results("out") as target:
        add(target, inspected(2, 65_501), PurePosixPath("wide"))
        add(target, inspected(65_501, 2), PurePosixPath("tall"))
        add(target, inspected(2, 65_500), PurePosixPath("ordinary"))
    (wide, tall, ordinary) = records("out")
    assert [record["overlay"] for record in (wide, tall, ordinary)] == [
        "overlays/wide.png",
        "overlays/tall.png",
        "overlays/ordinary.jpg",
    ]
    assert target.counts.unwritten == []
    for record in (wide, tall, ordinary):
        with Image.open(Path("out") / record["overlay"]) as image:
            assert image.size == (record["width_px"], record["height_px"])


@pytest.fixture
def drawing_fails(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[BaseException], None]]:
    """Makes the drawing of the first overlay fail with the given error."""

    def install(error: BaseException) -> None:
        draw, failed = pictures.draw_overlay, []

        def fail_once(*args: Any, **options: Any) -> Image.Image:
            if not failed:
                failed.append(1)
                raise error
            return draw(*args, **options)

        monkeypatch.setattr(pictures, "draw_overlay", fail_once)

    return install


def as_output_error(number: int | None) -> OutputError:
    error = OutputError("a.jpg: cannot be written")
    error.__cause__ = OSError("encoder error -2") if number is None else OSError(number, "Some reason")
    return error


@pytest.mark.parametrize("error", [MemoryError(), as_output_error(None), as_output_error(errno.ENAMETOOLONG)])
def test_pictures_that_one_image_forbids_are_listed_and_the_others_drawn(
    error: BaseException, drawing_fails: Callable[[BaseException], None]
) -> None:
    drawing_fails(error)
    with results("out") as target:
        add(target, inspected(), A)
        while target._waiting:
            target._write_first()
        add(target, inspected(), B)
    (problem,) = target.counts.unwritten
    assert "its pictures cannot be" in problem.reason
    assert run_json("out")["status"] == "finished"
    assert run_json("out")["unwritten"] == [{"source": problem.source, "reason": problem.reason}]
    assert Path("out/overlays/b.jpg").is_file()


def test_a_name_that_the_system_refuses_is_of_its_own() -> None:
    with results("out") as target:
        add(target, inspected(), PurePosixPath("n" * 300), B)
    assert len(target.counts.unwritten) == 1
    assert Path("out/overlays/b.jpg").is_file()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_system_that_refuses_ends_the_run_as_failed(
    number: int, drawing_fails: Callable[[BaseException], None]
) -> None:
    drawing_fails(as_output_error(number))
    with pytest.raises(OutputError), results("out") as target:
        add(target, inspected(), A)
    assert run_json("out")["status"] == "failed"


# the end


@pytest.mark.parametrize("error", [RuntimeError("model"), OutputError("x")])
def test_a_run_that_ends_by_an_error_says_failed(error: Exception) -> None:
    with pytest.raises(type(error), match=str(error)), results("out"):
        raise error
    assert run_json("out")["status"] == "failed"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
@pytest.mark.parametrize("table", ["_lines", "_table_file"])
def test_a_disk_that_is_full_at_the_last_line_is_one_error(table: str) -> None:
    target = results("out")
    getattr(target, table).close()
    setattr(target, table, Path("/dev/full").open("w", encoding="utf-8"))  # noqa: SIM115
    target._table.writer = folder.csv.writer(target._table_file)
    with pytest.raises(OutputError, match=r"out: cannot be written \(no space left on device\)"), target:
        add(target, inspected(), A)
    assert run_json("out")["status"] == "failed"


# what is drawn


def test_pictures_drawn_from_the_kept_part_of_the_map_are_those_drawn_from_the_whole() -> None:
    pixels = np.full((180, 240, 3), 255, np.uint8)
    pixels[50:90, 60:120] = 20
    (outcome,) = darkness_inspector().stream([pixels])
    assert isinstance(outcome, Inspected)
    assert outcome.part is not None
    assert 0 < outcome.part.scores.size < 180 * 240 / 2
    with results("run") as target:
        target.add(outcome, A)
        target.add(replace(outcome, part=None), B)
    for kind in ("masks/{}.png", "overlays/{}.jpg"):
        one, other = (np.asarray(Image.open(f"run/{kind.format(name)}")) for name in (A, B))
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(np.asarray(Image.open("run/masks/a.png")), outcome.inspection.mask())


def test_large_maps_do_not_wait_in_memory_for_their_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "MOST_CACHED_BYTES", 1000)
    outcome = inspected(200, 300)
    assert outcome.part is None
    with results("run") as target:
        add(target, outcome, A)
    np.testing.assert_array_equal(np.asarray(Image.open("run/masks/a.png")), outcome.inspection.mask())
