"""The commands and the Python of a page, run as they are printed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

__all__ = ["blocks_of", "run_blocks"]

Block = tuple[str, str]  # its language, its text


def blocks_of(page: Path) -> list[Block]:
    """The blocks of a page in bash and Python; skips the test where there is no bash."""
    if shutil.which("bash") is None:
        pytest.skip("the page's commands need bash, which this machine does not have")
    return re.findall(r"```(bash|python)\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


def run_blocks(blocks: list[Block], folder: Path, *, limit_s: float) -> None:
    """Runs the blocks one after the other in a folder; each must succeed within the limit."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    for language, block in blocks:
        command = ["bash", "-euc", block] if language == "bash" else [sys.executable, "-c", block]
        done = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, "PATH": path},
            capture_output=True,
            text=True,
            timeout=limit_s,
            check=False,
        )
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
