"""Photos of materials that the renderer may cut surfaces from: ground, rock, sand, paving, snow, wood, grass.

`python -m recipes.embedded.photos PUBLIC_ZIP --out training-cache/photos` takes them out of the Debian package 0ad-data (its
file usr/share/games/0ad/mods/public/public.zip; Wildfire Games, CC BY-SA 3.0). They are used for training alone and never ship;
every eighth is held out.
"""

from __future__ import annotations

import argparse
import io
import zipfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from blemish.errors import UsageError
from blemish.images import save

FOLDER = "art/textures/terrain/types/"
NO_MATERIAL = (
    "norm",
    "spec",
    "_ao",
    "mask",
    "parallax",
    "water",
    "lava",
    "grid",
    "test",
)  # maps for rendering, drawings
LEAST_PX, MOST_PX = 512, 1024
HELD_OUT_EVERY = 8


def materials(archive: Path) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Name and pixels [H, W, 3] of every photo of a material in the archive, by name."""
    with zipfile.ZipFile(archive) as files:
        for name in sorted(files.namelist()):
            if not name.startswith(FOLDER) or not name.endswith(".dds"):
                continue
            short = name.removeprefix(FOLDER).split(".")[0].replace("/", "-").replace(" ", "_")
            if any(word in short.lower() for word in NO_MATERIAL):
                continue
            image = Image.open(io.BytesIO(files.read(name))).convert("RGB")
            if min(image.size) >= LEAST_PX:
                image.thumbnail((MOST_PX, MOST_PX))
                yield short, np.asarray(image)


def extract(archive: Path, out: Path) -> tuple[int, int]:
    """Writes out/train and out/held-out; how many are in each."""
    counts = [0, 0]
    for number, (name, pixels) in enumerate(materials(archive)):
        held_out = number % HELD_OUT_EVERY == 0
        save(pixels, out / ("held-out" if held_out else "train") / f"{name}.png")
        counts[held_out] += 1
    return counts[0], counts[1]


@cache
def photos(folder: Path) -> tuple[NDArray[np.uint8], ...]:
    """The photos of a folder, by name. UsageError where there are none."""
    found = tuple(np.asarray(Image.open(path).convert("RGB")) for path in sorted(folder.glob("*.png")))
    if not found:
        raise UsageError(f"{folder}: no photos; python -m recipes.embedded.photos writes them")
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m recipes.embedded.photos", description=__doc__)
    parser.add_argument("archive", type=Path)
    parser.add_argument("--out", type=Path, default=Path("training-cache/photos"))
    arguments = parser.parse_args()
    trained, held_out = extract(arguments.archive, arguments.out)
    print(f"{trained} to train on, {held_out} held out")
