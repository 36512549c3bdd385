"""Streaming pixel metrics against the papers' loop, in time and memory: `python -m benchmarks.metrics`.

The loop is AUPRO as FAPrompt, AnomalyCLIP and others compute it: 200 thresholds, and at each every mask is labelled again,
with scikit-image as they do (`pip install scikit-image`; nothing else needs it). It runs on 100 maps in blocks of
thresholds, and between the blocks the streaming metrics (AUPRO, AUROC, AP, F1-max together) run on the same maps, so that
both meet the same state of the machine. For 1,000 maps the loop is not run: its time is taken as ten times that of 100, as
each threshold visits each map. Seconds are of the processor, on one thread. Memory is measured in fresh processes that make
each map, count it and forget it: the highest resident size above that before the first map.
"""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from blemish.metrics import PixelRanking, Value, aupro

SIZE_PX = 518
STEPS = 200
FIELDS = 8
Pair = tuple[NDArray[np.float32], NDArray[np.bool_]]


def make_pairs(count: int) -> Iterator[Pair]:
    """Maps of probabilities with one to three regions on every other one; each is made when it is asked for."""
    rng = np.random.default_rng(0)
    fields = [(gaussian_filter(rng.normal(size=(SIZE_PX, SIZE_PX)), 6) * 15).astype(np.float32) for _ in range(FIELDS)]
    for index in range(count):
        mask = np.zeros((SIZE_PX, SIZE_PX), bool)
        for _ in range(rng.integers(1, 4) if index % 2 else 0):
            y, x = rng.integers(0, SIZE_PX - 60, 2)
            height, width = rng.integers(8, 60, 2)
            mask[y : y + height, x : x + width] = True
        logit = np.roll(fields[index % FIELDS], rng.integers(0, SIZE_PX, 2), axis=(0, 1)) + 2 * mask - 2
        yield (1 / (1 + np.exp(-logit))).astype(np.float32), mask


def loop_at(threshold: np.float32, maps: NDArray[np.float32], masks: NDArray[np.uint8]) -> tuple[float, float]:
    """False positive rate and mean overlap of regions at one threshold, step by step as the papers' code finds them."""
    measure: Any = importlib.import_module("skimage.measure")
    found = np.zeros(maps.shape, bool)
    found[maps <= threshold] = False
    found[maps > threshold] = True
    overlaps = []
    for one, mask in zip(found, masks, strict=True):
        for region in measure.regionprops(measure.label(mask)):
            rows, columns = region.coords.T
            overlaps.append(one[rows, columns].sum() / region.area)
    normal = 1 - masks
    return float(np.logical_and(normal, found).sum() / normal.sum()), float(np.mean(overlaps))


def loop_value(points: list[tuple[float, float]]) -> float:
    """The area under the loop's points below a rate of 0.3, stretched to 0..1."""
    x, y = np.array([point for point in points if point[0] < 0.3]).T
    x = (x - x.min()) / np.ptp(x)
    return float(-np.sum(np.diff(x) * (y[1:] + y[:-1]) / 2))


def stream(pairs: Iterator[Pair] | list[Pair], *, rounds: int) -> tuple[float, dict[str, Value]]:
    """Processor seconds inside the metrics, and their values."""
    ranking, spent = PixelRanking(rounds=rounds), 0.0
    for index, (anomaly_map, mask) in enumerate(pairs):
        started = time.process_time()
        ranking.add(anomaly_map, mask, name=str(index))
        spent += time.process_time() - started
    started = time.process_time()
    found = ranking.metrics()
    return spent + time.process_time() - started, found


def measure_time(count: int, blocks: int) -> None:
    pairs = list(make_pairs(count))
    maps, masks = np.stack([one for one, _ in pairs]), np.stack([mask for _, mask in pairs]).astype(np.uint8)
    thresholds = np.arange(maps.min(), maps.max(), (maps.max() - maps.min()) / STEPS)
    seconds: dict[int, list[float]] = {0: [], 200: []}
    points: list[tuple[float, float]] = []
    spent = 0.0
    for block in np.array_split(thresholds, blocks):
        started = time.process_time()
        points += [loop_at(threshold, maps, masks) for threshold in block]
        spent += time.process_time() - started
        for rounds, runs in seconds.items():
            taken, found = stream(pairs, rounds=rounds)
            runs.append(taken)
    print(f"| {count} maps of {SIZE_PX}×{SIZE_PX} | processor seconds | loop / this | AUPRO |\n|---|---|---|---|")
    print(f"| the papers' loop, {len(thresholds)} thresholds | {spent:.1f} | 1 | {loop_value(points):.6f} |")
    started = time.process_time()
    legacy = float(aupro(*zip(*pairs, strict=True), legacy_steps=STEPS))
    taken = time.process_time() - started
    print(f"| the same number, regions labelled once | {taken:.2f} | {spent / taken:.0f} | {legacy:.6f} |")
    for rounds, runs in seconds.items():
        name = f"streaming, all four metrics{f', intervals from {rounds} resamples' * bool(rounds)}"
        value = f"{float(found['aupro']):.6f} ± {found['aupro'].error_bound:.0e}"
        print(f"| {name} | {statistics.median(runs):.3f} | {spent / statistics.median(runs):.0f} | {value} |")
    taken, found = stream(make_pairs(10 * count), rounds=0)
    value = f"{float(found['aupro']):.6f} ± {found['aupro'].error_bound:.0e}"
    print(
        f"| streaming, {10 * count} maps | {taken:.2f} | {10 * spent / taken:.0f} (of ten times the loop, not run) | {value} |"
    )


def measure_memory(count: int) -> None:
    """In a process of its own: print the peak above the start, in MB."""
    pairs = make_pairs(count)
    warm = PixelRanking(rounds=0)  # imports and caches belong to the process, not to the metrics
    warm.add(*next(make_pairs(1)))
    before = memory_mb("VmRSS")
    _, found = stream(pairs, rounds=200)
    peak = memory_mb("VmHWM")
    print(f"| {count} | {before:.0f} | {peak - before:.0f} | {float(found['aupro']):.6f} |", flush=True)


def memory_mb(field: str) -> float:
    """VmRSS (now) or VmHWM (highest) of this process; getrusage is of no use, as its peak begins with that of the parent."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) / 1024 for line in lines if line.startswith(field))


def machine() -> str:
    info = Path("/proc/cpuinfo")
    names = (
        [line.split(":")[1].strip() for line in info.read_text().splitlines() if "model name" in line]
        if info.exists()
        else []
    )
    processor = names[0] if names else platform.processor() or platform.machine()
    load = os.getloadavg()[0]
    return f"{processor}, {os.cpu_count()} cores, load {load:.1f}; Python {platform.python_version()}, NumPy {np.__version__}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.metrics", description=__doc__)
    parser.add_argument("--maps", type=int, default=100)
    parser.add_argument("--blocks", type=int, default=5)
    parser.add_argument("--memory-of", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory_of:
        measure_memory(arguments.memory_of)
        return
    print(machine(), flush=True)
    measure_time(arguments.maps, arguments.blocks)
    print(
        "\n| maps, streamed with intervals | MB before the first | peak above that, MB | AUPRO |\n|---|---|---|---|",
        flush=True,
    )
    for count in (arguments.maps, 10 * arguments.maps):
        command = [sys.executable, "-m", "benchmarks.metrics", "--memory-of", str(count)]
        subprocess.run(command, check=True, timeout=600)


if __name__ == "__main__":
    main()
