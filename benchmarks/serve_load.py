"""A service under twice its load: python -m benchmarks.serve_load [--minutes 10] [--clients 8] [--rounds 6] [--seconds 30].

Rounds first, by turns, so that other work on the machine meets all of them: the bare loop (processes of one thread each, no
service), the service, one process of several threads. Then the service alone for `--minutes`: latency, refusals, memory.
Clients together ask for twice what the bare loop does, and every record is checked against the bare loop's. Processor time
stands beside the time on the clock.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from PIL import Image

from benchmarks.serve_clients import agrees
from blemish.serve.client import Client

PARTS, SIDE_PX = 16, 384
TYPES = ("normal", "scratch", "hole", "stain")
READY_S = 180.0
WARM_S, WARM_IMAGES = 15.0, 60
TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
PROMISE, FULL_BATCH = "blemish_queue_promise_seconds", 8

BARE = """
import json, sys, time
from pathlib import Path
import blemish
inspector = blemish.load(batch_size=int(sys.argv[2]))
paths = sorted(Path(sys.argv[1]).glob("*.png"))
scores = {Path(found.source).name: (found.image_score, found.verdict.value) for found in inspector.inspect(list(paths))}
print(json.dumps(scores), flush=True)
for line in sys.stdin:
    count, began = 0, time.perf_counter()
    while time.perf_counter() - began < float(line):
        for _ in inspector.inspect(list(paths)):
            count += 1
    print(json.dumps([count, time.perf_counter() - began]), flush=True)
