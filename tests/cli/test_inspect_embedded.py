"""`blemish inspect` as a user runs it: its own process, the embedded model, no network."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from blemish.images import save

pytestmark = pytest.mark.skipif(
    not (resources.files("blemish") / "models" / "embedded" / "model.safetensors").is_file(),
    reason="the embedded model is not in this checkout",
)


def blemish(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "blemish", "inspect", *map(str, arguments)],
        cwd=cwd,
        check=False,
        capture_output=True,
        text=True,
        timeout=240,
    )


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    """Two brushed plates, one with a hole and a deep scratch."""
    rng = np.random.default_rng(0)
    good = (150 + 12 * rng.standard_normal((1, 240)).repeat(200, axis=0) + rng.normal(0, 3, (200, 240))).clip(0, 255)
    bad = good.copy()
    y, x = np.mgrid[:200, :240]
    bad[(y - 70) ** 2 + (x - 90) ** 2 < 18**2] = 10
    bad[abs(y - x * 0.4 - 60) < 2] = 250
    save(good.astype(np.uint8), tmp_path / "parts" / "good.png")
    save(bad.astype(np.uint8), tmp_path / "parts" / "bad.png")
    return tmp_path / "parts"


def test_a_folder_is_inspected_and_the_worse_part_scores_higher(parts: Path, tmp_path: Path) -> None:
    (parts / "text.png").write_text("no image")
    result = blemish(parts, "--defects", "scratch, hole", "--out", "out", cwd=tmp_path)
    assert result.returncode == 3, result.stderr
    said = [
        line for line in result.stderr.splitlines() if not line.endswith("images/s")
    ]  # a slow machine says how far it is
    assert len(said) == 1
    assert "uncalibrated" in result.stdout
    lines = (tmp_path / "out" / "results.jsonl").read_text(encoding="utf-8").splitlines()
    bad, good, unreadable = (json.loads(line) for line in lines)
    assert unreadable["source"].endswith("text.png")
    assert bad["image_score"] > good["image_score"]
    assert list(bad["types"]) == ["scratch", "hole"]
    for record in (bad, good):
        assert (tmp_path / "out" / record["overlay"]).is_file()
        assert (tmp_path / "out" / record["mask"]).is_file()


def test_json_lines_are_all_that_is_on_stdout(parts: Path, tmp_path: Path) -> None:
    result = blemish(parts, "--json", "--threshold", "0.0", "--fail-on", "ng", cwd=tmp_path)
    assert result.returncode == 4, result.stderr
    assert [json.loads(line)["verdict"] for line in result.stdout.splitlines()] == ["ng", "ng"]


@pytest.mark.parametrize(
    ("option", "name", "nearest"), [("--backbone", "embeded", "embedded"), ("--method", "ensembel", "ensemble")]
)
def test_unknown_names_suggest_the_nearest(parts: Path, tmp_path: Path, option: str, name: str, nearest: str) -> None:
    result = blemish(parts, option, name, cwd=tmp_path)
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert f"{name!r}; did you mean {nearest!r}?" in result.stderr
