"""What the embedded model finds and what it misses, as a picture.

`python -m benchmarks.found_and_missed docs/images/found-and-missed.png`

Rendered pictures from seeds never trained on, with the backbone's default method and the thresholds of its card. Three rows, each
of the first pictures by seed that belong there: found (NG, and a region on the defect), missed (OK, although the defect is not
faint), and false alarms (good pictures that are NG). Each picture has its heat map below; the outline is the true mask.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

import blemish
from blemish.images import save
from blemish.results import Inspection, Verdict
from blemish.synthesis import HELD_OUT_SEEDS, SyntheticSample, render

CELL_PX, GAP_PX, LABEL_PX = 150, 4, 30
PAPER, INK, OUTLINE = (250, 250, 248), (24, 24, 28), (230, 20, 120)
NOT_FAINT = 0.07  # mean change inside the mask
ROWS = ("found", "missed", "false alarm")


@dataclass(frozen=True)
class Shown:
    """A sample, what the model says of it, and which row it belongs to ("" for none)."""

    sample: SyntheticSample
    inspection: Inspection

    @property
    def row(self) -> str:
        rejected = self.inspection.verdict is Verdict.NG
        if not self.sample.mask.any():
            return "false alarm" if rejected else ""
        if not rejected:
            return "missed" if self.inspection.verdict is Verdict.OK and self.sample.contrast >= NOT_FAINT else ""
        return "found" if (self.inspection.mask() & self.sample.mask).any() else ""


def looked_at(count: int) -> Iterator[Shown]:
    """The held-out pictures with what the model says of them."""
    inspector = blemish.load()
    for seed in range(HELD_OUT_SEEDS, HELD_OUT_SEEDS + count):
        sample = render(seed)
        yield Shown(sample, inspector.inspect(sample.image))


def chosen(shown: Iterator[Shown], *, columns: int) -> dict[str, list[Shown]]:
    """The first of each row; in a row every type once, as long as there are others."""
    rows: dict[str, list[Shown]] = {name: [] for name in ROWS}
    for one in shown:
        row = rows.get(one.row)
        if row is None or len(row) == columns:
            continue
        if one.row != "false alarm" and one.sample.defect_type in {other.sample.defect_type for other in row}:
            continue
        row.append(one)
        if all(len(row) == columns for row in rows.values()):
            break
    return rows


def write_sheet(path: Path, *, columns: int = 8, most: int = 400) -> Path:
    """The sheet as a PNG with a palette at `path`; its path."""
    rows = chosen(looked_at(most), columns=columns)
    tall = 2 * CELL_PX + LABEL_PX + GAP_PX
    sheet = Image.new("RGB", (columns * (CELL_PX + GAP_PX), len(ROWS) * (tall + 20)), PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    for number, (name, row) in enumerate(rows.items()):
        top = number * (tall + 20)
        pen.text((2, top + 2), name.capitalize(), fill=INK, font=font)
        for column, one in enumerate(row):
            x, y = column * (CELL_PX + GAP_PX), top + 20
            sheet.paste(outlined(one.sample), (x, y))
            sheet.paste(heat_map(one.inspection), (x, y + CELL_PX + 2))
            said = one.inspection.top_type or "no type"
            pen.text((x, y + 2 * CELL_PX + 3), one.sample.defect_type, fill=INK, font=font)
            pen.text((x, y + 2 * CELL_PX + 15), f"{one.inspection.image_score:.2f} {said}", fill=INK, font=font)
    return save(sheet.quantize(192, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE), path)


def outlined(sample: SyntheticSample) -> Image.Image:
    pixels, grown = sample.image.copy(), ndimage.binary_dilation(sample.mask, iterations=3)
    pixels[grown & ~ndimage.binary_dilation(sample.mask, iterations=1)] = OUTLINE
    return Image.fromarray(pixels).resize((CELL_PX, CELL_PX), Image.Resampling.LANCZOS)


def heat_map(inspection: Inspection) -> Image.Image:
    grey = Image.fromarray((np.clip(inspection.anomaly_map, 0, 1) * 255).astype(np.uint8))
    return grey.resize((CELL_PX, CELL_PX), Image.Resampling.BILINEAR).convert("RGB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path)
    parser.add_argument("--most", type=int, default=400, help="pictures that are looked at")
    settings = parser.parse_args()
    print(write_sheet(settings.path, most=settings.most))
