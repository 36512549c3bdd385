"""Inspection of photos of 512 px with each engine, end to end from the file to regions: processor and wall time an image.

`python -m benchmarks.engines_inspect`: every engine in a process of its own inspects eight rendered pictures (or those of
`--photos`) in turn, round by round; medians. `--before SRC` also runs the package of another checkout, with torch. Nothing is
written.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

PHOTOS, SIDE_PX = 8, 512
VARIANTS: dict[str, dict[str, Any]] = {
    "torch": {},
    "openvino": {"engine": "openvino"},
    "onnxruntime": {"engine": "onnxruntime"},
    "torch half": {"precision": "half"},
    "openvino half": {"engine": "openvino", "precision": "half"},
}
BEFORE = "before"


def make_photos(folder: Path, photos: Path | None) -> Path:
    """A folder of JPEG photos."""
    from PIL import Image

    from blemish.synthesis import render

    made = folder / "photos"
    made.mkdir()
    files = [] if photos is None else sorted(file for file in photos.rglob("*") if file.suffix in (".jpg", ".png"))
    for index in range(PHOTOS):
        if files:
            image = Image.open(files[index * len(files) // PHOTOS]).convert("RGB").resize((SIDE_PX, SIDE_PX))
        else:
            image = Image.fromarray(render(71_000_000 + index, size_px=SIDE_PX).image)
        image.save(made / f"{index:03d}.jpg", quality=92)
    return made


def child(settings: str, photos: str) -> None:
    """Inspects the photos once for each line, and answers with the seconds of the processor and of the clock an image."""
    import blemish

    paths = sorted(Path(photos).iterdir())
    inspector = blemish.load(**json.loads(settings))
    list(inspector.inspect(iter(paths)))
    print("ready", flush=True)
    for _ in sys.stdin:
        cpu, wall = time.process_time(), time.perf_counter()
        list(inspector.inspect(iter(paths)))
        print((time.process_time() - cpu) / len(paths), (time.perf_counter() - wall) / len(paths), flush=True)


class Worker:
    """A process that inspects with one engine."""

    def __init__(self, settings: dict[str, Any], photos: Path, environment: dict[str, str]) -> None:
        command = [sys.executable, str(Path(__file__)), "--child", json.dumps(settings), str(photos)]
        self.process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.rounds: list[tuple[float, float]] = []
        self._line()

    def run(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        cpu, wall = map(float, self._line().split())
        self.rounds.append((1e3 * cpu, 1e3 * wall))

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(60)

    def _line(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("a worker ended before it answered")
        return line


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engines_inspect", description=__doc__)
    parser.add_argument("--input-px", type=int, default=320)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--photos", type=Path, help="a folder of images in place of rendered ones")
    parser.add_argument("--before", type=Path, metavar="SRC", help="the folder src of another checkout")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(*arguments.child)
        return
    variants = {name: VARIANTS[name] for name in arguments.variants}
    if arguments.before:
        variants = {BEFORE: {}, **variants}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        photos = make_photos(folder, arguments.photos)
        environment = {**os.environ, "BLEMISH_HOME": str(folder / "home"), "OMP_NUM_THREADS": str(arguments.threads)}
        workers = {}
        for variant, settings in variants.items():
            own = environment | ({"PYTHONPATH": str(arguments.before)} if variant == BEFORE else {})
            workers[variant] = Worker({**settings, "input_px": arguments.input_px}, photos, own)
        load = os.getloadavg()[0]
        for number in range(arguments.rounds):
            for worker in workers.values():
                worker.run()
            now = ", ".join(f"{variant} {worker.rounds[-1][0]:.0f}" for variant, worker in workers.items())
            print(f"round {number + 1}, CPU ms an image: {now}", file=sys.stderr, flush=True)
        for worker in workers.values():
            worker.close()
    print(
        f"{arguments.input_px} px, threads: {arguments.threads}, load of the machine: {load:.1f}, {os.getloadavg()[0]:.1f}"
    )
    print(
        "| engine | CPU ms an image | lowest | wall ms | images/s | CPU, times as fast as the first |\n|" + "---|" * 6
    )
    first = 0.0
    for variant, worker in workers.items():
        cpu, wall = (statistics.median(values) for values in zip(*worker.rounds, strict=True))
        lowest = min(values[0] for values in worker.rounds)
        first = first or cpu
        print(
            f"| {variant} | {cpu:.0f} | {lowest:.0f} | {wall:.0f} | {1e3 / wall:.1f} | {first / cpu:.2f} |", flush=True
        )


if __name__ == "__main__":
    main()
