"""`blemish inspect` with a method that needs no model: what it writes and prints."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import blemish
from blemish import cli
from blemish.runs.records import CSV_COLUMNS
from cli.inspecting import lines, one_line, write_parts
from fakes import darkness_inspector, use_darkness


@pytest.fixture(autouse=True)
def without_a_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The fake engine; the current folder is a new one."""
    use_darkness(monkeypatch)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    return write_parts(tmp_path / "parts")


# what it writes


def test_results_are_written_in_the_tree_of_the_input(parts: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert cli.main(["inspect", str(parts), "--out", str(out), "-q"]) == 0
    files = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    assert files == [
        "masks/ok.png",
        "masks/sub/ng.png",
        "masks/sub/review.png",
        "overlays/ok.jpg",
        "overlays/sub/ng.jpg",
        "overlays/sub/review.jpg",
        "results.csv",
        "results.jsonl",
        "run.json",
    ]
    for path in [*out.glob("overlays/**/*.jpg"), *out.glob("masks/**/*.png")]:
        with Image.open(path) as image:
            assert image.size == (80, 60)


def test_json_lines_and_table_hold_the_same_fields(parts: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    cli.main(["inspect", str(parts), "--out", str(out), "-q"])
    records = lines((out / "results.jsonl").read_text(encoding="utf-8"))
    assert [record["verdict"] for record in records] == ["ok", "ng", "review"]
    assert records[1]["source"] == (parts / "sub" / "ng.jpg").as_posix()
    assert records[1]["overlay"] == "overlays/sub/ng.jpg"
    with (out / "results.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert tuple(rows[0]) == CSV_COLUMNS
    for record, row in zip(records, rows, strict=True):
        assert row["source"] == record["source"]
        assert float(row["image_score"]) == record["image_score"]
        assert json.loads(row["regions"]) == record["regions"]
        assert json.loads(row["types"]) == record["types"]
        assert int(row["region_count"]) == len(record["regions"])


def test_the_mask_is_where_the_map_is_at_or_above_the_pixel_threshold(parts: Path, tmp_path: Path) -> None:
    cli.main(["inspect", str(parts / "sub" / "ng.jpg"), "--out", str(tmp_path / "out"), "-q"])
    expected = darkness_inspector().inspect(parts / "sub" / "ng.jpg").mask()
    with Image.open(tmp_path / "out" / "masks" / "ng.png") as image:
        assert image.mode == "1"
        np.testing.assert_array_equal(np.asarray(image), expected)


def test_run_json_says_how_it_was_made(parts: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (parts / "bad.png").write_text("text")
    cli.main(["inspect", str(parts), "--out", str(out), "--threshold", "0.9", "-q"])
    run = json.loads((out / "run.json").read_text(encoding="utf-8"))
    assert run["schema"] == "blemish.run/1"
    assert run["status"] == "finished"
    assert {key: run["model"][key] for key in ("backbone", "method", "prompts", "version")} == {
        "backbone": "embedded",
        "method": "darkness",
        "prompts": "",
        "version": blemish.__version__,
    }
    assert run["thresholds"]["calibration"] == "user"
    assert run["thresholds"]["pixel_calibration"] == "uncalibrated"
    assert run["counts"] == {"ok": 1, "review": 1, "ng": 1, "unreadable": 1}
    assert run["unreadable"][0]["source"] == (parts / "bad.png").as_posix()
    assert run["versions"]["blemish"] == blemish.__version__


def test_same_file_names_from_two_folders_stay_apart(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        for name in ("1.png", "1.bmp", "1.PNG.bmp", "2.jpg"):
            image = Image.fromarray(np.full((9, 9), 255, np.uint8))
            (tmp_path / folder).mkdir(exist_ok=True)
            image.save(tmp_path / folder / name)
    cli.main(["inspect", str(tmp_path / "a"), str(tmp_path / "b"), "--out", str(tmp_path / "out"), "-q"])
    records = lines((tmp_path / "out" / "results.jsonl").read_text(encoding="utf-8"))
    overlays = [record["overlay"].lower() for record in records]
    assert len(set(overlays)) == 8
    assert all((tmp_path / "out" / record["overlay"]).is_file() for record in records)
    assert sum(overlay.startswith("overlays/a/") for overlay in overlays) == 4


def test_json_gives_json_lines_on_stdout_and_nothing_else(parts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (parts / "Schlüssel 划痕.png").write_text("text")
    assert cli.main(["inspect", str(parts), "--json"]) == 3
    captured = capsys.readouterr()
    records = lines(captured.out)
    assert [record["verdict"] for record in records if record["error"] is None] == ["ok", "ng", "review"]
    assert [record["source"] for record in records if record["verdict"] is None] == [
        (parts / "Schlüssel 划痕.png").as_posix()
    ]
    assert {record["overlay"] for record in records} == {None}
    assert "unreadable" in captured.err
    assert list(Path.cwd().iterdir()) == []


def test_json_with_out_writes_the_files_too(parts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["inspect", str(parts), "--json", "--out", str(tmp_path / "out")])
    written = (tmp_path / "out" / "results.jsonl").read_text(encoding="utf-8")
    assert lines(capsys.readouterr().out) == lines(written)


def test_the_summary_names_counts_types_thresholds_and_place(parts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (parts / "bad.png").touch()
    save_deep(parts / "deep.png", 3000)
    cli.main(["inspect", str(parts)])
    captured = capsys.readouterr()
    assert "image 0.6 (uncalibrated), review 0.4, pixel 0.5 (uncalibrated)" in captured.out
    assert "scratch" in captured.out
    assert "read as 0:4095" in captured.out
    assert "results: blemish-results" in captured.out
    assert captured.err == f"unreadable: {(parts / 'bad.png').as_posix()}: the file is empty\n"


@pytest.mark.parametrize("encoding", ["cp1252", "utf-8"])
def test_any_name_can_be_printed_on_any_console(parts: Path, encoding: str) -> None:
    code = (
        "import sys; from blemish import cli; from blemish.inspection import load as loading\n"
        "from fakes import DarknessEngine\n"
        "loading.ENGINES = {'torch': DarknessEngine}\n"
        "sys.exit(cli.main(['inspect', *sys.argv[1:]]))"
    )
    (parts / "坏.png").touch()
    environment = {
        **os.environ,
        "PYTHONIOENCODING": encoding,
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]),
    }
    result = subprocess.run(
        [sys.executable, "-c", code, str(parts), "--defects", "划痕, 污渍"],
        check=False,
        capture_output=True,
        env=environment,
        timeout=120,
    )
    assert result.returncode == 3, result.stderr.decode(encoding)
    shown = [name.encode(encoding, "backslashreplace").decode(encoding) for name in ("划痕", "污渍")]
    assert f"top types of what is not OK: {shown[0]} 1, {shown[1]} 1" in result.stdout.decode(encoding)
    assert "坏".encode(encoding, "backslashreplace") in result.stderr


def test_quiet_says_nothing(parts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["inspect", str(parts), "--quiet"])
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


def save_deep(path: Path, maximum: int) -> None:
    array = np.full((8, 8), maximum, np.uint16)
    Image.fromarray(array).save(path)


def test_deep_images_share_one_range_and_range_overrides_it(tmp_path: Path) -> None:
    save_deep(tmp_path / "a.png", 900)
    save_deep(tmp_path / "b.png", 9000)
    for number, (options, expected) in enumerate(
        (([], [0, 16383]), (["--range", "100:20000"], [100, 20000]), (["--range", "2%:98%"], [900, 9000]))
    ):
        out = tmp_path / f"out{number}"
        cli.main(["inspect", str(tmp_path / "a.png"), str(tmp_path / "b.png"), "--out", str(out), "-q", *options])
        records = lines((out / "results.jsonl").read_text(encoding="utf-8"))
        assert [record["value_range"] for record in records] == [expected] * 2


# runs are not mixed


def test_every_run_has_a_folder_of_its_own(parts: Path) -> None:
    for name in ("blemish-results", "blemish-results-2", "blemish-results-3"):
        cli.main(["inspect", str(parts), "-q"])
        assert (Path(name) / "run.json").is_file()


def test_a_folder_with_something_in_it_is_refused(parts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["inspect", str(parts), "--out", "run", "-q"]) == 0
    assert cli.main(["inspect", str(parts), "--out", "run", "-q"]) == 2
    assert "never mixed: --overwrite replaces it" in one_line(capsys)
    assert cli.main(["inspect", str(parts), "--out", str(parts), "--overwrite", "-q"]) == 2
    assert "choose a new or empty one" in one_line(capsys)


def test_overwrite_replaces_the_run_and_nothing_else(parts: Path) -> None:
    cli.main(["inspect", str(parts), "--out", "run", "-q"])
    Path("run/notes.txt").write_text("mine")
    assert cli.main(["inspect", str(parts / "ok.png"), "--out", "run", "--overwrite", "-q"]) == 0
    assert len(Path("run/results.jsonl").read_text(encoding="utf-8").splitlines()) == 1
    assert [path.name for path in Path("run/overlays").rglob("*.jpg")] == ["ok.jpg"]
    assert Path("run/notes.txt").read_text() == "mine"


def test_results_inside_the_input_are_not_inspected(parts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(parts)
    for _ in range(2):
        cli.main(["inspect", ".", "-q"])
    records = lines(Path("blemish-results-2/results.jsonl").read_text(encoding="utf-8"))
    assert [record["source"] for record in records] == ["ok.png", "sub/ng.jpg", "sub/review.png"]
