"""kill -9 of workers, of the service and of PostgreSQL under load: no accepted image without a record, none twice.

Two runs of each by default; BLEMISH_FAULT_ROUNDS=20 makes twenty of them.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from blemish.serve.client import Client
from serve import plugin
from serve.conftest import picture, wait_for
from serve.servers import Postgres, free_port

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

ROUNDS = int(os.environ.get("BLEMISH_FAULT_ROUNDS", "2"))
CLIENTS, IMAGES = 3, 8  # of each
LIMIT_S = 120.0


class Served:
    """`blemish serve` as a process, which can be killed and started again on the same port."""

    def __init__(self, folder: Path, *, database: str | None = None) -> None:
        self.port = free_port()
        self._environment = {**os.environ, **plugin.install(folder / "plugin")}
        self._config = folder / "line.toml"
        lines = [
            '[model]\nengine = "served-darkness"\n[vocabulary]\ndefects = "scratch, stain"\n[retention]\nmin_free_mb = 0',
            f'[serve]\nport = {self.port}\ndata = "data"\nworkers = 1\nrequest_limit_s = 60.0',
            *([] if database is None else [f"database = {json.dumps(database)}"]),
        ]
        self._config.write_text("\n".join(lines))
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
        children = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        return [int(child) for place in children for child in place.read_text().split()]

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)
        self._log.close()


def under_load(served: Served, fault: Callable[[], None]) -> None:
    """Images from several clients, and the fault in their midst; then every image has one record, and only one."""
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
        counted = Counter(each["name"] for each in client.inspections() if each["state"] == "done")
        assert set(counted) == set(answered)
        assert set(counted.values()) == {1}, counted


@pytest.mark.parametrize("turn", range(ROUNDS))
def test_a_worker_is_killed(tmp_path: Path, turn: int) -> None:
    served = Served(tmp_path)
    served.start()
    try:
        under_load(served, lambda: [os.kill(pid, signal.SIGKILL) for pid in served.workers()[:1]] and None)
    finally:
        served.stop()


@pytest.mark.parametrize("turn", range(ROUNDS))
def test_the_service_is_killed(tmp_path: Path, turn: int) -> None:
    served = Served(tmp_path)
    served.start()

    def kill() -> None:
        served.kill()
        served.start()

    try:
        under_load(served, kill)
    finally:
        served.stop()


@pytest.mark.parametrize("turn", range(ROUNDS))
def test_the_database_is_killed(tmp_path: Path, turn: int) -> None:
    database = Postgres()
    database.start()
    served = Served(tmp_path, database=database.url)
    served.start()

    def kill() -> None:
        database.kill()
        time.sleep(0.5)
        database.start()

    try:
        under_load(served, kill)
    finally:
        served.stop()
        database.remove()
