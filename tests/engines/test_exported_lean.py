"""An exported folder in a new environment, without torch and without the source of the project: the verdicts of torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path

import pytest

from blemish.images import save
from blemish.io.run_files import LINES_FILE
from blemish.synthesis import HELD_OUT_SEEDS, render

ROOT = Path(__file__).parents[2]
PICTURES, FIRST_SEED = 8, HELD_OUT_SEEDS + 1_700_000
LIMIT_S = 600  # of each command
LARGEST_DIFFERENCE = 1e-4  # of an image score


def run(words: Sequence[object], *, folder: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        [str(word) for word in words],
        cwd=folder,
        env=environment,
        timeout=LIMIT_S,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def results(folder: Path) -> dict[str, tuple[float, str]]:
    """Image score and verdict by the name of the image."""
    records = [json.loads(line) for line in (folder / LINES_FILE).read_text(encoding="utf-8").splitlines()]
    return {Path(record["source"]).name: (record["image_score"], record["verdict"]) for record in records}


@pytest.mark.slow
def test_an_exported_folder_gives_the_same_verdicts_without_torch(tmp_path: Path) -> None:
    for number in range(PICTURES):
        save(render(FIRST_SEED + number, size_px=320).image, tmp_path / "photos" / f"{number}.png")
    blemish = [sys.executable, "-m", "blemish"]
    run([*blemish, "export-model", "--out", "part-model", "--quiet"], folder=tmp_path)
    run([*blemish, "inspect", "photos", "--peers", "off", "--out", "with-torch", "--quiet"], folder=tmp_path)

    venv.create(tmp_path / "lean", with_pip=True)
    python = tmp_path / "lean" / "bin" / "python"
    pip = [python, "-m", "pip", "--disable-pip-version-check", "install", "-q"]
    run([*pip, "--no-deps", ROOT], folder=tmp_path)
    run([*pip, "-c", ROOT / "constraints.txt", "-r", "part-model/requirements.txt"], folder=tmp_path)
    found = run([python, "-c", "import importlib.util as u; print(u.find_spec('torch'))"], folder=tmp_path)
    assert found.strip() == "None"
    lean = [python, "-m", "blemish", "inspect", "photos", "--backbone", "part-model", "--peers", "off"]
    run([*lean, "--out", "without-torch", "--quiet"], folder=tmp_path)

    with_torch, without_torch = results(tmp_path / "with-torch"), results(tmp_path / "without-torch")
    assert len(with_torch) == PICTURES
    assert len({verdict for _, verdict in with_torch.values()}) > 1  # else equal verdicts would say little
    assert with_torch.keys() == without_torch.keys()
    for name, (score, verdict) in with_torch.items():
        assert without_torch[name][1] == verdict
        assert abs(without_torch[name][0] - score) <= LARGEST_DIFFERENCE
