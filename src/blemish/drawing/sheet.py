"""A sheet of small pictures in rows, each with a colour and lines of text below it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from blemish.drawing.colours import Colour
from blemish.drawing.overlay import Font, font_of

__all__ = ["SheetCell", "draw_sheet"]

COLUMNS = 8
CELL_PX, GAP_PX = 240, 6
FONT_PX, LINE_PX, CAPTION_PX = 13, 17, 38
PAPER, INK = (250, 250, 248), (30, 30, 34)


@dataclass(frozen=True, eq=False)
class SheetCell:
    """One picture of a sheet."""

    picture: Image.Image  # RGB, of any size; it is made smaller in place
    colour: Colour  # of the bar beside its text
    lines: tuple[str, ...]  # two at most


def draw_sheet(cells: Iterable[SheetCell], *, count: int) -> Image.Image:
    """The sheet of `count` cells, eight in a row, RGB; cells are taken one by one, so that few pictures are in memory."""
    columns = min(COLUMNS, count)
    across, down = CELL_PX + GAP_PX, CELL_PX + CAPTION_PX + GAP_PX
    sheet = Image.new("RGB", (columns * across + GAP_PX, -(-count // columns) * down + GAP_PX), PAPER)
    draw, font = ImageDraw.Draw(sheet), font_of(FONT_PX)
    for index, cell in enumerate(cells):
        cell.picture.thumbnail((CELL_PX, CELL_PX), Image.Resampling.LANCZOS)
        left, top = GAP_PX + index % columns * across, GAP_PX + index // columns * down
        sheet.paste(
            cell.picture, (left + (CELL_PX - cell.picture.width) // 2, top + (CELL_PX - cell.picture.height) // 2)
        )
        draw.rectangle((left, top + CELL_PX + 2, left + 4, top + CELL_PX + CAPTION_PX - 2), fill=cell.colour)
        _write_lines(draw, cell.lines, (left + 9, top + CELL_PX + 2), font)
    return sheet


def _write_lines(draw: ImageDraw.ImageDraw, lines: Sequence[str], place: tuple[int, int], font: Font) -> None:
    for number, text in enumerate(lines):
        draw.text((place[0], place[1] + number * LINE_PX), _fitting(text, font), font=font, fill=INK)


def _fitting(text: str, font: Font) -> str:
    """The text as far as it fits below a picture; the end of a file's name says more than its beginning."""
    text = text.encode("latin-1", "replace").decode("latin-1")  # what the font can write
    if font.getlength(text) <= CELL_PX - 12:
        return text
    while font.getlength(f"...{text}") > CELL_PX - 12:
        text = text[1:]
    return f"...{text}"
