"""What peers change, as a picture: `python -m benchmarks.peers_picture docs/images/peers.png`.

Rendered series that decided nothing, the first by seed: three good pieces of each, five with a defect (outlined), their maps by
the backbone's default method alone, and with all 24 pieces as peers. The verdicts are those of the card's thresholds.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

import blemish
from benchmarks.found_and_missed import CELL_PX, GAP_PX, INK, PAPER, heat_map, outlined
from blemish.images import save
from blemish.synthesis import HELD_OUT_SEEDS, render_series

FIRST_SEED = HELD_OUT_SEEDS + 1_500_000
PIECES, DEFECTIVE, GOOD_SHOWN, DEFECTIVE_SHOWN = 24, 8, 3, 5
TEXT_PX = 18


def write_sheet(path: Path, *, series: int) -> Path:
    """The sheet as a PNG with a palette at `path`; its path."""
    columns, tall = GOOD_SHOWN + DEFECTIVE_SHOWN, 3 * (CELL_PX + GAP_PX) + 2 * TEXT_PX
    sheet = Image.new("RGB", (columns * (CELL_PX + GAP_PX), series * tall), PAPER)
    pen, font, alone = ImageDraw.Draw(sheet), ImageFont.load_default(12), blemish.load()
    for number in range(series):
        pieces = render_series(FIRST_SEED + number, pieces=PIECES, defective=DEFECTIVE)
        among = blemish.load(peers=[piece.image for piece in pieces])
        first_bad = PIECES - DEFECTIVE
        for column, piece in enumerate((*pieces[:GOOD_SHOWN], *pieces[first_bad : first_bad + DEFECTIVE_SHOWN])):
            x, y = column * (CELL_PX + GAP_PX), number * tall
            sheet.paste(outlined(piece), (x, y))
            for row, (inspector, who) in enumerate(((alone, "alone"), (among, "with peers")), start=1):
                found = inspector.inspect(piece.image)
                top = y + row * (CELL_PX + GAP_PX) + (row - 1) * TEXT_PX
                sheet.paste(heat_map(found), (x, top))
                said = f"{who}: {found.image_score:.2f} {found.verdict.value.upper()}"
                pen.text((x, top + CELL_PX + 2), said, fill=INK, font=font)
    return save(sheet.quantize(192, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE), path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path)
    parser.add_argument("--series", type=int, default=4)
    settings = parser.parse_args()
    print(write_sheet(settings.path, series=settings.series))
