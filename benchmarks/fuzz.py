"""Damaged files of every format through every reader: none may end the run, stall it or fill the memory.

`python -m benchmarks.fuzz --files 10000`: seeds of every sample format (`benchmarks.fuzz_seeds`) are mutated, the same way for
the same `--seed`, and read as files: pages, header, size, mask, samples, picture. Each is read or refused with an ImageError;
anything else is unexpected. A process of its own reads them, so that a crash or a hang costs one file and is counted.
It ends with 1 where anything was unexpected, took more than 5 s or more than 1 GB. `--keep FOLDER` keeps those files.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import struct
import subprocess
import sys
import tempfile
import threading
import time
import warnings
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.fuzz_seeds import Seed, make_seeds
from blemish import images
from blemish.errors import ImageError
from blemish.images import isolation

MOST_S, MOST_BYTES = 5.0, 10**9
GIVE_UP_S = 30.0  # after which a hang is not waited for
EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x10000, 0x4000)
HEADER_BYTES = 160


@dataclass
class Tally:
    """What became of the files of one format."""

    files: int = 0
    read: int = 0
    refused: int = 0
    unexpected: list[str] = field(default_factory=list)
    slow: list[str] = field(default_factory=list)
    large: list[str] = field(default_factory=list)
    most_s: float = 0.0
    most_bytes: int = 0


def mutated(seeds: list[Seed], seed: int, index: int) -> tuple[Seed, bytes]:
    """File number `index` of a run: a seed, cut, flipped, overwritten, moved or joined with another."""
    rng = np.random.default_rng((seed, index))
    chosen = seeds[index % len(seeds)]
    data = bytearray(chosen.data)
    if chosen.kind == "PNG" and rng.random() < 0.4:
        _mutate_rows(data, rng)
        return chosen, bytes(data)
    for _ in range(int(rng.integers(1, 4))):
        if len(data) > 8:
            _mutate(data, rng, seeds)
    if chosen.kind == "PNG" and rng.random() < 0.7:
        _mend_png(data)
    return chosen, bytes(data)


def _mutate(data: bytearray, rng: np.random.Generator, seeds: list[Seed]) -> None:
    # half of all changes hit the header, where a few bytes decide everything
    end = min(len(data), HEADER_BYTES) if rng.random() < 0.5 else len(data)
    at = int(rng.integers(0, end))
    way = rng.integers(0, 8)
    if way == 0:
        for _ in range(int(rng.integers(1, 16))):
            data[int(rng.integers(0, end))] ^= 1 << int(rng.integers(0, 8))
    elif way == 1:
        data[at : at + 1] = bytes([int(rng.integers(0, 256))])
    elif way in (2, 3):
        value, order = EXTREMES[int(rng.integers(0, len(EXTREMES)))], "<>"[int(rng.integers(0, 2))]
        packed = struct.pack(order + "I", value) if rng.random() < 0.5 else struct.pack(order + "H", value & 0xFFFF)
        data[at : at + len(packed)] = packed
    elif way == 4:
        del data[at:]
    elif way == 5:
        length = int(rng.integers(1, 200))
        data[at:at] = rng.bytes(length) if rng.random() < 0.5 else bytes(data[at : at + length])
    elif way == 6:
        del data[at : at + int(rng.integers(1, 200))]
    else:
        other = seeds[int(rng.integers(0, len(seeds)))].data
        start = int(rng.integers(0, len(other)))
        data[at : at + 256] = other[start : start + 256]


def _mutate_rows(data: bytearray, rng: np.random.Generator) -> None:
    """Changes the rows of a PNG below their compression, where damage would otherwise be found first."""
    at = data.index(b"IDAT") - 4
    (length,) = struct.unpack(">I", data[at : at + 4])
    rows = bytearray(zlib.decompress(data[at + 8 : at + 8 + length]))
    for _ in range(int(rng.integers(1, 30))):
        rows[int(rng.integers(0, len(rows)))] = int(rng.integers(0, 256))
    if rng.random() < 0.3:
        del rows[int(rng.integers(0, len(rows))) :]
    body = zlib.compress(bytes(rows))
    data[at : at + 12 + length] = struct.pack(">I", len(body)) + b"IDAT" + body + bytes(4)
    if rng.random() < 0.5:  # the header's last five bytes: depth, colours, codings
        data[24 + int(rng.integers(0, 5))] = int(rng.integers(0, 17))
    _mend_png(data)


def _mend_png(data: bytearray) -> None:
    """Gives the chunks of a PNG their right checksums, or nothing behind them would be looked at."""
    at = 8
    while at + 12 <= len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        if at + 12 + length > len(data):
            return
        data[at + 8 + length : at + 12 + length] = struct.pack(">I", zlib.crc32(data[at + 4 : at + 8 + length]))
        at += 12 + length


def read_all(path: Path) -> str:
    """Reads a file in every way: "read", "refused", or the exception that should not have come."""
    outcome = "read"
    try:
        pages = images.list_images(path)
        for page in pages[:3]:
            images.read_header(page)
            try:
                images.read(page, value_range=("1%", "99%"))
            except ImageError:
                outcome = "refused"
            for reader in (images.read_size, images.read_mask):
                with suppress(ImageError):
                    reader(page)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        return f"{type(error).__name__}: {error}"
    return outcome


def serve(seed: int, first: int, last: int) -> None:
    """Reads files `first` to `last`, with a line of JSON after each."""
    warnings.simplefilter("ignore")
    seeds = make_seeds()
    with tempfile.TemporaryDirectory() as folder:
        for index in range(first, last):
            chosen, data = mutated(seeds, seed, index)
            path = Path(folder) / f"file{chosen.suffix}"
            path.write_bytes(data)
            _forget_peak()
            started = time.perf_counter()
            outcome = read_all(path)
            line = {"index": index, "outcome": outcome, "s": time.perf_counter() - started, "bytes": _peak_bytes()}
            sys.stdout.write(json.dumps(line) + "\n")
            sys.stdout.flush()


def _pids() -> list[int]:
    return [os.getpid(), *(process.child.pid for process in isolation._processes)]


def _forget_peak() -> None:
    for pid in _pids():
        try:
            Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")
        except OSError:  # not Linux
            return


def _peak_bytes() -> int:
    total = 0
    for pid in _pids():
        try:
            status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
        except OSError:
            return 0
        total += next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM")), 0)
    return total


def outcomes(seed: int, files: int) -> Iterator[dict[str, Any]]:
    """What became of each file; one whose process crashed or hung has that outcome."""
    first = 0
    while first < files:
        command = [sys.executable, "-m", "benchmarks.fuzz", "--serve", str(seed), str(first), str(files)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        lines: queue.Queue[str] = queue.Queue()
        assert process.stdout is not None
        reading = threading.Thread(target=_forward, args=(process.stdout, lines), daemon=True)
        reading.start()
        limit_s = 120.0  # the first file waits for the seeds
        while first < files:
            try:
                line = lines.get(timeout=limit_s)
            except queue.Empty:
                yield {"index": first, "outcome": f"hang of more than {limit_s:.0f} s", "s": limit_s, "bytes": 0}
                first += 1
                break
            if not line:
                yield {"index": first, "outcome": f"crash (code {process.wait()})", "s": 0.0, "bytes": 0}
                first += 1
                break
            limit_s = GIVE_UP_S
            yield json.loads(line)
            first += 1
        process.kill()
        process.wait()
        reading.join()
        process.stdout.close()


def _forward(stream: Any, lines: queue.Queue[str]) -> None:
    for line in stream:
        lines.put(line)
    lines.put("")


def run(files: int, *, seed: int = 0, keep: Path | None = None, progress: bool = False) -> dict[str, Tally]:
    """The tallies of a run by format."""
    seeds = make_seeds()
    tallies: defaultdict[str, Tally] = defaultdict(Tally)
    for found in outcomes(seed, files):
        index, outcome = found["index"], found["outcome"]
        chosen = seeds[index % len(seeds)]
        tally = tallies[chosen.kind]
        tally.files += 1
        tally.read += outcome == "read"
        tally.refused += outcome == "refused"
        name = f"{index} ({chosen.name})"
        if outcome not in ("read", "refused"):
            tally.unexpected.append(f"{name}: {outcome}")
        if found["s"] > MOST_S:
            tally.slow.append(f"{name}: {found['s']:.1f} s")
        if found["bytes"] > MOST_BYTES:
            tally.large.append(f"{name}: {found['bytes'] / 1e6:,.0f} MB")
        bad = outcome not in ("read", "refused") or found["s"] > MOST_S or found["bytes"] > MOST_BYTES
        if keep is not None and bad:
            keep.mkdir(parents=True, exist_ok=True)
            (keep / f"{index}{chosen.suffix}").write_bytes(mutated(seeds, seed, index)[1])
        tally.most_s, tally.most_bytes = max(tally.most_s, found["s"]), max(tally.most_bytes, found["bytes"])
        if progress and index % 500 == 499:
            sys.stderr.write(f"{index + 1:,} of {files:,}\n")
    return dict(tallies)


def table(tallies: dict[str, Tally]) -> list[str]:
    """The tallies as Markdown, with every file that was not as it should be below."""
    lines = [
        "| format | files | read | refused | unexpected | above 5 s | above 1 GB | slowest | most memory |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    total: Counter[str] = Counter()
    for kind, tally in sorted(tallies.items()):
        counts = {
            "files": tally.files,
            "read": tally.read,
            "refused": tally.refused,
            "unexpected": len(tally.unexpected),
            "slow": len(tally.slow),
            "large": len(tally.large),
        }
        total.update(counts)
        cells = " | ".join(f"{count:,}" for count in counts.values())
        lines.append(f"| {kind} | {cells} | {tally.most_s:.2f} s | {tally.most_bytes / 1e6:,.0f} MB |")
    lines.append("| all | " + " | ".join(f"{total[name]:,}" for name in counts) + " | | |")
    bad = [line for tally in tallies.values() for line in (*tally.unexpected, *tally.slow, *tally.large)]
    return [*lines, *([""] if bad else []), *bad]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz", description=__doc__)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=None, metavar="FOLDER", help="keep what was not as it should be")
    parser.add_argument("--serve", type=int, nargs=3, default=None, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve is not None:
        serve(*arguments.serve)
        return
    tallies = run(arguments.files, seed=arguments.seed, keep=arguments.keep, progress=True)
    print("\n".join(table(tallies)))
    if any(tally.unexpected or tally.slow or tally.large for tally in tallies.values()):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
