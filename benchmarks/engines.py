"""Engines beside each other: processor time, wall time, memory, load time and error of the map, for several models.

`python -m benchmarks.engines`: every engine and thread count in a process of its own, which answers round by round, so that what
is compared runs in turn; medians. Random weights stand in for ViT-B and ViT-L. `--busy 2` lets so many processes spin beside it:
the machine that an inspection shares. A line at the top says how busy the machine was besides.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from blemish.engines.sessions import LIBRARIES, installed_libraries

CASES: dict[str, tuple[str, int]] = {
    "embedded 224": ("embedded", 224),
    "embedded 320": ("embedded", 320),
    "embedded 448": ("embedded", 448),
    "ViT-B/16 224": ("ViT-B-16", 224),
    "ViT-L/14@336 336": ("ViT-L-14-336", 336),
    "ViT-L/14@336 518": ("ViT-L-14-336", 518),
}
SMALL = [name for name in CASES if name.startswith("embedded")]
WAIT_S = 900


def child(case: str, engine: str, precision: str, threads: int) -> None:
    """Answers each line, a number of images, with what it took."""
    started = time.perf_counter()
    method, images = loaded_method(case)
    import torch

    from blemish.engines.graphs import ImageSide
    from blemish.engines.torch import in_half
    from blemish.language import parse_defects

    torch.set_num_threads(threads)
    plain = method
    if engine != "torch":
        method = ImageSide(method, engine, threads=threads, precision=precision).method  # type: ignore[arg-type]
    elif precision == "half":
        method = in_half(method, torch.bfloat16)
    with torch.inference_mode():
        method.encode(images[:1])
        load_s = time.perf_counter() - started
        texts = plain.encode_texts(parse_defects("scratch, hole"))
        maps = [each.score(each.encode(images[:1]), texts).anomaly_map for each in (plain, method)]
        error = float((maps[0] - maps[1]).abs().max())
        answer({"load_s": load_s, "error": error})
        for line in sys.stdin:
            batch = images[: int(line)]
            cpu, wall = time.process_time(), time.perf_counter()
            method.encode(batch)
            spent = time.process_time() - cpu, time.perf_counter() - wall
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            answer({"cpu_ms": 1e3 * spent[0] / len(batch), "wall_ms": 1e3 * spent[1] / len(batch), "memory_mb": memory})


def loaded_method(case: str) -> tuple[Any, Any]:
    """The method of a case, and eight random images."""
    import torch

    from blemish.backbones.catalog import catalog
    from blemish.backbones.model import Clip
    from blemish.methods import build
    from blemish.models.load import load_method

    backbone, side = CASES[case]
    if backbone == "embedded":
        method = load_method(backbone, input_px=side).method
    else:
        torch.manual_seed(0)
        method = build("ensemble", Clip(catalog()[backbone].config).at_input(side), None)
    images = np.random.default_rng(0).normal(size=(8, 3, side, side)).astype(np.float32)
    return method.eval(), torch.from_numpy(images)


def core_limit() -> dict[str, float]:
    """What a matrix product of 1024 rows reaches on one core, GFLOP/s: no engine computes faster."""
    import torch

    torch.set_num_threads(1)
    found = {}
    for dtype in (torch.float32, torch.bfloat16):
        one, two = torch.randn(2, 1024, 1024).to(dtype)
        taken = []
        for _ in range(6):
            started = time.process_time()
            one @ two
            taken.append(time.process_time() - started)
        found[str(dtype).removeprefix("torch.")] = 2 * 1.024**3 / statistics.median(taken[1:])
    return found


def answer(data: dict[str, float]) -> None:
    print(json.dumps(data), flush=True)


class Worker:
    """A process with one engine."""

    def __init__(self, case: str, engine: str, precision: str, threads: int, *, home: str) -> None:
        self.what = (engine, precision, threads)
        command = [sys.executable, "-m", "benchmarks.engines", "--child", case, engine, precision, str(threads)]
        environment = {**os.environ, "BLEMISH_HOME": home, "OMP_NUM_THREADS": str(threads)}
        self.process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.start = self._read()
        self.rounds: dict[int, list[dict[str, float]]] = {}

    def run(self, batch: int) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{batch}\n")
        self.process.stdin.flush()
        self.rounds.setdefault(batch, []).append(self._read())

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(WAIT_S)

    def _read(self) -> dict[str, float]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{' '.join(map(str, self.what))} ended before it answered")
        found: dict[str, float] = json.loads(line)
        return found


def measure(
    case: str,
    *,
    engines: list[tuple[str, str]],
    threads: list[int],
    batches: list[int],
    rounds: int,
    apart: bool,
    busy: int,
) -> None:
    """Prints the table of a case; `apart` has one process at a time, where all together would not fit into the memory.

    So many processes as `busy` says spin beside it once all have loaded.
    """
    print(
        f"\n{case}\n| engine | threads | batch | CPU ms | wall ms | memory MB | load s | map error |\n|" + "---|" * 8,
        flush=True,
    )
    asked = [(*engine, count) for engine in engines for count in threads]
    with tempfile.TemporaryDirectory() as home:
        for group in [[each] for each in asked] if apart else [asked]:
            workers = [Worker(case, *each, home=home) for each in group]
            with spinning(busy):
                for _ in range(rounds):
                    for batch in batches:
                        for worker in workers:
                            worker.run(batch)
            for worker in workers:
                worker.close()
            show(workers)


@contextmanager
def spinning(count: int) -> Iterator[None]:
    """So many processes that do nothing as fast as they can."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def show(workers: list[Worker]) -> None:
    """Prints their lines of the table."""
    for worker in workers:
        engine, precision, count = worker.what
        for batch, found in worker.rounds.items():
            cpu, wall = (statistics.median(one[name] for one in found) for name in ("cpu_ms", "wall_ms"))
            print(
                f"| {engine} {precision} | {count} | {batch} | {cpu:.0f} | {wall:.0f} | {found[-1]['memory_mb']:.0f} | "
                f"{worker.start['load_s']:.1f} | {worker.start['error']:.0e} |",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engines", description=__doc__)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES), metavar="CASE")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--half", action="store_true", help="also in 16 bits")
    parser.add_argument("--only", nargs="+", metavar="ENGINE", help="of the libraries")
    parser.add_argument("--busy", type=int, default=0, help="processes that spin beside it")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        case, engine, precision, threads = arguments.child
        child(case, engine, precision, int(threads))
        return
    libraries = [name for name in installed_libraries() if arguments.only is None or name in arguments.only]
    engines = [("torch", "float32"), *((name, "float32") for name in libraries)]
    if arguments.half:
        engines += [("torch", "half"), *((name, "half") for name in libraries if LIBRARIES[name].half)]
    print(
        f"load of the machine before: {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors; spinning beside: {arguments.busy}"
    )
    print(", ".join(f"{dtype}: {rate:.0f} GFLOP/s" for dtype, rate in core_limit().items()), "on one core")
    for case in arguments.cases:
        large = case not in SMALL
        measure(
            case,
            engines=engines,
            threads=arguments.threads,
            batches=[1] if large else arguments.batches,
            rounds=1 if large else arguments.rounds,
            apart=large,
            busy=arguments.busy,
        )


if __name__ == "__main__":
    main()
