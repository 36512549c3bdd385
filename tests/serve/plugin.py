"""The fake engines as plug-ins that worker processes find: entry points in a folder on their path.

An image with these top left pixels does something to the process that inspects it: CRASH ends it, HANG stops it.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fakes import DarknessEngine
from memory_engine import MemoryEngine

CRASH, HANG, SLOW = (255, 0, 255), (255, 255, 0), (0, 255, 255)
SLOW_S = 0.25
BATCHES = "SERVED_BATCHES"  # variable: a file that gets the size of each batch, a line each


class ServedEngine(DarknessEngine):
    """The fake engine, and images that misbehave: by the colour of the middle of their top left eighth."""

    name: ClassVar[str] = "served-darkness"

    def encode(self, images: NDArray[np.float32]) -> Any:
        if BATCHES in os.environ:
            with Path(os.environ[BATCHES]).open("a") as stream:
                stream.write(f"{len(images)}\n")
        for image in images:
            colour = tuple(int(value > 0.5) * 255 for value in image[:, 4, 4])
            if colour == CRASH:
                os._exit(9)
            if colour == HANG:
                time.sleep(3600)
            if colour == SLOW:
                time.sleep(SLOW_S)
        return super().encode(images)


class ServedMemory(MemoryEngine):
    """The fake engine that remembers good images."""

    name: ClassVar[str] = "served-memory"


def install(folder: Path) -> dict[str, str]:
    """Variables for processes that are to find the engines."""
    info = folder / "served_darkness-0.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: served-darkness\nVersion: 0\n")
    engines = (ServedEngine, ServedMemory)
    lines = ["[blemish.engines]", *(f"{each.name} = serve.plugin:{each.__name__}" for each in engines)]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    tests = Path(__file__).parent.parent
    source = tests.parent / "src"
    return {"PYTHONPATH": os.pathsep.join(map(str, (folder, tests, source)))}
