"""What a user gets by pip: a wheel that installs into an empty environment and inspects offline with its own model."""

from __future__ import annotations

import json
import os
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from blemish import images
from blemish.synthesis import render
from commands import run

ROOT = Path(__file__).parents[1]
MODEL = "blemish/models/embedded/"
LIMIT_S = 400


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        folder,
        ROOT,
        cwd=folder,
        limit_s=LIMIT_S,
    )
    (built,) = folder.glob("*.whl")
    return built


@pytest.mark.timeout(2 * LIMIT_S)
def test_the_wheel_holds_the_model_the_licences_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        sizes = {entry.filename: entry.file_size for entry in archive.infolist()}
    assert {f"{MODEL}model.safetensors", f"{MODEL}config.json", f"{MODEL}card.json"} <= set(sizes)
    assert sum(size for name, size in sizes.items() if name.startswith("blemish/models/")) <= 40 * 10**6
    assert {Path(name).name for name in sizes} >= {"LICENSE", "NOTICE", "py.typed", "general.toml", "catalog.toml"}
    top = {name.split("/")[0] for name in sizes}
    assert top <= {"blemish", *(name for name in top if name.endswith(".dist-info"))}


@pytest.mark.timeout(3 * LIMIT_S)
def test_the_wheel_inspects_in_a_clean_environment(wheel: Path, tmp_path: Path) -> None:
    home = tmp_path / "environment"
    venv.create(home, with_pip=True)
    binaries = home / ("Scripts" if os.name == "nt" else "bin")
    pip = (binaries / "python", "-m", "pip", "--disable-pip-version-check", "-q", "install")
    run(*pip, "-c", ROOT / "constraints.txt", wheel, cwd=tmp_path, limit_s=LIMIT_S)
    for seed in (1, 2):
        images.save(render(seed, size_px=160).image, tmp_path / "photos" / f"{seed}.png")
    run(binaries / "blemish", "inspect", "photos", "--out", "results", "--quiet", cwd=tmp_path, limit_s=LIMIT_S)
    lines = (tmp_path / "results" / "results.jsonl").read_text(encoding="utf-8").splitlines()
    assert [Path(json.loads(line)["source"]).name for line in lines] == ["1.png", "2.png"]
    assert all(0 <= json.loads(line)["image_score"] <= 1 for line in lines)
    assert len(list((tmp_path / "results" / "overlays").glob("*.jpg"))) == 2
