"""The tutorial's commands and Python run as they are printed."""

from __future__ import annotations

from pathlib import Path

import pytest

from printed import blocks_of, run_blocks

TUTORIAL = Path(__file__).parents[1] / "docs" / "tutorial.md"
LIMIT_S = 300


@pytest.mark.slow
@pytest.mark.timeout(4 * LIMIT_S)
def test_the_tutorial_runs_as_printed(tmp_path: Path) -> None:
    blocks = blocks_of(TUTORIAL)
    assert {language for language, _ in blocks} == {"bash", "python"}
    run_blocks(blocks, tmp_path, limit_s=LIMIT_S)
    assert (tmp_path / "first-look" / "results.csv").is_file()
    assert len(list((tmp_path / "named" / "overlays").rglob("*.jpg"))) == 16
