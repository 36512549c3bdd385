"""Commands run as a user would: another folder, another process, nothing of this one's environment."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

_OURS = ("PYTHON", "BLEMISH", "VIRTUAL_ENV", "MAKE", "MFLAGS", "PYTEST")


def run(*command: object, cwd: Path, limit_s: float) -> str:
    """What the command printed; an AssertionError with all of it where it failed."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env={name: value for name, value in os.environ.items() if not name.startswith(_OURS)},
        capture_output=True,
        text=True,
        timeout=limit_s,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout
