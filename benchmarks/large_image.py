"""Time and memory of one large image, alone in a process: `python -m benchmarks.large_image --size 8000x6000 --tiles auto`.

The image is noise with a dark rectangle of 200 x 60 pixels, a PNG; overlay and mask are written. Prints a line.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from blemish import cli
from blemish.images import save


def draw(size: tuple[int, int], path: Path) -> None:
    width, height = size
    noise = np.random.default_rng(0).integers(150, 170, (height, width, 1), dtype=np.uint8)
    image = np.repeat(noise, 3, axis=2)
    image[height // 3 : height // 3 + 60, width // 2 : width // 2 + 200] = 20
    save(image, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="8000x6000", help="width x height in pixels")
    parser.add_argument("--tiles", default="auto", help="as blemish inspect --tiles")
    parser.add_argument("--method", default="ensemble")
    options = parser.parse_args()
    width, height = (int(side) for side in options.size.split("x"))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.png"
        draw((width, height), path)
        began, used = time.perf_counter(), time.process_time()
        chosen = ["--method", options.method, "--tiles", options.tiles]
        code = cli.main(["inspect", str(path), *chosen, "--out", f"{folder}/out", "--quiet"])
        wall_s, processor_s = time.perf_counter() - began, time.process_time() - used
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # kilobytes on Linux; drawing takes less
    print(
        f"{width} x {height}, tiles {options.tiles}: exit code {code}, {wall_s:.1f} s ({processor_s:.1f} s of processor time), "
        f"{peak_mb:,.0f} MB at most"
    )


if __name__ == "__main__":
    main()
