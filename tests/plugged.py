"""Fake engines as another package brings them, so that processes that a test starts find them, too."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from blemish.engines import ENGINES
from fakes import DarknessEngine

ONCE = "BLEMISH_TEST_ONCE"  # names a file: the process that finds and removes it ends itself


class EndingEngine(DarknessEngine):
    """Ends its process at a black image and, where the file that `ONCE` names is there, once at any image."""

    name: ClassVar[str] = "ending"

    def encode(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        once = os.environ.get(ONCE)
        if once:
            try:
                Path(once).unlink()
            except FileNotFoundError:
                pass
            else:
                os.kill(os.getpid(), signal.SIGKILL)
        if (images.max(axis=(1, 2, 3)) == 0).any():
            os.kill(os.getpid(), signal.SIGKILL)
        return super().encode(images)


class RefusingEngine(DarknessEngine):
    """Gives scores that are no numbers."""

    name: ClassVar[str] = "refusing"

    def encode(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        return super().encode(images) * np.float32("nan")


def plug_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts the engines "darkness", "ending" and "refusing" where `--engine` finds them, in this process and in its children."""
    info = folder / "plugged" / "plugged-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugged\nVersion: 1.0\n")
    names = {"darkness": "fakes:DarknessEngine", "ending": "plugged:EndingEngine", "refusing": "plugged:RefusingEngine"}
    lines = [f"{name} = {place}" for name, place in names.items()]
    (info / "entry_points.txt").write_text("\n".join(["[blemish.engines]", *lines]) + "\n")
    monkeypatch.setattr(sys, "path", [str(info.parent), str(Path(__file__).parent), *sys.path])
    monkeypatch.setattr(ENGINES, "__dict__", {key: ENGINES.__dict__[key] for key in ("group", "kind", "own")})
