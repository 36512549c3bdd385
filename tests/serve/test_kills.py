"""kill -9 of workers, service, PostgreSQL and MQTT broker under load: no accepted image without a record, none twice.

Two runs of each by default; BLEMISH_FAULT_ROUNDS=20 makes twenty of them.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from serve.conftest import wait_for
from serve.faults import ROUNDS, Served, under_load
from serve.servers import Broker, Postgres, Reader

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


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
    served = Served(tmp_path, serve={"database": database.url})
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


@pytest.mark.parametrize("turn", range(ROUNDS))
@pytest.mark.parametrize("falls", ["broker", "service", "both"])
def test_every_result_reaches_the_broker_at_least_once(
    tmp_path: Path, record_property: Callable[[str, object], None], falls: str, turn: int
) -> None:
    broker = Broker(tmp_path)
    broker.start()
    reader = Reader(broker.port)
    served = Served(tmp_path, mqtt={"host": "127.0.0.1", "port": broker.port})
    served.start()

    def told() -> list[str]:
        return [json.loads(each)["id"] for each in reader.of("blemish/inspections/http")]

    def kill() -> None:
        if falls != "service":
            broker.kill()
            time.sleep(0.3)
        if falls != "broker":
            served.kill()
            served.start()
        if falls != "service":
            broker.start()

    try:
        wait_for(lambda: reader.of("blemish/availability"))
        ids = {each["id"] for each in under_load(served, kill)}
        wait_for(lambda: ids <= set(told()))
        assert set(told()) == ids
        record_property("doubles", len(told()) - len(ids))  # which a reader drops by their ids
    finally:
        served.stop()
        reader.close()
        broker.kill()