"""


@dataclass
class Spent:
    """Images, seconds on the clock, and processor seconds of each kind of process."""

    images: int = 0
    seconds: float = 0.0
    processor: Counter[str] = field(default_factory=Counter)

    def rate(self) -> float:
        return self.images / self.seconds

    def per_image_ms(self) -> dict[str, float]:
        return {name: 1000 * spent / max(1, self.images) for name, spent in self.processor.items()}

    def add(self, other: Spent) -> None:
        self.images += other.images
        self.seconds += other.seconds
        self.processor += other.processor


class Talking:
    """A program that reads orders, one a line, and answers each with one line of JSON."""

    def __init__(self, *arguments: str, threads: int = 1) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        self.process = subprocess.Popen(
            [sys.executable, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            start_new_session=True,  # as the workers of the service: Linux shares processors among sessions
        )

    def told(self, order: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(order + "\n")
        self.process.stdin.flush()

    def answer(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


class Served:
    """`blemish serve` as a process, with its workers."""

    def __init__(self, folder: Path, *, workers: int, queue: int) -> None:
        line = folder / "line.toml"
        line.write_text(
            f'[serve]\ndata = "data"\nport = 0\nworkers = {workers}\nqueue = {queue}\nrequests_a_minute = 1000000\n'
        )
        self._log = (folder / "log").open("w")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "blemish", "serve", "--config", str(line), "--log", "warning"],
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        self.address = self.process.stdout.readline().split()[0].rstrip(";/")
        until = time.monotonic() + READY_S
        with Client(self.address) as client:
            while not client.is_ready():
                assert time.monotonic() < until, "the service never was ready"
                time.sleep(0.2)

    def workers(self) -> list[int]:
        found: list[int] = []
        for place in Path(f"/proc/{self.process.pid}/task").glob("*/children"):
            with suppress(OSError):  # a thread that has ended meanwhile
                found += map(int, place.read_text(encoding="ascii").split())
        return found

    def promise_s(self) -> float:
        text = httpx.get(f"{self.address}/metrics", timeout=60).text
        return next(float(line.split()[1]) for line in text.splitlines() if line.startswith(PROMISE))

    def end(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)
        self._log.close()


def render_parts(folder: Path) -> None:
    from blemish.synthesis import render

    folder.mkdir()
    for number in range(PARTS):
        sample = render(62_000_000 + number, size_px=SIDE_PX, defect_type=("normal", *TYPES)[number % 5])
        Image.fromarray(sample.image).save(folder / f"{number:02}.png")


def processor_s(pids: Iterable[int]) -> float:
    """Processor seconds of these processes so far."""
    spent = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        spent += int(fields[11]) + int(fields[12])
    return spent / TICKS_A_SECOND


def memory_bytes(pids: Iterable[int]) -> int:
    """Bytes in memory of these processes together: of a page that several share, each has its part (PSS)."""
    lines = [
        line for pid in pids for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    ]
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def measured(processes: Mapping[str, Sequence[int]], work: Callable[[], int]) -> Spent:
    """What the work, which says how many images it did, costs these processes."""
    before = {name: processor_s(pids) for name, pids in processes.items()}
    began = time.monotonic()
    images = work()
    took = time.monotonic() - began
    return Spent(images, took, Counter({name: processor_s(pids) - before[name] for name, pids in processes.items()}))


def bare_round(loops: Sequence[Talking], seconds: float) -> Spent:
    """Each of the bare loops for so long."""

    def work() -> int:
        for loop in loops:
            loop.told(str(seconds))
        return sum(loop.answer()[0] for loop in loops)

    return measured({"bare loop": [loop.process.pid for loop in loops]}, work)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="0: the rounds alone")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--queue", type=int, default=16, help="images that may wait")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=30.0, help="of a round")
    parser.add_argument("--times", type=float, default=2.0, help="what is asked for, in rates of the bare loop")
    options = parser.parse_args()
    workers = os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        parts = folder / "parts"
        render_parts(parts)
        arguments = ("-c", BARE, str(parts), str(FULL_BATCH))
        loops = [Talking(*arguments) for _ in range(workers)]
        threaded = [Talking(*arguments, threads=workers)] if options.rounds else []
        asking = Talking("-m", "benchmarks.serve_clients")
        served = Served(folder, workers=workers, queue=options.queue)
        try:
            expected, *_ = [loop.answer() for loop in (*loops, *threaded)]
            rate = options.times * bare_round(loops, WARM_S).rate()
            order = {"address": served.address, "parts": str(parts), "expected": expected, "clients": options.clients}

            def load(seconds: float, *, rate: float = rate) -> tuple[dict[str, Any], Spent]:
                pids = {"workers": served.workers(), "service": [served.process.pid], "clients": [asking.process.pid]}
                found: list[dict[str, Any]] = []

                def work() -> int:
                    asking.told(json.dumps({**order, "rate": rate, "seconds": seconds}))
                    found.append(asking.answer())
                    return int(found[0]["codes"].get("200", 0))

                spent = measured(pids, work)
                return found[0], spent

            answered = [load(WARM_S)[0]]
            while sum(len(answers["records"]) for answers in answered) < WARM_IMAGES:  # every size of batch was seen
                answered.append(load(WARM_S)[0])
            answered += rounds(options.rounds, options.seconds, loops, threaded, load)
            for loop in (*loops, *threaded):
                loop.end()
            if options.minutes:
                answered.append(long_load(served, options.minutes, load))
            check(served, answered, expected)
        finally:
            programs: list[Talking | Served] = [*loops, *threaded, asking, served]
            for program in programs:
                program.end()


def rounds(
    count: int, seconds: float, loops: Sequence[Talking], threaded: Sequence[Talking], load: Callable[..., Any]
) -> list[dict[str, Any]]:
    """Bare loop, one process of several threads, and service by turns; prints what they did."""
    bare, one, served, answered = Spent(), Spent(), Spent(), []
    for _ in range(count):
        now = bare_round(loops, seconds)
        answers, other = load(seconds)
        bare.add(now)
        one.add(bare_round(threaded, seconds))
        served.add(other)
        answered.append(answers)
        print(
            f"bare loop {now.rate():.2f}, service {other.rate():.2f} images/s: {100 * other.rate() / now.rate():.0f} %"
        )
    if count:
        share = 100 * served.rate() / bare.rate()
        print(f"together: bare loop {bare.rate():.2f}, service {served.rate():.2f} images/s: {share:.0f} %")
        print(
            f"one process of {len(loops)} threads: {one.rate():.2f} images/s, {one.per_image_ms()['bare loop']:.1f} ms"
        )
        costs = {**bare.per_image_ms(), **served.per_image_ms()}
        print("processor time an image:", ", ".join(f"{name} {ms:.1f} ms" for name, ms in costs.items()))
        spent = costs["workers"] + costs["service"]
        print(
            f"bare loop's share of the service's processor time: {100 * costs['bare loop'] / spent:.0f} %", flush=True
        )
    return answered


def long_load(served: Served, minutes: float, load: Callable[..., Any]) -> dict[str, Any]:
    """The service for so long; prints latency beside the promise, and memory."""
    kept, promises, stop = [], [], threading.Event()

    def watch() -> None:
        while not stop.wait(2):
            kept.append((memory_bytes([served.process.pid]), memory_bytes(served.workers())))
            promises.append(served.promise_s())

    watcher = threading.Thread(target=watch)
    watcher.start()
    answers, spent = load(60 * minutes)
    stop.set()
    watcher.join()
    ordered = sorted(answers["latencies_s"])
    memory = [service + workers for service, workers in kept]
    spread = 50 * (max(memory) - min(memory)) / statistics.mean(memory)
    print(f"service for {spent.seconds / 60:.1f} min: {spent.rate():.2f} images/s; answers {answers['codes']}")
    print(
        f"latency of what was accepted: median {statistics.median(ordered):.2f} s, p99 {ordered[int(0.99 * len(ordered))]:.2f} s"
    )
    print(f"the queue's promise: median {statistics.median(promises):.2f} s, highest {max(promises):.2f} s")
    print(f"refused after: median {1000 * statistics.median(answers['refusals_s'] or [0]):.0f} ms")
    tenths = [kept[min(len(kept) - 1, len(kept) * tenth // 10)] for tenth in range(11)]
    series = ", ".join(f"{service / 2**20:.0f} + {workers / 2**20:.0f}" for service, workers in tenths)
    print(f"memory over time, service + workers, MiB: {series}")
    print(f"memory: {min(memory) / 2**20:.0f} to {max(memory) / 2**20:.0f} MiB, ±{spread:.1f} %", flush=True)
    return answers


def check(served: Served, answered: Sequence[Mapping[str, Any]], expected: Mapping[str, Any]) -> None:
    """Prints whether every accepted image has its record, and only one."""
    told = {image_id: name for answers in answered for image_id, name in answers["records"].items()}
    wrong = [image_id for answers in answered for image_id in answers["wrong"]]
    kept: Counter[str] = Counter()
    with Client(served.address) as client:
        for each in client.inspections():
            kept[each["id"]] += 1
            if each["state"] != "done" or not agrees(each, expected[each["name"]]):
                wrong.append(each["id"])
    silent = sum(answers["without_retry_after"] for answers in answered)
    print(
        f"records: {len(kept)}; wrong {len(set(wrong))}, missing {len(set(told) - set(kept))}, twice "
        f"{sum(times > 1 for times in kept.values())}, never answered {len(set(kept) - set(told))}; "
        f"refusals without Retry-After: {silent}"
    )


if __name__ == "__main__":
    main()
