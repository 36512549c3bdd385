"""`blemish serve --demo`, as a person starts it: the shipped model, the simulated line, the page in a browser.

BLEMISH_SCREENSHOTS names a folder that gets pictures of the page (those of docs/serve.md are made so).
"""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from blemish.serve.client import Client
from browser import Page, open_browser
from serve.conftest import wait_for
from serve.servers import free_port

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

PARTS = 18
LIMIT_S = 600.0
SIZE = (1280, 860)


def keep(page: Page, name: str) -> None:
    """A picture of the page, where one is wanted."""
    shot = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    assert len(set(shot.resize((64, 64)).tobytes())) > 50  # something is to be seen
    folder = os.environ.get("BLEMISH_SCREENSHOTS")
    if folder is not None:
        Path(folder).mkdir(parents=True, exist_ok=True)
        shot.save(Path(folder, f"serve-{name}.jpg"), quality=85)


def test_one_command_shows_a_line_at_work(tmp_path: Path) -> None:
    port = free_port()
    opened = tmp_path / "opened"
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {opened}\n')
    browser.chmod(0o755)
    command = [sys.executable, "-m", "blemish", "serve", "--demo", "--port", str(port), "--log", "warning"]
    served = subprocess.Popen(
        command, cwd=tmp_path, env={**os.environ, "BROWSER": str(browser)}, stderr=subprocess.PIPE
    )
    try:
        address = f"http://127.0.0.1:{port}/"
        wait_for(lambda: opened.is_file() and opened.read_text().strip() == address, limit_s=LIMIT_S)
        with Client(address) as client:
            wait_for(lambda: sum(1 for _ in client.inspections(state="done")) >= PARTS, limit_s=LIMIT_S)
            assert {each["verdict"] for each in client.inspections()} >= {"ok", "ng"}  # it tells parts apart
        assert (tmp_path / "blemish-demo-data").is_dir()
        with open_browser(tmp_path / "profile") as page:
            page.visit(f"{address}page/", size=SIZE)
            page.wait(f"document.querySelectorAll('.card').length >= {PARTS}")
            page.wait(
                "[...document.querySelectorAll('.card img')].every(image => image.complete && image.naturalWidth)"
            )
            page.wait("document.querySelectorAll('.counts [data-verdict]').length === 3")
            keep(page, "live")
            page.press("2")
            page.wait("document.querySelectorAll('.stage img').length === 2")
            page.wait(
                "[...document.querySelectorAll('.stage img')].every(image => image.complete && image.naturalWidth)"
            )
            keep(page, "review")
            page.press("r")
            page.wait("document.querySelector('.side [role=status]').textContent.startsWith('1 of')")
            page.press("4")
            page.wait("document.querySelectorAll('.plots figure').length === 6")
            keep(page, "statistics")
            assert page.errors == []
        with Client(address) as client:
            assert [each["review"] for each in client.inspections(review="reject")] == ["reject"]
        served.send_signal(signal.SIGINT)
        said = served.communicate(timeout=120)[1].decode()
        assert served.returncode == 130
        assert said.count("\n") == 1, said  # it says that it was interrupted, and no more
    finally:
        served.kill()
        served.wait()
