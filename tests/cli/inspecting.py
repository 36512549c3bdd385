"""A folder of parts, and what `inspect` prints of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blemish.images import save


def write_parts(folder: Path) -> Path:
    """Fills a folder with an OK, a REVIEW and an NG image."""
    save(np.full((60, 80, 3), 255, np.uint8), folder / "ok.png")
    save(np.full((60, 80, 3), 140, np.uint8), folder / "sub" / "review.png")
    dark = np.full((60, 80, 3), 255, np.uint8)
    dark[10:40, 10:40] = 0
    save(dark, folder / "sub" / "ng.jpg")
    return folder


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1, captured.err
    return captured.err
