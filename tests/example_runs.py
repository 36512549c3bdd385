"""A finished run to export: three images with regions of two types, a clean one, a turned one and a broken one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from blemish.images import find_images, save
from blemish.runs.folder import ResultsFolder
from blemish.runs.header import header_of
from blemish.runs.reading import Run, read_run
from blemish.runs.run import inspect_images
from fakes import darkness_inspector


def make_run(folder: Path, *, keep_maps: bool = False) -> Run:
    """The run in folder/run of the images in folder/parts."""
    parts = folder / "parts"
    for name, boxes in {
        "clean.png": [],
        "left.jpg": [(20, 20, 70, 60)],
        "sub/two.png": [(10, 10, 60, 50), (100, 60, 150, 110)],
    }.items():
        pixels = np.full((120, 160, 3), 255, np.uint8)
        for x0, y0, x1, y1 in boxes:
            pixels[y0:y1, x0:x1] = 10
        save(pixels, parts / name)
    turned = np.full((120, 160), 255, np.uint8)
    turned[:40, :40] = 0
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(turned).save(parts / "turned.jpg", exif=exif)
    (parts / "broken.png").write_text("text")
    inspector = darkness_inspector()
    with ResultsFolder(folder / "run", header_of(inspector), keep_maps=keep_maps) as results:
        inspect_images(inspector, find_images(parts), results)
    return read_run(folder / "run")
