"""The README's first command in a fresh clone, word for word, and `blemish demo` as pip users run it."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from commands import run

ROOT = Path(__file__).parents[1]
LIMIT_S = 900


def check_demo(folder: Path, output: str, *, photos: int) -> None:
    records = [json.loads(line) for line in (folder / "results" / "results.jsonl").read_text("utf-8").splitlines()]
    assert len(records) == photos + 16
    assert all((folder / "results" / record["overlay"]).is_file() for record in records)
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
