"""A contact sheet: the overlays of a results folder on one picture, the most anomalous first."""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from blemish import images
from blemish.drawing.colours import VERDICT_COLOURS
from blemish.drawing.sheet import SheetCell, draw_sheet
from blemish.errors import UsageError
from blemish.io.run_files import LINES_FILE, PARTS
from blemish.runs.reading import read_records

__all__ = ["write_contact_sheet"]

MOST_IMAGES = 48


def write_contact_sheet(results: Path, path: Path) -> Path:
    """The `MOST_IMAGES` highest-scoring overlays of the folder `results`, as one picture at `path`; its path.

    Below each stand its file name, verdict, image score and type.

    What an interrupted run has not finished is left out. UsageError where the folder holds no results.
    """
    if not (results / LINES_FILE).is_file() and not (results / PARTS).is_dir():
        raise UsageError(f"{results}: holds no {LINES_FILE}")
    drawn = (
        record for record in read_records(results) if record["overlay"] and (results / record["overlay"]).is_file()
    )
    records = heapq.nlargest(MOST_IMAGES, drawn, key=lambda record: record["image_score"])
    if not records:
        raise UsageError(f"{results}: holds no overlays")
    return images.save(draw_sheet((_cell(results, record) for record in records), count=len(records)), path)


def _cell(results: Path, record: Mapping[str, Any]) -> SheetCell:
    verdict = f"{record['verdict'].upper()} {record['image_score']:.2f}"
    if record["verdict"] != "ok" and record["top_type"]:
        verdict += f"  {record['top_type']}"
    overlay = Image.fromarray(images.read(results / record["overlay"]).pixels)
    return SheetCell(overlay, VERDICT_COLOURS[record["verdict"]], (Path(record["source"]).name, verdict))
