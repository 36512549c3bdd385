"""The README's lines for one's own photos run as they are printed, on a rendered series of one product."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from blemish import Client
from blemish.images import save
from blemish.synthesis import HELD_OUT_SEEDS, render_series
from printed import blocks_of, run_blocks

README = Path(__file__).parents[1] / "README.md"
LIMIT_S = 600
GOOD = 100  # the fewest for 1 %, and one more
# A series that `learn` takes as it is: it asks about others, of which good images look strange (docs/profiles.md)
SEED, SIDE_PX = HELD_OUT_SEEDS + 1_600_001, 192
PORT = 8765  # of `blemish serve`, where nothing says another


def command_lines() -> list[str]:
    """The lines of the block under "Your own photos"."""
    section = README.read_text(encoding="utf-8").split("## Your own photos\n", 1)[1]
    return re.findall(r"```\n(.*?)```", section, re.DOTALL)[0].splitlines()


def write_photos(folder: Path) -> None:
    pieces = render_series(SEED, pieces=GOOD + 8, defective=2, size_px=SIDE_PX)
    good = iter([piece.image for piece in pieces if not piece.mask.any()])
    bad = [piece.image for piece in pieces if piece.mask.any()]
    for number in range(GOOD):
        save(next(good), folder / "good-photos" / f"{number:03}.png")
    for number in range(3):
        save(next(good), folder / "good" / f"{number}.png")
        save(next(good), folder / "photos" / f"{number}.png")
    save(bad[0], folder / "photos" / "3.png")
    save(bad[1], folder / "part.png")


def serve_for_a_moment(line: str, folder: Path) -> None:
    """Runs a line that ends only when it is told to, until it is ready for images."""
    with socket.socket() as port:
        taken = port.connect_ex(("127.0.0.1", PORT)) == 0
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    with subprocess.Popen(
        ["bash", "-c", f"exec {line.partition('#')[0]}{'--port 0' if taken else ''}"],
        cwd=folder,
        env={**os.environ, "PATH": path},
        stdout=subprocess.PIPE,
        text=True,
    ) as service:
        try:
            assert service.stdout is not None
            address = service.stdout.readline().split()[0].rstrip(";/")
            until = time.monotonic() + LIMIT_S
            with Client(address) as client:
                while not client.is_ready():
                    assert time.monotonic() < until
                    time.sleep(0.5)
                assert client.inspect(folder / "part.png")["verdict"] in ("ok", "review", "ng")
            service.send_signal(signal.SIGTERM)
            assert service.wait(60) in (0, -signal.SIGTERM)  # uvicorn raises the signal again when it has stopped
        finally:
            service.kill()


@pytest.mark.slow
@pytest.mark.timeout(3 * LIMIT_S)
def test_the_lines_for_ones_own_photos_run_as_printed(tmp_path: Path) -> None:
    pytest.importorskip("uvicorn", reason="the extra serve is not installed")
    python = [block for block in blocks_of(README) if block[0] == "python"]
    lines = command_lines()
    assert {line.split()[1] for line in lines} >= {"inspect", "learn", "calibrate", "serve", "report", "synthesize"}
    write_photos(tmp_path)
    for line in lines:
        if line.startswith("blemish serve"):
            serve_for_a_moment(line, tmp_path)
        else:
            run_blocks([("bash", line)], tmp_path, limit_s=LIMIT_S)
    run_blocks(python, tmp_path, limit_s=LIMIT_S)
    page = (tmp_path / "results" / "report.html").read_text(encoding="utf-8")
    assert "photos/3.png" in page
    for made in ("compared/results.jsonl", "part.blemish", "calibration.json", "ds"):
        assert (tmp_path / made).exists()
