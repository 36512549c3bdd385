"""How surely a profile notices that images have changed: `python -m benchmarks.drift --data ROOT`, the table in docs/profiles.md.

Good images of each real set (measured only: nothing is chosen by it) are dealt at random into a profile's and a run's, many
times. The run's stay as they are, become 10 % brighter, are blurred by a Gaussian of 1 px, or are another set's. Image scores are
left out, so that no model is needed.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from benchmarks.real_sets import SIMULATED, available
from blemish.images import Picture, read
from blemish.profiles.drift import Seen, find_drift
from blemish.profiles.statistics import statistics_of

RUNS = 100
SIZES = ((24, 10), (100, 100))  # images of the profile, and of the run
MOST_IMAGES = 200  # of a set
CHANGES: dict[str, Callable[[NDArray[np.float32]], NDArray[np.float32]]] = {
    "as they are": lambda pixels: pixels,
    "10 % brighter": lambda pixels: (1.1 * pixels).clip(0, 1),
    "blurred by 1 px": lambda pixels: gaussian_filter(pixels, (1, 1, 0)),
}


def seen(paths: Sequence[Path], change: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> list[Seen]:
    """What a test knows of these images, changed."""
    found = []
    for path in paths:
        picture = read(path)
        pixels = change(picture.as_bytes().astype(np.float32) / np.float32(255))
        changed = Picture((255 * pixels + 0.5).astype(np.uint8), picture.source)
        size = (picture.width_px, picture.height_px)
        found.append(Seen(size_px=size, is_deep=False, statistics=statistics_of(changed)))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.drift", description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(), help="the folder with the real sets")
    comparisons, _ = available(parser.parse_args().data)
    good: dict[str, list[Path]] = {}
    for comparison in comparisons:
        if comparison.set_name != SIMULATED:
            paths = [item.path for item in comparison.good]
            chosen = np.random.default_rng(0).permutation(len(paths))[:MOST_IMAGES]
            good.setdefault(comparison.set_name, [paths[number] for number in chosen])
    looks = {name: {what: seen(paths, change) for what, change in CHANGES.items()} for name, paths in good.items()}
    print(f"| set | profile, run | {' | '.join(CHANGES)} | another set |")
    print("|" + "---|" * (3 + len(CHANGES)))
    for name, changed in looks.items():
        count = len(good[name])
        other = next(each["as they are"] for other, each in looks.items() if other != name)
        for profile, size in SIZES:
            if profile + size > count:
                continue
            rng = np.random.default_rng(size)
            found = dict.fromkeys([*CHANGES, "another set"], 0)
            for _ in range(RUNS):
                order = rng.permutation(count)
                usual = [changed["as they are"][number] for number in order[:profile]]
                runs = {
                    what: [each[number] for number in order[profile : profile + size]] for what, each in changed.items()
                }
                runs["another set"] = [other[number] for number in rng.permutation(len(other))[:size]]
                for what, run in runs.items():
                    found[what] += bool(find_drift(run, usual).changed)
            shares = " | ".join(f"{100 * share // RUNS} %" for share in found.values())
            print(f"| {name} | {profile}, {size} | {shares} |", flush=True)


if __name__ == "__main__":
    main()
