"""The contact sheet: the worst overlays on one picture, also of a run that was cut off."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from blemish.errors import UsageError
from blemish.images import save
from blemish.reports.sheet import write_contact_sheet

WORDS = {"verdict": "ng", "top_type": "scratch"}


def results(folder: Path, *, tail: bytes = b"") -> Path:
    """A folder with a drawn image, one without a picture, and one whose picture is missing."""
    save(np.full((30, 40, 3), 200, np.uint8), folder / "overlays" / "a.png")
    overlays = {"overlays/a.png": 0.5, None: 0.9, "overlays/missing.jpg": 0.7}
    lines = [
        json.dumps({"source": "a.png", "overlay": overlay, "image_score": score, **WORDS}) + "\n"
        for overlay, score in overlays.items()
    ]
    (folder / "results.jsonl").write_bytes("".join(lines).encode() + tail)
    return folder


@pytest.mark.parametrize("tail", [b"", b'{"overlay": "overlays/a', '{"overlay": "ü'.encode()[:-1], b"{}"])
def test_a_sheet_shows_what_is_whole(tail: bytes, tmp_path: Path) -> None:
    sheet = write_contact_sheet(results(tmp_path / "out", tail=tail), tmp_path / "sheet.png")
    with Image.open(sheet) as image:
        assert image.width < 300  # one cell


def test_a_folder_without_results_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"holds no results\.jsonl"):
        write_contact_sheet(tmp_path, tmp_path / "sheet.png")
