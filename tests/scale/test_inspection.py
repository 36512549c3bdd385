"""A run over a cluster of Ray: the rows of one machine, whatever happens to processes on the way."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from blemish.exports.formats import export
from blemish.images import save
from blemish.runs.reading import read_records, results_from
from blemish.runs.run import inspect_folder
from blemish.scale.cluster import joined_cluster
from blemish.scale.inspection import inspect_sources
from plugged import plug_in

pytest.importorskip("ray", reason="the extra ray is not installed")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

OPTIONS: dict[str, Any] = {"engine": "darkness", "defects": "scratch, stain", "batch_size": 4}
PATHS = ("overlay", "mask", "maps")


@pytest.fixture(scope="module", autouse=True)
def small_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A local cluster of two cores that all tests here use."""
    with pytest.MonkeyPatch.context() as patch:
        plug_in(tmp_path_factory.mktemp("plugged"), patch)
        with joined_cluster("local", cpus=2):
            yield


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images with regions, two deep ones with a range that only both together tell, a broken one."""
    folder = tmp_path_factory.mktemp("images") / "images"
    numbers = np.random.default_rng(0)
    for number in range(40):
        pixels = numbers.integers(20, 256, (6, 8), dtype=np.uint8).repeat(10, 0).repeat(10, 1)
        save(pixels, folder / f"{number % 3}" / f"{number}.png")
    for number, most in ((7, 900), (29, 5000)):
        Image.fromarray((numbers.random((60, 80)) * most).astype(np.uint16)).save(folder / f"deep{number}.png")
    (folder / "1" / "broken.png").write_text("text")
    return folder


@pytest.fixture(scope="module")
def alone(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of one process."""
    out = tmp_path_factory.mktemp("alone") / "out"
    inspect_folder(images, out=out, workers=0, **OPTIONS)
    return out


def rows(out: Path) -> list[dict[str, Any]]:
    return [{**record, **dict.fromkeys(PATHS)} for record in read_records(out)]


def test_rows_are_those_of_one_machine(images: Path, alone: Path, tmp_path: Path) -> None:
    run = inspect_sources(images, out=tmp_path / "out", shard_images=16, pictures="all", **OPTIONS)
    assert rows(tmp_path / "out") == rows(alone)
    assert len(list((tmp_path / "out" / "records").glob("*.parquet"))) == 3
    for record, expected in zip(read_records(tmp_path / "out"), read_records(alone), strict=True):
        for kind in ("overlay", "mask"):
            assert (record[kind] is None) == (expected[kind] is None)
            if record[kind] is not None:
                assert (tmp_path / "out" / record[kind]).read_bytes() == (alone / expected[kind]).read_bytes()
    told = json.loads((tmp_path / "out" / "run.json").read_text(encoding="utf-8"))
    before = json.loads((alone / "run.json").read_text(encoding="utf-8"))
    assert told["counts"] == before["counts"]
    assert [told[name] for name in ("status", "setup", "value_ranges_used")] == [
        before[name] for name in ("status", "setup", "value_ranges_used")
    ]
    assert [error.source for error in run.counts.unreadable] == [(images / "1" / "broken.png").as_posix()]


def test_what_has_landed_is_not_inspected_again(images: Path, alone: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    inspect_sources(images, out=out, shard_images=16, **OPTIONS)
    parts = sorted((out / "records").glob("*.parquet"))
    parts[1].unlink()
    times = [part.stat().st_mtime_ns for part in (parts[0], parts[2])]
    run = inspect_sources(images, out=out, shard_images=16, resume=True, **OPTIONS)
    assert run.resumed == 43 - 16
    assert [part.stat().st_mtime_ns for part in (parts[0], parts[2])] == times
    assert rows(out) == rows(alone)


def test_images_with_which_processes_end_become_rows_with_an_error(images: Path, alone: Path, tmp_path: Path) -> None:
    black = tmp_path / "black.png"
    save(np.zeros((60, 80), np.uint8), black)
    named = [images / "0", black, images / "2"]
    run = inspect_sources(named, out=tmp_path / "out", shard_images=16, **{**OPTIONS, "engine": "ending"})
    assert [error.source for error in run.counts.unreadable] == [black.as_posix()]
    found = rows(tmp_path / "out")
    inspect_folder(named, out=tmp_path / "one", workers=0, **OPTIONS)
    expected = rows(tmp_path / "one")
    assert [row["source"] for row in found] == [row["source"] for row in expected]
    assert [row for row in found if row["source"] != black.as_posix()] == [
        row for row in expected if row["source"] != black.as_posix()
    ]


def test_other_tools_read_the_shards(images: Path, alone: Path, tmp_path: Path) -> None:
    inspect_sources(images / "0", out=tmp_path / "out", shard_images=8, pictures="masks", **OPTIONS)
    assert export(tmp_path / "out", "csv", out=tmp_path / "table.csv") == len(list((images / "0").iterdir()))
    assert [result.source for result in results_from(tmp_path / "out")] == [
        record["source"] for record in read_records(tmp_path / "out")
    ]


def test_actors_and_readers_that_are_killed_change_no_row(images: Path, alone: Path, tmp_path: Path) -> None:
    """Processes of the cluster, killed one after the other while a run is under way."""
    ends, killed = threading.Event(), []

    def kill() -> None:
        chance = random.Random(0)
        while not ends.wait(1.0) and len(killed) < 2:
            working = [pid for pid, name in ray_processes().items() if "MapWorker" in name or "MapBatches" in name]
            if working:
                with suppress(ProcessLookupError):
                    os.kill(chance.choice(working), signal.SIGKILL)
                    killed.append(True)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        inspect_sources(images, out=tmp_path / "out", shard_images=8, **OPTIONS)
    finally:
        ends.set()
        killer.join()
    assert killed
    assert rows(tmp_path / "out") == rows(alone)


def ray_processes() -> dict[int, str]:
    """The processes of this test's cluster at work, by their numbers: Ray writes what they do into their names."""
    found = {}
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            name = place.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if name.startswith("ray::") and is_below(int(place.parent.name), os.getpid()):
                found[int(place.parent.name)] = name
    return found


def is_below(pid: int, ancestor: int) -> bool:
    """Whether a process was started by another one, or by one that this one started."""
    while pid > 1:
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        if pid == ancestor:
            return True
    return False


def test_a_run_whose_driver_is_killed_goes_on(images: Path, alone: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    program = (
        "from blemish.scale.inspection import inspect_sources\n"
        f"inspect_sources({str(images)!r}, out={str(out)!r}, cpus=2, shard_images=8, resume=True, **{OPTIONS!r})"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen([sys.executable, "-c", program], env=environment)
    for _ in range(6000):
        if list((out / "records").glob("part-*.parquet")) or process.poll() is not None:
            break
        time.sleep(0.1)
    process.kill()
    process.wait()
    landed = {path.name: path.stat().st_mtime_ns for path in (out / "records").glob("part-*.parquet")}
    assert landed
    run = inspect_sources(images, out=out, shard_images=8, resume=True, **OPTIONS)
    assert run.resumed >= 8 * (len(landed) - 1)
    assert {name: (out / "records" / name).stat().st_mtime_ns for name in landed} == landed
    assert rows(out) == rows(alone)
