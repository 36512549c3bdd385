"""A contact sheet of a data set: some images of every product and type, with the outlines of their masks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from blemish import images
from blemish.data.samples import Sample
from blemish.errors import ImageError
from blemish.maps import dilate

__all__ = ["chosen", "write_sheet"]

MOST_IMAGES = 48
COLUMNS = 8
CELL_PX, CAPTION_PX, GAP_PX, FONT_PX = 200, 30, 6, 11
PAPER, INK, OUTLINE = (250, 250, 248), (24, 24, 28), (230, 20, 120)
CAPTION_LETTERS = 32


def write_sheet(samples: Sequence[Sample], path: Path) -> Path:
    """The chosen samples as one picture at `path`; its path. What cannot be read is left out."""
    cells = [cell for sample in chosen(samples) if (cell := _cell(sample)) is not None]
    columns = max(1, min(COLUMNS, len(cells)))
    rows = max(1, -(-len(cells) // columns))
    width, height = CELL_PX + GAP_PX, CELL_PX + CAPTION_PX + GAP_PX
    sheet = Image.new("RGB", (columns * width + GAP_PX, rows * height + GAP_PX), PAPER)
    for index, cell in enumerate(cells):
        sheet.paste(cell, (GAP_PX + index % columns * width, GAP_PX + index // columns * height))
    return images.save(sheet, path)


def chosen(samples: Iterable[Sample], *, most: int = MOST_IMAGES) -> list[Sample]:
    """Up to `most` samples, of each product and folder in turn one more, spread over what the folder holds."""
    groups: dict[tuple[str, str, str], list[Sample]] = {}
    for sample in samples:
        groups.setdefault((sample.product, sample.folder, sample.defect_type), []).append(sample)
    rounds = max(1, most // max(1, len(groups)))
    picked = [
        [group[index * len(group) // rounds] for index in range(rounds)] if len(group) > rounds else group
        for group in groups.values()
    ]
    return [sample for group in picked for sample in group][:most]


def _cell(sample: Sample) -> Image.Image | None:
    try:
        pixels = sample.picture().pixels
        mask = sample.mask() if sample.anomalous else None
    except ImageError:
        return None
    if pixels.dtype != np.uint8:
        pixels = (pixels * 255).astype(np.uint8)
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    picture.thumbnail((CELL_PX, CELL_PX), Image.Resampling.LANCZOS)
    if mask is not None:
        picture = Image.fromarray(_outlined(np.array(picture), mask))
    cell = Image.new("RGB", (CELL_PX, CELL_PX + CAPTION_PX), PAPER)
    cell.paste(picture, ((CELL_PX - picture.width) // 2, (CELL_PX - picture.height) // 2))
    kind = sample.defect_type or sample.folder or ("anomalous" if sample.anomalous else "normal")
    lines = (f"{sample.product}: {kind}", sample.name[-CAPTION_LETTERS:])
    text = "\n".join(line[:CAPTION_LETTERS] for line in lines)
    ImageDraw.Draw(cell).text((0, CELL_PX + 2), text, fill=INK, font=ImageFont.load_default(FONT_PX), spacing=1)
    return cell


def _outlined(pixels: NDArray[np.uint8], mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """The picture [h, w, 3] with the outline of a mask [H, W] of the size before it was made small."""
    height, width = pixels.shape[:2]
    small = np.zeros((height, width), bool)
    rows, columns = np.nonzero(mask)  # any pixel counts: a thin crack must not vanish
    small[rows * height // mask.shape[0], columns * width // mask.shape[1]] = True
    pixels[dilate(small, 1) & ~small] = OUTLINE
    return pixels
