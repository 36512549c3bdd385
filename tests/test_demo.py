"""The README's first command in a fresh clone, word for word, and `blemish demo` as pip users run it."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from commands import run

ROOT = Path(__file__).parents[1]
LIMIT_S = 900


def check_demo(folder: Path, output: str, *, photos: int) -> None:
    found = records(folder / "results")
    assert len(found) == photos + 16
    assert all((folder / "results" / record["overlay"]).is_file() for record in found)
    assert (folder / "contact-sheet.jpg").stat().st_size > 50_000
    assert "contact-sheet.jpg" in output
    assert ("CC BY-NC-SA" in output) == (photos > 0)


@pytest.mark.slow
@pytest.mark.timeout(2 * LIMIT_S)
def test_make_demo_works_in_a_fresh_clone(tmp_path: Path) -> None:
    if shutil.which("make") is None or shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("a fresh clone needs make, git and a repository")
    run("git", "clone", "-q", ROOT, tmp_path / "clone", cwd=tmp_path, limit_s=LIMIT_S)
    output = run("make", "demo", cwd=tmp_path / "clone", limit_s=LIMIT_S)
    check_demo(tmp_path / "clone" / "demo-results", output, photos=16)


@pytest.mark.slow
@pytest.mark.timeout(LIMIT_S)
def test_blemish_demo_shows_renders_where_the_photos_are_not_installed(tmp_path: Path) -> None:
    code = "import runpy, sys; sys.modules['elpv_dataset'] = None; sys.argv = ['blemish', 'demo', '--out', 'demo']; "
    code += "runpy.run_module('blemish', run_name='__main__')"
    output = run(sys.executable, "-c", code, cwd=tmp_path, limit_s=LIMIT_S)
    assert "pip install" in output
    check_demo(tmp_path / "demo", output, photos=0)


@pytest.mark.slow
@pytest.mark.timeout(2 * LIMIT_S)
def test_an_exported_model_gives_the_same_verdicts_where_neither_torch_nor_the_source_is(tmp_path: Path) -> None:
    """The demo's pictures in an environment of their own, as docs/engines.md says."""
    pytest.importorskip("onnx", reason="the extra onnx is not installed")
    blemish, place = (sys.executable, "-m", "blemish"), tmp_path / "elsewhere"
    photos, model = tmp_path / "photos", tmp_path / "model"

    def call(*command: object) -> str:
        return run(*command, cwd=tmp_path, limit_s=LIMIT_S)

    call(*blemish, "demo", "--out", "demo")
    photos.mkdir()
    for number, record in enumerate(records(tmp_path / "demo" / "results")):
        shutil.copy(tmp_path / record["source"], photos / f"{number:03d}{Path(record['source']).suffix}")
    call(*blemish, "inspect", photos, "--peers", "off", "--out", "expected")
    call(*blemish, "export-model", "--out", model)
    call(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", "wheel", ROOT)
    call(sys.executable, "-m", "venv", place)
    python = place / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    wheel = next((tmp_path / "wheel").glob("blemish-*.whl"))
    for words in (("--no-deps", wheel), ("-r", model / "requirements.txt")):
        call(python, "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt", *words)
    code = "import importlib.util, blemish; print(blemish.__file__, importlib.util.find_spec('torch'))"
    where, torch = call(python, "-c", code).split()
    assert Path(where).is_relative_to(place)
    assert torch == "None"
    call(python, "-m", "blemish", "inspect", photos, "--backbone", model, "--peers", "off", "--out", "found")
    expected, found = records(tmp_path / "expected"), records(tmp_path / "found")
    assert len(expected) >= 16
    assert [row["verdict"] for row in found] == [row["verdict"] for row in expected]
    for row, wanted in zip(found, expected, strict=True):
        assert row["image_score"] == pytest.approx(wanted["image_score"], abs=1e-4)


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "results.jsonl").read_text("utf-8").splitlines()]
