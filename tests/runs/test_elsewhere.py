"""A run knows where it was made: pages, exports and new decisions find its images from any folder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import blemish
from blemish.images import save
from fakes import use_darkness


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    use_darkness(monkeypatch)
    monkeypatch.chdir(tmp_path)
    image = np.full((64, 64, 3), 255, np.uint8)
    image[16:32, 16:32] = 0
    save(image, Path("parts") / "a.png")
    blemish.inspect_folder("parts", out="results", keep_maps=True)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    return tmp_path / "results"


def test_exports_find_the_images_of_a_run_from_another_folder(run: Path) -> None:
    blemish.export(run, "coco", out="coco.json")
    assert json.loads(Path("coco.json").read_text())["images"][0]["file_name"] == "a.png"
    blemish.export(run, "yolo-seg", out="yolo")
    assert list(Path("yolo").rglob("*.png"))


def test_the_page_and_a_new_decision_find_them_too(run: Path) -> None:
    page = blemish.report(run).path.read_text(encoding="utf-8")
    assert "../parts/a.png" in page
    assert blemish.rethreshold(run, pixel_threshold=0.3).old_overlays == 0
