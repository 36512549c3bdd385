"""A disk that fills up, a camera that freezes, a clock that jumps: what was accepted has one record.

Two runs of each by default; BLEMISH_FAULT_ROUNDS=20 makes twenty of them.
"""

from __future__ import annotations

import io
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from blemish.serve.client import Client
from serve.conftest import picture, wait_for
from serve.faults import ROUNDS, Served, under_load
from serve.servers import mounted

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

DISK_MB = 8
FULL_S = 1.5
# Python runs it in each new process: the clock of the service and its workers is off by the seconds in a file.
CLOCK = """
import os, time
from pathlib import Path
file, real, real_ns = Path(os.environ["BLEMISH_TEST_CLOCK"]), time.time, time.time_ns
time.time = lambda: real() + int(file.read_text())
time.time_ns = lambda: real_ns() + 10**9 * int(file.read_text())
"""
DAY_S = 86_400
JUMPS_S = (-400 * DAY_S, -DAY_S, -3_700, -30, 30, 3_700, DAY_S, 400 * DAY_S)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a few megabytes."""
    with mounted(tmp_path / "disk", f"size={DISK_MB}m") as place:
        yield place


@pytest.mark.parametrize("turn", range(ROUNDS))
def test_the_disk_is_full_for_a_while(tmp_path: Path, disk: Path, turn: int) -> None:
    served = Served(tmp_path, data=disk / "data")
    served.start()
    codes: Counter[int] = Counter()

    def fill() -> None:
        ballast = disk / "ballast"
        with suppress(OSError), ballast.open("wb", buffering=0) as stream:
            while True:
                stream.write(bytes(4096))
        until = time.monotonic() + FULL_S
        while time.monotonic() < until:
            with suppress(OSError), ballast.open("ab", buffering=0) as stream:  # what was freed meanwhile
                while True:
                    stream.write(bytes(4096))
            files = {"images": ("refused.png", picture(dark=True))}
            codes[httpx.post(f"{served.address}/v1/inspections", files=files, timeout=60).status_code] += 1
            assert httpx.get(f"{served.address}/health/live", timeout=60).status_code == 200
        ballast.unlink()

    try:
        under_load(served, fill)
        assert codes[507] + codes[503] > 0, codes
        assert set(codes) <= {507, 503}, codes
        kept = {path.name.partition(".")[0] for path in (disk / "data" / "images").rglob("*.*")}
        with Client(served.address) as client:
            assert kept == {each["id"] for each in client.inspections()}  # what was refused left no file
    finally:
        served.stop()


def frozen_camera(frames: int, opened: list[float], end: threading.Event) -> ThreadingHTTPServer:
    """A camera that sends some frames as motion JPEG each time it is opened, and then nothing more."""
    held = io.BytesIO()
    Image.fromarray(np.full((64, 64, 3), 200, np.uint8)).save(held, "JPEG")
    frame = held.getvalue()

    class Freezing(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            opened.append(time.monotonic())
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            for _ in range(frames):
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(frame)}\r\n\r\n"
                self.wfile.write(head.encode() + frame + b"\r\n")
                time.sleep(0.02)
            end.wait(60)

        def log_message(self, *_: Any) -> None:
            pass

    return ThreadingHTTPServer(("127.0.0.1", 0), Freezing)


def test_a_camera_that_freezes_again_and_again_is_opened_each_time(tmp_path: Path) -> None:
    opened: list[float] = []
    end = threading.Event()
    server = frozen_camera(30, opened, end)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/stream.mjpg"
    camera = {"name": "cam", "kind": "camera", "url": url, "interval_s": 0.1, "freeze_s": 1.0, "retry_s": 0.1}
    served = Served(tmp_path, sources=[camera])
    served.start()
    try:
        wait_for(lambda: len(opened) > ROUNDS, limit_s=60 + 30 * ROUNDS)
        with Client(served.address) as client:
            source = httpx.get(f"{served.address}/v1/sources", timeout=60).json()["sources"][0]
            now = [each["id"] for each in client.inspections(source="cam")]
            wait_for(lambda: not set(now) & {each["id"] for each in client.inspections(state="waiting")})
            found = [each for each in client.inspections(source="cam") if each["id"] in now]
        assert source["reconnects"] >= ROUNDS
        assert {each["state"] for each in found} == {"done"}
        assert len({each["name"] for each in found}) == len(found) >= ROUNDS  # at least one of each time
        assert source["frames"] >= 25 * ROUNDS
        # each frame was taken, or is counted as skipped, or is the newest one
        assert source["frames"] - source["taken"] - source["skipped"] in range(-2, 3)
    finally:
        end.set()
        served.stop()
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("turn", range(ROUNDS))
def test_the_clock_jumps(tmp_path: Path, turn: int) -> None:
    offset = tmp_path / "offset"
    offset.write_text("0")
    served = Served(tmp_path, environment={"BLEMISH_TEST_CLOCK": str(offset)})
    (tmp_path / "plugin" / "sitecustomize.py").write_text(CLOCK)
    served.start()

    def jump_by(seconds: int) -> None:
        renewed = offset.with_suffix(".new")
        renewed.write_text(str(seconds))
        os.replace(renewed, offset)  # noqa: PTH105  (whole at any time)

    def jump() -> None:
        for seconds in random.sample(JUMPS_S, 3):
            jump_by(seconds)
            time.sleep(random.uniform(0.1, 0.4))

    try:
        under_load(served, jump)
        with Client(served.address) as client:
            for seconds in (400 * DAY_S, -400 * DAY_S):
                jump_by(seconds)
                made = client.inspect(picture(dark=True), name=f"{seconds}.png")
                newest = next(iter(client.inspections(limit=1)))  # the list goes by acceptance, whatever the clock says
                assert newest["id"] == made["id"]
                year = datetime.fromtimestamp(time.time() + seconds, UTC).year
                assert newest["accepted"].startswith(str(year))  # the clock of the service did jump
    finally:
        served.stop()
