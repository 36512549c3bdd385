"""A contact sheet: the overlays of a results folder on one picture, the most anomalous first."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from blemish import images
from blemish.errors import UsageError
from blemish.io.json_files import read_json_lines
from blemish.io.run_files import LINES_FILE

__all__ = ["write_contact_sheet"]

MOST_IMAGES = 48
COLUMNS = 8
CELL_PX, GAP_PX = 240, 6
PAPER = (250, 250, 248)


def write_contact_sheet(results: Path, path: Path) -> Path:
    """The `MOST_IMAGES` highest-scoring overlays of the folder `results`, as one picture at `path`; its path.

    What an interrupted run has not finished is left out. UsageError where the folder holds no results.
    """
    lines = results / LINES_FILE
    if not lines.is_file():
        raise UsageError(f"{results}: holds no {LINES_FILE}")
    drawn = [
        record for record in read_json_lines(lines) if record["overlay"] and (results / record["overlay"]).is_file()
    ]
    records = sorted(drawn, key=lambda record: -record["image_score"])[:MOST_IMAGES]
    if not records:
        raise UsageError(f"{results}: holds no overlays")
    columns = min(COLUMNS, len(records))
    rows = -(-len(records) // columns)
    step = CELL_PX + GAP_PX
    sheet = Image.new("RGB", (columns * step + GAP_PX, rows * step + GAP_PX), PAPER)
    for index, record in enumerate(records):
        overlay = Image.fromarray(images.read(results / record["overlay"]).pixels)
        overlay.thumbnail((CELL_PX, CELL_PX), Image.Resampling.LANCZOS)
        left, top = GAP_PX + index % columns * step, GAP_PX + index // columns * step
        sheet.paste(overlay, (left + (CELL_PX - overlay.width) // 2, top + (CELL_PX - overlay.height) // 2))
    return images.save(sheet, path)
