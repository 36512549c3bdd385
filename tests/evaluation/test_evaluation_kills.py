"""Killed with no chance to clean up, at any moment, an evaluation ends with the same numbers as one that never was."""

from __future__ import annotations

import json
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

LIMIT_S = 240
EVALUATE = """
import json, sys
from pathlib import Path
from blemish.evaluation import EvaluationSettings, evaluate_candidate
from scenes import data_set, candidate
data = data_set(count=24, products=("thing", "other"))
settings = EvaluationSettings(rounds=5, batch_size=2, typed=True, save_every_s=0.0)
found, _ = evaluate_candidate(candidate(), data, out=sys.argv[1], settings=settings)
told = found.to_dict()
del told["seconds"]
Path(sys.argv[1], "told.json").write_text(json.dumps([told, found.records]))
"""


def start(out: Path) -> subprocess.Popen[bytes]:
    here = Path(__file__).parent
    paths = [str(here), str(here.parent), str(Path(blemish.__file__).parents[1])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-c", EVALUATE, str(out)], env=environment, stderr=subprocess.PIPE)


def finish(process: subprocess.Popen[bytes]) -> None:
    _, errors = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0, errors.decode()


def told(out: Path) -> Any:
    return json.loads((out / "told.json").read_text(encoding="utf-8"))


def wait_for(process: subprocess.Popen[bytes], out: Path, chunks: int) -> None:
    """Waits until so many batches are recorded, or the process has ended."""
    deadline = time.monotonic() + LIMIT_S
    while process.poll() is None and time.monotonic() < deadline:
        if sum(file.read_bytes().count(b"\n") for file in out.glob("*/images.jsonl")) >= 2 * chunks:
            return
        time.sleep(0.002)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no SIGKILL on this system")
def test_kills_at_random_moments_change_no_number(tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    finish(start(whole))
    chance = random.Random(0)
    kills = 0
    for chunks in (0, 3, 9, 15, 21):
        process = start(broken)
        wait_for(process, broken, chunks)
        time.sleep(chance.uniform(0, 0.1))
        process.kill()
        process.communicate(timeout=LIMIT_S)
        kills += process.returncode == -signal.SIGKILL
    finish(start(broken))
    assert kills > 2
    assert told(broken) == told(whole)
    assert not list(broken.rglob(".*.tmp"))
