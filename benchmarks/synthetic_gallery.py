"""The contact sheet of docs/synthesize.md: `python -m benchmarks.synthetic_gallery docs/images/synthetic-defects.png`.

Every type at four contrasts on one good picture each, with the outline of its mask at the strongest, and every material.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from blemish.errors import UsageError
from blemish.images import save
from blemish.synthesis import benign
from blemish.synthesis.damage import KINDS
from blemish.synthesis.placing import Drawn, draw_defect
from blemish.synthesis.scenery import MATERIALS, good_subject
from blemish.synthesis.subjects import Subject

__all__ = ["write_gallery"]

CELL_PX, LABEL_PX, GAP_PX = 90, 92, 3
COLOURS = 224
PAPER, INK, OUTLINE = (250, 250, 248), (24, 24, 28), (230, 20, 120)
CONTRASTS = (0.03, 0.08, 0.2)
SIZES = (0.55, 0.95)
MOST_SEEDS = 200
# What each type is shown on, where it can be seen for what it is.
SHOWN_ON = {
    "scratch": "turned metal", "crack": "ceramic", "cut": "leather", "hole": "cast metal", "dent": "plastic",
    "stain": "woven fabric", "discolouration": "wood", "contamination": "paper", "thread": "knitted fabric",
    "missing part": "a circuit board", "burn": "wood", "corrosion": "brushed metal", "bubble": "glass", "chip": "ceramic",
    "break": "tile", "fray": "woven fabric", "uneven": "tile", "bend": "patterned surface", "extra part": "cast metal",
    "misplacement": "a circuit board", "print error": "paper",
}  # fmt: skip
MIDDLING = (0.4, 0.7)  # brightness on which darker and lighter both show


def write_gallery(path: Path) -> Path:
    """The sheet as a PNG with a palette at `path`; its path."""
    half = -(-len(KINDS) // 2)
    columns = len(CONTRASTS) + 1
    wide = LABEL_PX + columns * (CELL_PX + GAP_PX)
    material_columns = (2 * wide) // (CELL_PX + GAP_PX)
    material_rows = -(-len(MATERIALS) // material_columns)
    top = 18
    height = top + half * (CELL_PX + GAP_PX) + 10 + material_rows * (CELL_PX + 16)
    sheet = Image.new("RGB", (2 * wide + 14, height), PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    for index, name in enumerate(KINDS):
        left, row = (index // half) * (wide + 14), index % half
        y = top + row * (CELL_PX + GAP_PX)
        pen.text((left + 2, y + CELL_PX // 2 - 7), name, fill=INK, font=font)
        for column, cell in enumerate(_cells(name)):
            x = left + LABEL_PX + column * (CELL_PX + GAP_PX)
            sheet.paste(cell, (x, y))
            if row == 0:
                said = "mask" if column == len(CONTRASTS) else f"contrast {CONTRASTS[column]:g}"
                pen.text((x, 3), said, fill=INK, font=font)
    top = height - material_rows * (CELL_PX + 16)
    for index, name in enumerate(MATERIALS):
        x, y = index % material_columns * (CELL_PX + GAP_PX) + 2, top + index // material_columns * (CELL_PX + 16)
        subject = good_subject(2 * CELL_PX, np.random.default_rng(40 + index), material=name)
        sheet.paste(_cell(subject.pixels), (x, y))
        pen.text((x, y + CELL_PX), name.removeprefix("a ").removeprefix("an ")[:17], fill=INK, font=font)
    palette = sheet.quantize(COLOURS, Image.Quantize.MEDIANCUT)
    return save(sheet.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG), path)


def _cells(name: str) -> list[Image.Image]:
    """The type at each contrast, and once more with its outline."""
    subject = _shown_on(name)
    for seed in range(MOST_SEEDS):
        drawn = [_drawn(subject, name, seed, contrast) for contrast in CONTRASTS]
        central = all(
            one is not None and 0.3 < min(one.at) / (2 * CELL_PX) < max(one.at) / (2 * CELL_PX) < 0.7 for one in drawn
        )
        if central or (all(drawn) and KINDS[name].where in ("edge", "part")):
            pictures = [one.pixels for one in drawn if one is not None]
            last = drawn[-1]
            assert last is not None  # just looked
            outlined = pictures[-1].copy()
            ring = ndimage.binary_dilation(last.mask, iterations=4) & ~ndimage.binary_dilation(last.mask, iterations=1)
            outlined[ring] = np.array(OUTLINE) / 255
            return [_cell(picture) for picture in (*pictures, outlined)]
    raise UsageError(f"{name} cannot be shown on {SHOWN_ON[name]}")


def _shown_on(name: str) -> Subject:
    """A calm good picture of the type's material, on which both darker and lighter show."""
    for seed in range(MOST_SEEDS):
        rng = np.random.default_rng(seed)
        subject = good_subject(2 * CELL_PX, rng, material=SHOWN_ON[name], plain=True)
        if name == "print error":  # which needs print
            blank = subject.pixels
            subject = replace(subject, pixels=np.clip(benign.printed(blank, rng, grey=subject.grey), 0, 1))
            if (np.abs(subject.pixels - blank).max(-1) > 0.3).mean() < 0.03:
                continue
        if MIDDLING[0] < subject.pixels.mean() < MIDDLING[1] or subject.parts:
            return subject
    raise UsageError(f"no picture of {SHOWN_ON[name]} is neither dark nor bright")


def _drawn(subject: Subject, name: str, seed: int, contrast: float) -> Drawn | None:
    """The same defect for the same seed, whatever its contrast."""
    contrast = min(contrast, KINDS[name].ceiling)
    exact = (0.03, 0.45) if name in ("bend", "misplacement", "missing part") else (contrast, contrast)
    size = (0.85, 1.0) if name in ("break", "fray", "uneven") else SIZES
    return draw_defect(subject, np.random.default_rng(seed), defect_type=name, contrast=exact, size=size)


def _cell(pixels: NDArray[np.floating]) -> Image.Image:
    return Image.fromarray((np.clip(pixels, 0, 1) * 255 + 0.5).astype(np.uint8)).reduce(2)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.synthetic_gallery", description=__doc__)
    parser.add_argument("path", type=Path)
    write_gallery(parser.parse_args().path)
