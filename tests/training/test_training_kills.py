"""Killed with no chance to clean up, at any moment, a training ends with the same bytes as one that never was."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import blemish
from blemish.training import log

LIMIT_S = 120
TRAIN = """
import sys
import probe
from blemish.training import Recipe, train
probe.register()
recipe = Recipe(epochs=3, batch_size=2, rate=0.05)
train("probe", probe.data_set(40), held_out=probe.data_set(6, seed=5), backbone=probe.tiny_clip(), out=sys.argv[1],
      recipe=recipe, save_every_s=0.0)
"""


def start(out: Path, home: Path) -> subprocess.Popen[bytes]:
    paths = [str(Path(__file__).parents[1]), str(Path(blemish.__file__).parents[1])]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "BLEMISH_HOME": str(home),
        "OMP_NUM_THREADS": "1",
    }
    return subprocess.Popen([sys.executable, "-c", TRAIN, str(out)], env=environment, stderr=subprocess.PIPE)


def finish(process: subprocess.Popen[bytes]) -> None:
    _, errors = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0, errors.decode()


def wait_for_growth(process: subprocess.Popen[bytes], folders: list[Path], files: int) -> None:
    """Waits until the folders hold so many files more than before, or the process has ended."""
    deadline = time.monotonic() + LIMIT_S
    while process.poll() is None and time.monotonic() < deadline:
        if sum(1 for folder in folders for path in folder.rglob("*") if path.is_file()) >= files:
            return
        time.sleep(0.002)


def outcome(out: Path) -> tuple[list[bytes], list[dict[str, Any]]]:
    prompts = [path.read_bytes() for path in sorted(out.glob("epoch-*/prompts.safetensors"))]
    records = [
        {key: value for key, value in record.items() if not key.endswith("seconds")}
        for record in log.read_log(out / log.LOG_FILE)
    ]
    return prompts, records


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no SIGKILL on this system")
def test_kills_at_random_moments_change_no_byte_of_prompts_and_log(tmp_path: Path) -> None:
    whole, broken, home = tmp_path / "whole", tmp_path / "broken", tmp_path / "home"
    finish(start(whole, home))
    chance = random.Random(0)
    kills = 0
    for attempt in range(12):
        # its own store: kills fall into the caching of features, too
        process = start(broken, tmp_path / "home-of-the-broken")
        wait_for_growth(process, [broken, tmp_path / "home-of-the-broken"], 1 + 8 * min(attempt, 5))
        time.sleep(chance.uniform(0, 0.4))
        process.kill()
        process.communicate(timeout=LIMIT_S)
        kills += process.returncode == -signal.SIGKILL
    finish(start(broken, tmp_path / "home-of-the-broken"))
    assert kills >= 5
    assert len(outcome(whole)[0]) == 3
    assert outcome(broken) == outcome(whole)
    assert not list(broken.rglob("*.tmp"))  # what a kill left half-written is cleared away
