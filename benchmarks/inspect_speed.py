"""Images per second of `blemish inspect` with the embedded model and default outputs, and the time of `blemish --help`.

`python -m benchmarks.inspect_speed`: 200 rendered images of up to 512 px (half JPEG, half PNG) and 20 of them are inspected in
turn, each in a process of its own; what the 180 more take is the steady state, the rest is start-up. Medians over the rounds.
`--peers` also compares each image with 64 of them, in turn with the same images alone.
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
    parser.add_argument("--input-px", default=None, help="the model's own by default")
    parser.add_argument(
        "--peers", action="store_true", help="in turn also with each image beside 64 of them (docs/references.md)"
    )
    arguments = parser.parse_args()
    environment = {**os.environ, "OMP_NUM_THREADS": str(arguments.threads)}
    blemish = [sys.executable, "-m", "blemish"]
    options = ["--quiet"]
    for name in ("method", "backbone", "input_px"):
        if value := getattr(arguments, name):
            options += [f"--{name.replace('_', '-')}", value]
    rates: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        many, few = make_images(folder)
        ways = {"alone": ["--peers", "off"], **({"with peers": ["--peers", str(many)]} if arguments.peers else {})}
        for number in range(arguments.rounds):
            print(f"round {number + 1}: --help {seconds([*blemish, '--help'], environment):.2f} s")
            for way, more in ways.items():
                own, out = [*options, *more], folder / f"{way}-{number}"
                short = seconds([*blemish, "inspect", few, *own, "--out", out / "few"], environment)
                long = seconds([*blemish, "inspect", many, *own, "--out", out / "many"], environment)
                rate = (MANY - FEW) / (long - short)
                rates.setdefault(way, []).append(rate)
                print(f"  {way}: {rate:.1f} images/s, start-up {short - FEW / rate:.1f} s", flush=True)
    medians = {way: statistics.median(own) for way, own in rates.items()}
    print("median: " + ", ".join(f"{way} {rate:.1f} images/s" for way, rate in medians.items()))


if __name__ == "__main__":
    main()
