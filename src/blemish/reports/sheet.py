"""A contact sheet: the overlays of a results folder on one picture, the most anomalous first."""

from __future__ import annotations

import heapq
from pathlib import Path

from PIL import Image, ImageDraw

from blemish import images
from blemish.drawing.colours import VERDICT_COLOURS
from blemish.drawing.overlay import Font, font_of
from blemish.errors import UsageError
from blemish.io.run_files import LINES_FILE, PARTS
from blemish.runs.reading import read_records

__all__ = ["write_contact_sheet"]

MOST_IMAGES = 48
COLUMNS = 8
CELL_PX, GAP_PX = 240, 6
FONT_PX, LINE_PX, CAPTION_PX = 13, 17, 38
PAPER, INK = (250, 250, 248), (30, 30, 34)


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
    columns = min(COLUMNS, len(records))
    rows = -(-len(records) // columns)
    across, down = CELL_PX + GAP_PX, CELL_PX + CAPTION_PX + GAP_PX
    sheet = Image.new("RGB", (columns * across + GAP_PX, rows * down + GAP_PX), PAPER)
    draw, font = ImageDraw.Draw(sheet), font_of(FONT_PX)
    for index, record in enumerate(records):
        overlay = Image.fromarray(images.read(results / record["overlay"]).pixels)
        overlay.thumbnail((CELL_PX, CELL_PX), Image.Resampling.LANCZOS)
        left, top = GAP_PX + index % columns * across, GAP_PX + index // columns * down
        sheet.paste(overlay, (left + (CELL_PX - overlay.width) // 2, top + (CELL_PX - overlay.height) // 2))
        colour = VERDICT_COLOURS[record["verdict"]]
        verdict = f"{record['verdict'].upper()} {record['image_score']:.2f}"
        if record["verdict"] != "ok" and record["top_type"]:
            verdict += f"  {record['top_type']}"
        draw.rectangle((left, top + CELL_PX + 2, left + 4, top + CELL_PX + CAPTION_PX - 2), fill=colour)
        for line, text in enumerate((_fitting(Path(record["source"]).name, font), _fitting(verdict, font))):
            draw.text((left + 9, top + CELL_PX + 2 + line * LINE_PX), text, font=font, fill=INK)
    return images.save(sheet, path)


def _fitting(text: str, font: Font) -> str:
    """The text as far as it fits below a picture; the end of a file's name says more than its beginning."""
    text = text.encode("latin-1", "replace").decode("latin-1")  # what the font can write
    if font.getlength(text) <= CELL_PX - 12:
        return text
    while font.getlength(f"...{text}") > CELL_PX - 12:
        text = text[1:]
    return f"...{text}"
