"""A running service around the fake engine, shared by the tests of this folder; see `plugin` for images that misbehave."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from blemish.serve.http.application import make_application
from blemish.serve.line import LineConfig
from blemish.serve.service import Service
from serve import plugin

LIMIT_S = 60.0


def picture(*, dark: bool | tuple[int, int, int, int] = False, colour: tuple[int, int, int] | None = None) -> bytes:
    """A PNG file: white, with a dark box (x0, y0, x1, y1), or with the colour that makes the engine misbehave."""
    pixels = np.full((120, 160, 3), 255, np.uint8)
    if dark:
        x0, y0, x1, y1 = (20, 20, 70, 60) if dark is True else dark
        pixels[y0:y1, x0:x1] = 10
    if colour is not None:
        pixels[:15, :20] = colour
    held = io.BytesIO()
    Image.fromarray(pixels).save(held, "PNG")
    return held.getvalue()


def wait_for(condition: Callable[[], Any], *, limit_s: float = LIMIT_S) -> Any:
    """What the condition gives once that is true; an AssertionError where it never is."""
    until = time.monotonic() + limit_s
    while not (found := condition()):
        assert time.monotonic() < until, "never true"
        time.sleep(0.02)
    return found


def line_of(data: Path, **tables: Any) -> LineConfig:
    """The configuration of a small service in a data folder."""
    serve = {
        "data": str(data),
        "workers": 1,
        "allowed_hosts": ["testserver"],
        "wait_ms": 5.0,
        **tables.pop("serve", {}),
    }
    model = {"model": {"engine": "served-darkness"}, "vocabulary": {"defects": "scratch, stain"}}
    return LineConfig.from_dict({**model, "retention": {"min_free_mb": 0}, "serve": serve, **tables})


@contextmanager
def running(folder: Path, **tables: Any) -> Iterator[tuple[Service, TestClient]]:
    """A service, ready, and a client of its application."""
    environment = plugin.install(folder / "plugin")
    service = Service(line_of(folder / "data", **tables), environment=environment)
    try:
        with TestClient(make_application(service), raise_server_exceptions=True) as client:
            wait_for(lambda: service.pool.is_ready)
            yield service, client
    finally:
        service.close()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, TestClient]]:
    """One service for the tests of a module."""
    with running(tmp_path_factory.mktemp("served")) as both:
        yield both


def post(client: TestClient, *files: tuple[str, bytes], **form: Any) -> Any:
    """The answer to a request with images."""
    return client.post("/v1/inspections", files=[("images", file) for file in files], data=form)
