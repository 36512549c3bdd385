"""A service under twice its load: python -m benchmarks.serve_load [--minutes 10] [--clients 8].

First the images a second of a bare loop on this machine (processes of one thread, no service), then of the service under clients
that together ask for twice as much: latency, refusals, memory; every record is checked against the bare loop's.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
from PIL import Image

from blemish.serve.client import Client
from blemish.serve.line import LineConfig
from blemish.serve.server import run_service
from blemish.serve.service import Service

PARTS, SIDE_PX = 16, 384
KINDS = ("normal", "scratch", "hole", "stain")
TOLERANCE = 1e-3  # the last digits of a score depend on what is computed together

BARE = """
import json, sys, time
import blemish
from pathlib import Path
inspector = blemish.load()
paths = sorted(Path(sys.argv[1]).glob("*.png"))
list(inspector.inspect(list(paths)[:8]))
print("ready", flush=True)
sys.stdin.readline()
count, scores, began = 0, {}, time.perf_counter()
while time.perf_counter() - began < float(sys.argv[2]):
    for found in inspector.inspect(list(paths)):
        scores[Path(found.source).name] = (found.image_score, found.verdict.value)
        count += 1
print(json.dumps([count / (time.perf_counter() - began), scores]))
"""


def render_parts(folder: Path) -> None:
    from blemish.synthesis import render

    for number in range(PARTS):
        sample = render(62_000_000 + number, size_px=SIDE_PX, defect_type=("normal", *KINDS)[number % 5])
        Image.fromarray(sample.image).save(folder / f"{number:02}.png")


def bare_loop(folder: Path, processes: int, seconds: float) -> tuple[float, dict[str, tuple[float, str]]]:
    """Images a second of so many processes together, and what each image got."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    running = [
        subprocess.Popen(
            [sys.executable, "-c", BARE, str(folder), str(seconds)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for _ in range(processes)
    ]
    for process in running:
        assert process.stdout is not None
        process.stdout.readline()
    answers = [process.communicate("go\n")[0] for process in running]
    found = [json.loads(answer) for answer in answers]
    return sum(rate for rate, _ in found), found[0][1]


def memory_of(service: Service) -> int:
    """Bytes of this process and the workers."""
    total = 0
    for pid in (os.getpid(), *service.pool.process_ids):
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
        total += pages * os.sysconf("SC_PAGE_SIZE")
    return total


class Load:
    """Clients that ask at a steady rate, whatever is answered."""

    def __init__(
        self, address: str, images: dict[str, bytes], expected: dict[str, Any], rate: float, clients: int
    ) -> None:
        self.images, self.expected = images, expected
        self.codes: Counter[int] = Counter()
        self.latencies: list[float] = []
        self.wrong: list[str] = []
        self.promises: list[float] = []
        self._pause_s = clients / rate
        self._lock = threading.Lock()
        self._address = address
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(clients)]

    def run(self, seconds: float) -> None:
        for thread in self._threads:
            thread.start()
        time.sleep(seconds)
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, number: int) -> None:
        names = sorted(self.images)
        due, turn = time.monotonic(), number
        with httpx.Client(base_url=self._address, timeout=120) as http:
            while not self._stop.is_set():
                name = names[turn % len(names)]
                turn += 1
                began = time.monotonic()
                answer = http.post(
                    "/v1/inspections", files={"images": (name, self.images[name])}, data={"timeout_s": "100"}
                )
                took = time.monotonic() - began
                with self._lock:
                    self.codes[answer.status_code] += 1
                    if answer.status_code == 200:
                        self.latencies.append(took)
                        record = answer.json()["inspections"][0]
                        score, verdict = self.expected[name]
                        if abs(record["image_score"] - score) > TOLERANCE or record["verdict"] != verdict:
                            self.wrong.append(record["id"])
                due += self._pause_s
                if due > time.monotonic():
                    self._stop.wait(due - time.monotonic())
                else:
                    due = time.monotonic()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument(
        "--queue", type=int, default=4, help="images that may wait; fewer than clients, or none is refused"
    )
    options = parser.parse_args()
    workers = os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as folder:
        parts = Path(folder, "parts")
        parts.mkdir()
        render_parts(parts)
        before, expected = bare_loop(parts, workers, min(60.0, 15 * options.minutes))
        print(f"bare loop, {workers} processes of one thread: {before:.1f} images/s", flush=True)
        line = LineConfig.from_dict(
            {
                "serve": {
                    "data": f"{folder}/data",
                    "port": 0,
                    "workers": workers,
                    "queue": options.queue,
                    "batch_size": 2,
                }
            }
        )
        found: list[tuple[str, Service]] = []
        stop = threading.Event()
        server = threading.Thread(
            target=run_service,
            args=(line,),
            kwargs={"started": lambda address, service: found.append((address, service)), "stop": stop},
        )
        server.start()
        while not found:
            time.sleep(0.1)
        address, service = found[0]
        with Client(address) as client:
            while not client.is_ready():
                time.sleep(0.2)
        images = {path.name: path.read_bytes() for path in sorted(parts.glob("*.png"))}
        warm = Load(address, images, expected, 2 * before, options.clients)
        warm.run(min(20.0, 10 * options.minutes))
        memory = [memory_of(service)]
        load = Load(address, images, expected, 2 * before, options.clients)
        began = time.monotonic()
        watch = threading.Event()
        watcher = threading.Thread(target=sample, args=(service, load, memory, watch))
        watcher.start()
        load.run(60 * options.minutes)
        took = time.monotonic() - began
        watch.set()
        watcher.join()
        with Client(address) as client:
            missing = warm.codes[200] + load.codes[200] - sum(1 for _ in client.inspections(state="done"))
        stop.set()
        server.join()
        after, _ = bare_loop(parts, workers, min(60.0, 15 * options.minutes))
        print(f"bare loop again: {after:.1f} images/s")
        report(load, took, (before + after) / 2, memory, missing=missing)


def sample(service: Service, load: Load, memory: list[int], stop: threading.Event) -> None:
    while not stop.wait(2):
        memory.append(memory_of(service))
        load.promises.append(service.pool.promise_s)


def report(load: Load, took: float, bare: float, memory: list[int], *, missing: int) -> None:
    rate, ordered, promises = load.codes[200] / took, sorted(load.latencies), load.promises
    spread = 50 * (max(memory) - min(memory)) / statistics.mean(memory)
    print(f"service, {took / 60:.1f} min: {rate:.1f} images/s, {100 * rate / bare:.0f} % of the bare loop")
    print(f"answers: {dict(load.codes)}; wrong records: {len(load.wrong)}; missing: {missing}")
    print(
        f"latency of accepted ones: median {statistics.median(ordered):.2f} s, p99 {ordered[int(0.99 * len(ordered))]:.2f} s"
    )
    print(f"the queue's promise: median {statistics.median(promises):.2f} s, highest {max(promises):.2f} s")
    print(f"memory: {min(memory) / 2**20:.0f} to {max(memory) / 2**20:.0f} MiB, ±{spread:.1f} %")


if __name__ == "__main__":
    main()
