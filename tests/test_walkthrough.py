"""A new user's walk, from good images to other tools' files, as it is printed; real solar cells where they are installed."""

from __future__ import annotations

import json
import warnings
from importlib.util import find_spec
from pathlib import Path

import pytest

from blemish.images import save
from blemish.synthesis import NORMAL, render
from printed import blocks_of, run_blocks

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
    blocks = blocks_of(PAGE)
    if find_spec("elpv_dataset") is None:
        warnings.warn("elpv-dataset is not installed: the walk goes over rendered parts", stacklevel=1)
        render_parts(tmp_path)
        blocks = [block for block in blocks if block[0] == "bash"]
    run_blocks(blocks, tmp_path, limit_s=LIMIT_S)
    count = len(list((tmp_path / "parts").iterdir()))
    run = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))
    assert sum(run["counts"].values()) == count
    assert run["thresholds"]["calibration"] == "calibrated"
    assert len(json.loads((tmp_path / "coco.json").read_text(encoding="utf-8"))["images"]) == count
    assert len(list((tmp_path / "yolo" / "labels").iterdir())) == count
    assert (tmp_path / "report.html").stat().st_size > 100_000
