"""How many images a second several processes inspect, alone and through Ray, and with how much memory (docs/scale-measured.md).

python -m benchmarks.scale --images 2000 --workers 0 1 2 4 --rounds 2 --out scale    # throughput and memory; rows compared
python -m benchmarks.scale kills --images 400 --out scale       # 20 random kills of workers and of the driver; --ray: of actors
python -m benchmarks.scale nodes --images 1000 --nodes 1 2 --out scale     # simulated machines of one core each
python -m benchmarks.scale rows --images 1000000 --out scale    # a stub in the model's place: what the rest costs

Memory is what the processes have together, shared pages counted once. What others did to the machine meanwhile is told in cores.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from blemish.images import save
from blemish.runs.reading import read_records

PICTURES = ("overlay", "mask", "maps")
SIDE_PX = 256
POLL_S = 0.5


@dataclass
class Used:
    """What a command and its children took."""

    seconds: float = 0.0
    peak_bytes: int = 0  # of all processes together; shared pages count once
    driver: list[tuple[float, int]] = field(default_factory=list)  # seconds, bytes of the first process alone
    driver_own: list[tuple[float, int]] = field(default_factory=list)  # the same without Ray's object store
    processor: dict[int, float] = field(default_factory=dict)  # seconds of each process
    others: float = 0.0  # cores that other processes of the machine took
    written: list[tuple[float, int]] = field(default_factory=list)  # seconds, bytes of records

    @property
    def processor_s(self) -> float:
        """Seconds of processor time of all processes."""
        return sum(self.processor.values())

    def steady_rate(self, images: int) -> float | None:
        """Images a second while results come, between a tenth and nine tenths of them; None where that was too short to tell."""
        whole = self.written[-1][1] if self.written else 0
        inner = [(seconds, size) for seconds, size in self.written if 0.1 * whole < size < 0.9 * whole]
        if len(inner) < 3:
            return None
        (begin, first), (end, last) = inner[0], inner[-1]
        return images * (last - first) / whole / (end - begin)


def render(folder: Path, count: int, *, side_px: int = SIDE_PX) -> Path:
    """So many small pictures with a blob here and there."""
    numbers = np.random.default_rng(0)
    for number in range(count):
        path = folder / f"{number // 1000:03d}" / f"{number:06d}.jpg"
        if path.is_file():
            continue
        low = numbers.integers(110, 200, (8, 8, 3), dtype=np.uint8)
        pixels = low.repeat(side_px // 8, 0).repeat(side_px // 8, 1)
        if number % 5 == 0:
            x, y = numbers.integers(side_px // 12, side_px * 3 // 4, 2)
            pixels[y : y + side_px // 8, x : x + side_px // 6] = 20
        save(pixels, path)
    return folder


def run(*words: object, limit_s: float = 7200, out: Path | None = None) -> Used:
    """A command of Blemish, watched; `out` is the folder of its results."""
    used = Used()
    started, busy = time.perf_counter(), _busy_s()
    process = subprocess.Popen(_command(*words), stdout=subprocess.DEVNULL)
    while process.poll() is None:
        family = _family(process.pid)
        sizes = {pid: _memory(pid) for pid in family}
        used.processor |= {pid: taken for pid in family if (taken := _processor_s(pid)) is not None}
        used.peak_bytes = max(used.peak_bytes, sum(sizes.values()))
        seconds = time.perf_counter() - started
        used.driver.append((seconds, sizes.get(process.pid, 0)))
        used.driver_own.append((seconds, _memory(process.pid, shared=False)))
        if out is not None:
            used.written.append((seconds, _written(out)))
        if time.perf_counter() - started > limit_s:
            process.send_signal(signal.SIGINT)  # it writes down what it has
            process.wait(60)
        time.sleep(POLL_S)
    used.seconds = time.perf_counter() - started
    used.others = max(0.0, _busy_s() - busy - used.processor_s) / used.seconds
    if process.returncode not in (0, 3) and used.seconds < limit_s:
        raise SystemExit(f"{words} ended with {process.returncode}")
    return used


def _command(*words: object) -> list[str]:
    return [sys.executable, "-m", "blemish", *map(str, words)]


def rows(out: Path) -> Iterator[dict[str, Any]]:
    """The records of a run without the places of its pictures."""
    for record in read_records(out):
        yield {**record, **dict.fromkeys(PICTURES)}


def throughput(options: argparse.Namespace) -> None:
    """Images a second of 1, 2, 4 processes and of Ray, in turn; the same rows everywhere."""
    images = _folders(options)
    ways: dict[str, tuple[object, ...]] = {
        "one process, all threads" if count == 0 else f"{count} workers": ("--workers", count)
        for count in options.workers
    }
    ways |= {f"Ray, {options.actors} actors": ("--ray", "local", "--pictures", "all")} if options.actors else {}
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in ways}
    reference: Path | None = None
    for number in range(options.rounds):
        for name, words in ways.items():
            out = options.out / name.replace(" ", "-").replace(",", "")
            used = run("inspect", *images, "--out", out, "--overwrite", "-q", *words, *options.more.split(), out=out)
            same = "-"
            if words != ("--workers", 0):  # whose last digits are those of another number of threads
                same = "the first" if reference is None or reference == out else str(_same(reference, out))
                reference = reference or out
            found[name].append({**_facts(out, used, options.images), "same rows": same})
            print(number, name, found[name][-1], flush=True)
    (options.out / f"throughput-{options.images}.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def nodes(options: argparse.Namespace) -> None:
    """Clusters of one, two and more simulated machines of one core each, all on this one; rows compared."""
    import ray.cluster_utils

    simulated: Any = ray.cluster_utils.Cluster
    images = _folders(options)
    reference: Path | None = None
    for count in options.nodes:
        each = {"num_cpus": 1, "object_store_memory": 300 * 2**20}
        cluster = simulated(initialize_head=True, head_node_args=each)
        try:
            for _ in range(count - 1):
                cluster.add_node(**each)
            out = options.out / f"{count}-nodes"
            words = (*images, "--out", out, "--overwrite", "-q", "--ray", cluster.address, *options.more.split())
            used = run("inspect", *words)
        finally:
            cluster.shutdown()
        facts = _facts(out, used, options.images)
        same = "the first" if reference is None else str(_same(reference, out))
        print(
            f"{count} nodes",
            {"images/s": facts["images/s"], "seconds": facts["seconds"], "same rows": same},
            flush=True,
        )
        reference = reference or out


def _folders(options: argparse.Namespace) -> list[Path]:
    """The folders of as many images as were asked for."""
    folder = render(options.out / "images", options.images)
    return [folder / f"{number:03d}" for number in range(-(-options.images // 1000))]


def _facts(out: Path, used: Used, images: int) -> dict[str, Any]:
    duration = json.loads((out / "run.json").read_text(encoding="utf-8"))["duration_s"]
    return {
        "images/s": round(images / duration, 2),
        "images/s without start": (rate := used.steady_rate(images)) and round(rate, 2),
        "seconds": round(duration, 1),
        "with start": round(used.seconds, 1),
        "CPU ms an image": round(1000 * used.processor_s / images, 1),
        "cores of others": round(used.others, 2),
        "peak MB": used.peak_bytes // 2**20,
        "first process MB": max((size for _, size in used.driver), default=0) // 2**20,
    }


def kills(options: argparse.Namespace) -> None:
    """Random kills of workers and, every fourth time, of the driver, which is then resumed; compared with a run of no kills.

    With `--ray` the run goes through a cluster of Ray on this machine, and what is killed is any of its processes that has an
    actor, scores for one or reads.
    """
    images = _folders(options)
    whole, out = options.out / "whole", options.out / "killed"
    run("inspect", *images, "--out", whole, "--overwrite", "-q", "--workers", 2, *options.more.split())
    how = ("--ray", "local") if options.ray else ("--workers", 2)
    chance = random.Random(options.seed)
    killed: list[str] = []
    words = ["--overwrite"]
    started = time.perf_counter()
    while True:
        process = subprocess.Popen(
            _command("inspect", *images, "--out", out, "-q", *how, *options.more.split(), *words),
            stdout=subprocess.DEVNULL,
        )
        while process.poll() is None and len(killed) < options.kills:
            time.sleep(chance.uniform(*options.pause_s))
            driver = len(killed) % 4 == 3
            working = [pid for pid in _family(process.pid)[1:] if _works(pid)]
            if not driver and not working:
                continue
            with suppress(ProcessLookupError):
                os.kill(process.pid if driver else chance.choice(working), signal.SIGKILL)
                killed.append("driver" if driver else "worker")
        process.wait()
        if process.returncode in (0, 3):
            break
        words = ["--resume"]
    facts = {
        "kills": len(killed),
        "of the driver": killed.count("driver"),
        "seconds": round(time.perf_counter() - started),
        "same rows": _same(whole, out),
    }
    print(json.dumps(facts))


def _works(pid: int) -> bool:
    """Whether a process scores or reads images: one of ours, or one in which Ray runs a stage."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return b"blemish.runs.worker_process" in command or b"MapBatches" in command or b"MapWorker" in command


