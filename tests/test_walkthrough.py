"""A new user's walk, from good images to other tools' files, as it is printed; real solar cells where they are installed."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path

import pytest

from blemish.data.synthetic import NORMAL, render
from blemish.images import save

PAGE = Path(__file__).parents[1] / "docs" / "walkthrough.md"
LIMIT_S = 600


def render_parts(folder: Path) -> None:
    """What stands for the cells where elpv-dataset is not installed."""
    for number in range(80):
        kind = NORMAL if number < 70 else "scratch"
        name = f"{'good' if number < 60 else 'parts'}/{number}.png"
        save(render(61_000_000 + number, size_px=256, defect_type=kind).image, folder / name)


@pytest.mark.slow
@pytest.mark.filterwarnings("default:elpv-dataset")
@pytest.mark.timeout(4 * LIMIT_S)
def test_the_walkthrough_runs_as_printed(tmp_path: Path) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("the commands need bash, which this machine does not have")
    blocks = re.findall(r"```(bash|python)\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    if find_spec("elpv_dataset") is None:
        warnings.warn("elpv-dataset is not installed: the walk goes over rendered parts", stacklevel=1)
        render_parts(tmp_path)
        blocks = [block for block in blocks if block[0] == "bash"]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    for language, block in blocks:
        done = subprocess.run(
            [bash, "-euc", block] if language == "bash" else [sys.executable, "-c", block],
            cwd=tmp_path,
            env={**os.environ, "PATH": path},
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
    count = len(list((tmp_path / "parts").iterdir()))
    run = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))
    assert sum(run["counts"].values()) == count
    assert run["thresholds"]["calibration"] == "calibrated"
    assert len(json.loads((tmp_path / "coco.json").read_text(encoding="utf-8"))["images"]) == count
    assert len(list((tmp_path / "yolo" / "labels").iterdir())) == count
    assert (tmp_path / "report.html").stat().st_size > 100_000
