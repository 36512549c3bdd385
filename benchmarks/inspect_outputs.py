"""What writing results costs `blemish inspect`, and whether its memory stays flat.

`python -m benchmarks.inspect_outputs`: first 2,000 images of 256 px are inspected with the embedded model, everything written
that a run writes by default (records, regions, JPEG overlays, 1-bit masks; in two background threads), and the highest memory of
the process so far is noted on the way. Then rendered images of each size are inspected twice a round, in turn: once written so,
once with nothing written. The added share of the wall time is the median of the rounds'; beside it the added processor time,
which others on the machine disturb less. Wall times of a busy machine say little: run it alone.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import torch

from blemish import images
from blemish.images import FoundImage
from blemish.inspection import load as loading
from blemish.inspection.inspector import Inspected, Inspector
from blemish.runs.folder import ResultsFolder
from blemish.runs.header import header_of
from blemish.runs.names import output_names
from blemish.synthesis import render

SIZES_PX = (256, 512, 1024, 2048)
RENDERED = 8
MANY = 2000


def make_images(folder: Path, size_px: int, count: int) -> list[FoundImage]:
    """So many JPEG files of this size, eight of them rendered and the others links to those."""
    found = []
    for number in range(count):
        path = folder / str(size_px) / f"{number:04d}.jpg"
        if number < RENDERED:
            images.save(render(80_000_000 + number, size_px=min(size_px, 512)).image, path)
            if size_px > 512:
                picture = images.read(path).pixels.repeat(size_px // 512, 0).repeat(size_px // 512, 1)
                images.save(picture.astype("uint8"), path)
        else:
            path.symlink_to(folder / str(size_px) / f"{number % RENDERED:04d}.jpg")
        found.append(FoundImage(path, path.parent))
    return found


def inspect(
    inspector: Inspector, found: Sequence[FoundImage], out: Path | None, memory: list[float] | None = None
) -> None:
    """Inspects the images, and writes the results where `out` is given; notes the highest memory so far after each, in MiB."""
    paths, names = [image.path for image in found], output_names(found)
    if out is None:
        for _ in inspector.stream(paths):
            pass
        return
    with ResultsFolder(out, header_of(inspector)) as results:
        for name, outcome in zip(names, inspector.stream(paths), strict=True):
            assert isinstance(outcome, Inspected)
            results.add(outcome, name)
            if memory is not None:
                memory.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def seconds(inspector: Inspector, found: Sequence[FoundImage], out: Path | None) -> tuple[float, float]:
    """Wall and processor time of `inspect`."""
    wall, busy = time.perf_counter(), time.process_time()
    inspect(inspector, found, out)
    return time.perf_counter() - wall, time.process_time() - busy


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.inspect_outputs", description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--images", type=int, default=24, help="of each size in a round")
    parser.add_argument("--many", type=int, default=MANY, help="images of the memory run; 0 leaves it out")
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES_PX, help="in pixels")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    inspector = loading.load()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.many:
            memory: list[float] = []
            started = time.perf_counter()
            inspect(inspector, make_images(folder / "many", 256, options.many), folder / "out-many", memory)
            took = time.perf_counter() - started
            marks = [memory[min(len(memory) - 1, round(share * (len(memory) - 1)))] for share in (0.1, 0.25, 0.5, 1.0)]
            print(
                f"{options.many} images of 256 px in {took:.0f} s; highest memory so far after a tenth, a quarter, a half, "
                f"all: {', '.join(f'{mark:.0f}' for mark in marks)} MiB"
            )
        for size_px in options.sizes:
            found = make_images(folder, size_px, options.images)
            inspect(inspector, found[:RENDERED], None)  # warms up
            bare, written = [], []
            for number in range(options.rounds):
                bare.append(seconds(inspector, found, None))
                written.append(seconds(inspector, found, folder / f"out-{size_px}-{number}"))
            wall = [one[0] / other[0] - 1 for one, other in zip(written, bare, strict=True)]
            busy = [one[1] - other[1] for one, other in zip(written, bare, strict=True)]
            print(
                f"{size_px} px: {len(found) / median(one[0] for one in bare):.1f} images/s without files, "
                f"{len(found) / median(one[0] for one in written):.1f} with them; writing adds {100 * median(wall):.0f} % "
                f"(rounds: {', '.join(f'{100 * share:.0f}' for share in sorted(wall))}); "
                f"of processor time {1000 * median(busy) / len(found):.0f} ms an image to "
                f"{1000 * median(one[1] for one in bare) / len(found):.0f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