def stub(options: argparse.Namespace) -> None:
    """A table of paths to a few images, many times over, through Ray with an engine that does nothing."""
    import pyarrow
    from pyarrow import parquet

    folder = options.out / f"images-{options.side_px}"
    images = sorted(render(folder, 200, side_px=options.side_px).rglob("*.jpg"))
    table = options.out / "paths.parquet"
    with parquet.ParquetWriter(table, pyarrow.schema([("path", pyarrow.string())])) as writer:
        for start in range(0, options.images, 10_000):
            places = range(start, min(start + 10_000, options.images))
            writer.write_table(
                pyarrow.table({"path": [str(images[number % len(images)].resolve()) for number in places]})
            )
    with plugged(options.out):
        used = run(
            *("inspect", table, "--column", "path", "--ray", "local", "--engine", "stub", "--batch-size", 64, "-q"),
            *("--range", "0:65535"),  # else the headers of all images are read first
            *("--out", options.out / "rows", "--overwrite"),
            limit_s=options.limit_s,
        )
    told = json.loads((options.out / "rows" / "run.json").read_text(encoding="utf-8"))
    done = sum(told["counts"].values())
    facts = {
        "images": done,
        "images/s": round(done / told["duration_s"], 1),
        "CPU ms an image": round(1000 * used.processor_s / max(1, done), 2),
        "driver MB at most, by tenths of the time": _by_tenths(used.driver),
        "without the object store": _by_tenths(used.driver_own),
        "peak MB of all": used.peak_bytes // 2**20,
        "bytes a row": sum(path.stat().st_size for path in (options.out / "rows" / "records").iterdir())
        // max(1, done),
    }
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "blemish", "report", str(options.out / "rows"), "-q"], check=True)
    facts["seconds of the report"] = round(time.perf_counter() - started, 1)
    facts["MB of the report"] = round((options.out / "rows" / "report.html").stat().st_size / 2**20, 1)
    print(json.dumps(facts, indent=2))


