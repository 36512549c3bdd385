"""How many images a second several processes inspect, alone and through Ray, and with how much memory (docs/scale-measured.md).

python -m benchmarks.scale --images 1000 --out scale            # throughput and memory, results compared row for row
python -m benchmarks.scale kills --images 400 --out scale       # 20 random kills of workers and of the driver
python -m benchmarks.scale rows --images 1000000 --out scale    # a stub in the model's place: what the rest costs
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
from collections.abc import Iterator
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
    peak_bytes: int = 0  # resident, of all processes together (shared pages count once a process)
    driver: list[tuple[float, int]] = field(default_factory=list)  # seconds, bytes of the first process alone


def render(folder: Path, count: int) -> Path:
    """So many small pictures with a blob here and there."""
    numbers = np.random.default_rng(0)
    for number in range(count):
        path = folder / f"{number // 1000:03d}" / f"{number:06d}.jpg"
        if path.is_file():
            continue
        low = numbers.integers(110, 200, (8, 8, 3), dtype=np.uint8)
        pixels = low.repeat(SIDE_PX // 8, 0).repeat(SIDE_PX // 8, 1)
        if number % 5 == 0:
            x, y = numbers.integers(20, SIDE_PX - 60, 2)
            pixels[y : y + 30, x : x + 40] = 20
        save(pixels, path)
    return folder


def run(*words: object, limit_s: float = 7200) -> Used:
    """A command of Blemish, watched."""
    used = Used()
    started = time.perf_counter()
    command = [sys.executable, "-m", "blemish", *map(str, words)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while process.poll() is None:
        sizes = {pid: _resident(pid) for pid in _family(process.pid)}
        used.peak_bytes = max(used.peak_bytes, sum(sizes.values()))
        used.driver.append((time.perf_counter() - started, sizes.get(process.pid, 0)))
        if time.perf_counter() - started > limit_s:
            process.kill()
        time.sleep(POLL_S)
    used.seconds = time.perf_counter() - started
    if process.returncode not in (0, 3):
        raise SystemExit(f"{command} ended with {process.returncode}")
    return used


def rows(out: Path) -> Iterator[dict[str, Any]]:
    """The records of a run without the places of its pictures."""
    for record in read_records(out):
        yield {**record, **dict.fromkeys(PICTURES)}


def throughput(options: argparse.Namespace) -> None:
    """Images a second of 1, 2, 4 processes and of Ray; the same rows everywhere."""
    images = render(options.out / "images", options.images)
    ways: dict[str, tuple[object, ...]] = {"one process, all threads": ("--workers", 0)}
    ways |= {f"{count} workers": ("--workers", count) for count in options.workers}
    ways |= {f"Ray, {options.actors} actors": ("--ray", "local")} if options.actors else {}
    found: dict[str, Any] = {}
    reference: Path | None = None
    for name, words in ways.items():
        out = options.out / name.replace(" ", "-").replace(",", "")
        used = run("inspect", images, "--out", out, "--overwrite", "-q", *words, *options.more.split())
        duration = json.loads((out / "run.json").read_text(encoding="utf-8"))["duration_s"]
        same = "-"
        if words != ("--workers", 0):
            same = "the first" if reference is None else str(_same(reference, out))
            reference = reference or out
        found[name] = {
            "images/s": round(options.images / duration, 2),
            "seconds": round(duration, 1),
            "with start": round(used.seconds, 1),
            "peak MB": used.peak_bytes // 2**20,
            "same rows": same,
        }
        print(name, found[name], flush=True)
    (options.out / "throughput.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def kills(options: argparse.Namespace) -> None:
    """Random kills of workers and, every fourth time, of the driver, which is then resumed; compared with a run of no kills."""
    images = render(options.out / "images", options.images)
    whole, out = options.out / "whole", options.out / "killed"
    run("inspect", images, "--out", whole, "--overwrite", "-q", "--workers", 2)
    chance, done = random.Random(options.seed), 0
    words = ["--overwrite"]
    while True:
        command = [
            sys.executable,
            "-m",
            "blemish",
            "inspect",
            str(images),
            "--out",
            str(out),
            "-q",
            "--workers",
            "2",
            *words,
        ]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        while process.poll() is None and done < options.kills:
            time.sleep(chance.uniform(2.0, 6.0))
            family = _family(process.pid)
            target = process.pid if done % 4 == 3 else chance.choice(family[1:] or [process.pid])
            with suppress(ProcessLookupError):
                os.kill(target, signal.SIGKILL)
                done += 1
        process.wait()
        if process.returncode in (0, 3):
            break
        words = ["--resume"]
    print(json.dumps({"kills": done, "same rows": _same(whole, out)}))


def stub(options: argparse.Namespace) -> None:
    """A table of paths to a few images, many times over, through Ray with an engine that does nothing."""
    import pyarrow
    from pyarrow import parquet

    images = sorted(render(options.out / "images", 200).rglob("*.jpg"))
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
            *("--out", options.out / "rows", "--overwrite"),
            limit_s=options.limit_s,
        )
    begin = [size for seconds, size in used.driver if 0.2 < seconds / used.seconds < 0.3]
    end = [size for seconds, size in used.driver if seconds / used.seconds > 0.9]
    told = json.loads((options.out / "rows" / "run.json").read_text(encoding="utf-8"))
    facts = {
        "images": sum(told["counts"].values()),
        "images/s": round(options.images / told["duration_s"], 1),
        "driver MB after a quarter": max(begin, default=0) // 2**20,
        "driver MB at the end": max(end, default=0) // 2**20,
        "peak MB of all": used.peak_bytes // 2**20,
        "bytes a row": sum(path.stat().st_size for path in (options.out / "rows" / "records").iterdir())
        // options.images,
    }
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "blemish", "report", str(options.out / "rows"), "-q"], check=True)
    facts["seconds of the report"] = round(time.perf_counter() - started, 1)
    facts["MB of the report"] = round((options.out / "rows" / "report.html").stat().st_size / 2**20, 1)
    print(json.dumps(facts, indent=2))


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


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=("throughput", "kills", "rows"), default="throughput")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2, 4])
    parser.add_argument("--actors", type=int, default=os.cpu_count(), help="0 leaves Ray away")
    parser.add_argument("--more", default="", help="further words of blemish inspect, as --more='--input-px 224'")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit-s", type=float, default=7200)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    {"throughput": throughput, "kills": kills, "rows": stub}[options.what](options)


if __name__ == "__main__":
    main()
