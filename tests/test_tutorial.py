"""The tutorial's commands and Python run as they are printed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TUTORIAL = Path(__file__).parents[1] / "docs" / "tutorial.md"
LIMIT_S = 300


@pytest.mark.slow
@pytest.mark.timeout(4 * LIMIT_S)
def test_the_tutorial_runs_as_printed(tmp_path: Path) -> None:
    text = TUTORIAL.read_text(encoding="utf-8")
    blocks = re.findall(r"```(bash|python)\n(.*?)```", text, re.DOTALL)
    assert {language for language, _ in blocks} == {"bash", "python"}
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("the tutorial's commands need bash, which this machine does not have")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    for language, block in blocks:
        command = [bash, "-euc", block] if language == "bash" else [sys.executable, "-c", block]
        done = subprocess.run(
            command,
            cwd=tmp_path,
            env={**os.environ, "PATH": path},
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
    assert (tmp_path / "first-look" / "results.csv").is_file()
    assert len(list((tmp_path / "named" / "overlays").rglob("*.jpg"))) == 16
