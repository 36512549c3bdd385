"""The pages on the service: their configurations are read, their curl lines and their Python run against one."""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
import tomllib
from pathlib import Path
from typing import Any

import pytest

from blemish.serve import client as client_module
from blemish.serve.line import LineConfig
from blemish.serve.server import run_service
from serve import plugin
from serve.conftest import line_of, picture, wait_for

DOCS = Path(__file__).parents[2] / "docs"
PAGES = ("serve.md", "serve-api.md", "serve-line.md")


def blocks(page: str, language: str) -> list[str]:
    found: list[str] = re.findall(rf"^```{language}\n(.*?)^```", (DOCS / page).read_text(encoding="utf-8"), re.M | re.S)
    return found


@pytest.mark.parametrize(("page", "text"), [(page, text) for page in PAGES for text in blocks(page, "toml")])
def test_every_configuration_is_one(page: str, text: str) -> None:
    tables = tomllib.loads(text)
    if any(source.get("trigger") == "mqtt" for source in tables.get("sources", ())):
        tables["mqtt"] = {"host": "broker"}
    assert LineConfig.from_dict(tables) != LineConfig()


def test_all_routes_are_documented(tmp_path: Path) -> None:
    from serve.conftest import running

    text = (DOCS / "serve-api.md").read_text(encoding="utf-8") + (DOCS / "serve-line.md").read_text(encoding="utf-8")
    with running(tmp_path) as (_, client):
        for path in client.get("/v1/openapi.json").json()["paths"]:
            words = [word for word in path.split("/") if word and "{" not in word and word != "v1"]
            assert all(word in text for word in words), path


@pytest.mark.slow
def test_the_lines_and_the_python_of_the_pages_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("curl") is None:
        pytest.skip("no curl here (on Debian: apt-get install curl)")
    monkeypatch.chdir(tmp_path)
    for name in ("part.png", "other.png"):
        Path(name).write_bytes(picture(dark=True))
    found: list[str] = []
    stop = threading.Event()
    arguments: dict[str, Any] = {
        "started": lambda address, _service: found.append(address),
        "environment": plugin.install(tmp_path / "plugin"),
        "stop": stop,
    }
    thread = threading.Thread(
        target=run_service, args=(line_of(tmp_path / "data", serve={"port": 0}),), kwargs=arguments
    )
    thread.start()
    try:
        address = wait_for(lambda: found)[0].rstrip("/")
        with client_module.Client(address) as client:
            wait_for(client.is_ready)
        lines = [
            line
            for page in PAGES
            for block in blocks(page, "")
            for line in block.splitlines()
            if line.startswith("curl")
        ]
        assert len(lines) >= 7
        for line in lines:
            words = line.replace("http://127.0.0.1:8765", address).replace("curl ", "curl -sS --fail ", 1)
            done = subprocess.run(words, shell=True, capture_output=True, text=True, timeout=60, check=False)
            assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        assert Path("coco.zip").read_bytes()[:2] == b"PK"
        for page in PAGES:
            for block in blocks(page, "python"):
                exec(block.replace("http://127.0.0.1:8765", address), {"Path": Path})
        assert Path("overlay.jpg").read_bytes()[:2] == b"\xff\xd8"
    finally:
        stop.set()
        thread.join(60)
