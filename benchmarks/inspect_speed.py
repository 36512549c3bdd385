"""Images per second of `blemish inspect` with the embedded model and default outputs, and the time of `blemish --help`.

`python -m benchmarks.inspect_speed`: 200 rendered images of up to 512 px (half JPEG, half PNG) and 20 of them are inspected in
turn, each in a process of its own; what the 180 more take is the steady state, the rest is start-up. Medians over the rounds.
Two threads, as on the two cores that the goal of 10 images/s is set for.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from blemish import images
from blemish.synthesis import render

MANY, FEW, RENDERED = 200, 20, 64
SIZES_PX = (256, 384, 448, 512)


def make_images(folder: Path) -> tuple[Path, Path]:
    """Two folders: all the images, and the first few of them. Sixty-four pictures are rendered, others are these, turned."""
    many, few = folder / "many", folder / "few"
    rendered = [render(70_000_000 + number, size_px=SIZES_PX[number % 4]).image for number in range(RENDERED)]
    for index in range(MANY):
        path = many / f"{index:03d}.{'jpg' if index % 2 else 'png'}"
        images.save(np.rot90(rendered[index % RENDERED], index // RENDERED), path)
        if index < FEW:
            few.mkdir(exist_ok=True)
            shutil.copyfile(path, few / path.name)
    return many, few


def seconds(command: Sequence[str | Path], environment: dict[str, str]) -> float:
    started = time.perf_counter()
    subprocess.run([str(word) for word in command], check=True, env=environment, timeout=600, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.inspect_speed", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--method", default=None, help="a method that ships; the backbone's own by default")
    parser.add_argument("--backbone", default=None, help="a folder or a name; embedded by default")
    parser.add_argument(
        "--peers", action="store_true", help="compare each image with 64 of them, too (docs/references.md)"
    )
    arguments = parser.parse_args()
    environment = {**os.environ, "OMP_NUM_THREADS": str(arguments.threads)}
    blemish = [sys.executable, "-m", "blemish"]
    options = ["--quiet", *(["--method", arguments.method] if arguments.method else [])]
    options += ["--backbone", arguments.backbone] if arguments.backbone else []
    rates, startups, helps = [], [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        many, few = make_images(folder)
        options += ["--peers", str(many)] if arguments.peers else []
        for number in range(arguments.rounds):
            helps.append(seconds([*blemish, "--help"], environment))
            short = seconds([*blemish, "inspect", few, *options, "--out", folder / f"few-{number}"], environment)
            long = seconds([*blemish, "inspect", many, *options, "--out", folder / f"many-{number}"], environment)
            rates.append((MANY - FEW) / (long - short))
            startups.append(short - FEW / rates[-1])
            print(
                f"round {number + 1}: {rates[-1]:.1f} images/s, start-up {startups[-1]:.1f} s, --help {helps[-1]:.2f} s"
            )
    median = statistics.median
    print(f"median: {median(rates):.1f} images/s, start-up {median(startups):.1f} s, --help {median(helps):.2f} s")


if __name__ == "__main__":
    main()
