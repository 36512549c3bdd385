"""The page "Blemish in Python" runs as it is printed, its blocks one after the other."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from commands import run
from printed import blocks_of

PAGE = Path(__file__).parents[1] / "docs" / "python.md"
LIMIT_S = 600


@pytest.mark.slow
@pytest.mark.timeout(LIMIT_S + 60)
def test_every_block_of_the_page_runs(tmp_path: Path) -> None:
    blocks = blocks_of(PAGE)
    assert {language for language, _ in blocks} == {"python"}
    script = tmp_path / "page.py"
    home = f"import os\nos.environ['BLEMISH_HOME'] = {str(tmp_path / 'home')!r}\n"
    script.write_text(home + "\n".join(block for _, block in blocks), encoding="utf-8")
    output = run(sys.executable, "-W", "error", script, cwd=tmp_path, limit_s=LIMIT_S)
    assert "unknown setting 'treshold'; did you mean 'threshold'?" in output
    assert (tmp_path / "first" / "report.html").is_file()
    assert (tmp_path / "evaluation" / "results.json").is_file()