def _by_tenths(sizes: Sequence[tuple[float, int]]) -> list[int]:
    """The most MB in each tenth of the time."""
    whole = sizes[-1][0]
    parts: list[list[int]] = [[] for _ in range(10)]
    for seconds, size in sizes:
        parts[min(9, int(10 * seconds / whole))].append(size)
    return [max(part, default=0) // 2**20 for part in parts]


@contextmanager
def plugged(folder: Path) -> Iterator[None]:
    """The engine "stub" of this module where Blemish looks for those of other packages."""
    info = folder / "plugged" / "stub-1.0.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: stub\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(
        "[blemish.engines]\nstub = benchmarks.stub_engine:StubEngine\n", encoding="utf-8"
    )
    before = os.environ.get("PYTHONPATH", "")
    here = str(Path(__file__).parents[1])
    os.environ["PYTHONPATH"] = os.pathsep.join(word for word in (str(info.parent.resolve()), here, before) if word)
    try:
        yield
    finally:
        os.environ["PYTHONPATH"] = before


def _same(one: Path, other: Path) -> bool:
    return all(first == second for first, second in zip(rows(one), rows(other), strict=True))


def _family(pid: int) -> list[int]:
    """A process and all that it has started, itself first."""
    found = [pid]
    for each in found:
        try:
            for task in Path(f"/proc/{each}/task").iterdir():
                found += [int(word) for word in (task / "children").read_text().split()]
        except OSError:
            continue
    return found


def _written(out: Path) -> int:
    """Bytes of the records in a folder of results."""
    places = (out / "results.jsonl", *(out / "records").glob("part-*.parquet"))
    return sum(place.stat().st_size for place in places if place.is_file())


def _memory(pid: int, *, shared: bool = True) -> int:
    """Bytes that a process has, of shared pages its share; without `shared`, none of those that processes exchange data in."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    kinds = ("Pss:",) if shared else ("Pss_Anon:", "Pss_File:")
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith(kinds))


def _processor_s(pid: int) -> float | None:
    try:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def _busy_s() -> float:
    """Seconds that all cores together have worked since the start of the machine."""
    user, nice, system, _, _, interrupts, soft, *_ = map(int, Path("/proc/stat").read_text().split("\n")[0].split()[1:])
    return (user + nice + system + interrupts + soft) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=("throughput", "kills", "nodes", "rows"), default="throughput")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2, 4])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--nodes", type=int, nargs="*", default=[1, 2, 4, 8])
    parser.add_argument("--ray", action="store_true", help="kills: of a run through Ray")
    parser.add_argument("--pause-s", type=float, nargs=2, default=(2.0, 6.0), help="between kills: at least, at most")
    parser.add_argument("--actors", type=int, default=os.cpu_count(), help="0 leaves Ray away")
    parser.add_argument("--more", default="", help="further words of blemish inspect, as --more='--input-px 224'")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--side-px", type=int, default=SIDE_PX, help="rows: of the pictures")
    parser.add_argument("--limit-s", type=float, default=7200, help="rows: then it tells of those that are there")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    {"throughput": throughput, "kills": kills, "nodes": nodes, "rows": stub}[options.what](options)


if __name__ == "__main__":
    main()
