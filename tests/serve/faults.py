"""`blemish serve` as a process under load, and what must hold after any fault: each accepted image has one record."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import tomli_w

from blemish.serve.client import Client
from serve import plugin
from serve.conftest import picture, wait_for
from serve.servers import free_port

ROUNDS = int(os.environ.get("BLEMISH_FAULT_ROUNDS", "2"))  # of each fault
CLIENTS, IMAGES = 3, 8  # of each
LIMIT_S = 120.0


class Served:
    """The service on one port, which can be killed and started again.

    Args:
        folder: of its configuration and log.
        data: of its images; by default below `folder`.
        environment: more variables.
        **tables: more tables of its configuration.
    """

    def __init__(
        self, folder: Path, *, data: Path | None = None, environment: Mapping[str, str] | None = None, **tables: Any
    ) -> None:
        self.port = free_port()
        self.data = data or folder / "data"
        self._environment = {**os.environ, **plugin.install(folder / "plugin"), **(environment or {})}
        self._config = folder / "line.toml"
        serve = {"port": self.port, "data": str(self.data), "workers": 1, "request_limit_s": 60.0}
        whole = {
            "model": {"engine": "served-darkness"},
            "vocabulary": {"defects": "scratch, stain"},
            "retention": {"min_free_mb": 0},
            **tables,
            "serve": serve | tables.get("serve", {}),
        }
        self._config.write_text(tomli_w.dumps(whole))
        self._log = (folder / "log").open("ab")
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [sys.executable, "-m", "blemish", "serve", "--config", str(self._config)]
        self.process = subprocess.Popen(command, env=self._environment, stdout=self._log, stderr=self._log)

    def workers(self) -> list[int]:
        assert self.process is not None
        found: list[int] = []
        for place in Path(f"/proc/{self.process.pid}/task").glob("*/children"):
            with suppress(OSError):  # a thread that has ended meanwhile
                found += map(int, place.read_text().split())
        return found

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)
        self._log.close()


def under_load(served: Served, fault: Callable[[], None]) -> list[dict[str, Any]]:
    """Images from several clients, and the fault in their midst; then every image has one record, and only one.

    Returns:
        The inspections, the newest first.
    """
    answered: list[str] = []
    failed: list[BaseException] = []
    slow = picture(colour=plugin.SLOW)

    def send(number: int) -> None:
        try:
            with Client(served.address, retry_s=LIMIT_S, timeout_s=LIMIT_S) as client:
                for image in range(IMAGES):
                    name = f"{number}-{image}.png"
                    client.inspect(slow if image % 4 == 0 else picture(dark=True), name=name)
                    answered.append(name)
        except BaseException as error:
            failed.append(error)

    with Client(served.address) as client:
        wait_for(client.is_ready, limit_s=2 * LIMIT_S)
    threads = [threading.Thread(target=send, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    wait_for(lambda: len(answered) >= CLIENTS)
    time.sleep(random.uniform(0, 0.4))
    fault()
    for thread in threads:
        thread.join(2 * LIMIT_S)
    assert not failed, failed
    assert len(answered) == CLIENTS * IMAGES
    with Client(served.address) as client:
        wait_for(lambda: not list(client.inspections(state="waiting")))
        found = list(client.inspections())
    counted = Counter(each["name"] for each in found if each["state"] == "done")
    assert set(counted) == set(answered)
    assert set(counted.values()) == {1}, counted
    return found
