"""What becomes of requests on their way: images in batches, callers that leave, a camera by RTSP, a database that moves house."""

from __future__ import annotations

import os
import platform
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from blemish.serve import history
from blemish.serve.backup import back_up, restore
from blemish.serve.history import Filters
from blemish.serve.inference.pool import MEMORY
from blemish.serve.server import run_service
from blemish.serve.service import Service
from serve import plugin
from serve.conftest import line_of, picture, post, running, wait_for
from serve.servers import Postgres, free_port


def test_images_go_to_the_model_in_batches_of_eight_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = tmp_path / "sizes"
    monkeypatch.setenv(plugin.BATCHES, str(sizes))
    with running(tmp_path, serve={"wait_ms": 300.0}) as (_, client):
        answer = post(client, *[(f"{number}.png", picture()) for number in range(11)], timeout_s=60)
        assert len(answer.json()["inspections"]) == 11
        assert [int(line) for line in sizes.read_text().split()] == [8, 3]


def test_a_request_of_more_images_than_may_wait_is_refused_whole(tmp_path: Path) -> None:
    with running(tmp_path, serve={"queue": 3}) as (service, client):
        answer = post(client, *[(f"{number}.png", picture()) for number in range(4)])
        assert answer.status_code == 429
        assert history.find_inspections(service.db, Filters()) == []


FREED = """
import numpy as np
def held_mb():
    line = next(line for line in open("/proc/self/status") if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024
before = held_mb()
batch = [np.ones(2**24, np.uint8) for _ in range(10)]
del batch
print(held_mb() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's malloc is told what to keep")
def test_a_worker_keeps_the_memory_of_a_batch_for_the_next_one() -> None:
    kept = {}
    for name, environment in (("worker", MEMORY), ("other", {})):
        clean = {key: value for key, value in os.environ.items() if not key.startswith("MALLOC_")}
        done = subprocess.run(
            [sys.executable, "-c", FREED],
            env={**clean, **environment},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        kept[name] = float(done.stdout)
    assert kept["worker"] > 150
    assert kept["other"] < 50


@contextmanager
def listening(folder: Path, **serve: Any) -> Iterator[tuple[Service, int]]:
    """A service on a port, and the port."""
    found: list[Service] = []
    stop = threading.Event()
    port = free_port()
    arguments: dict[str, Any] = {
        "started": lambda _address, service: found.append(service),
        "environment": plugin.install(folder / "plugin"),
        "stop": stop,
    }
    line = line_of(folder / "data", serve={"port": port, **serve})
    thread = threading.Thread(target=run_service, args=(line,), kwargs=arguments)
    thread.start()
    try:
        wait_for(lambda: found and found[0].pool.is_ready)
        yield found[0], port
    finally:
        stop.set()
        thread.join(60)


def test_the_images_of_a_caller_who_leaves_leave_the_queue(tmp_path: Path) -> None:
    body = b"".join(
        b'--b\r\nContent-Disposition: form-data; name="images"; filename="%d.png"\r\n\r\n%b\r\n'
        % (number, picture(colour=plugin.SLOW))
        for number in range(8)
    )
    body += b"--b--\r\n"
    head = (
        "POST /v1/inspections HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: multipart/form-data; boundary=b\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    with listening(tmp_path, batch_size=1) as (service, port):
        with socket.create_connection(("127.0.0.1", port)) as caller:
            caller.sendall(head.encode() + body)
            wait_for(lambda: service.pool.waiting >= 5)
        wait_for(lambda: not history.waiting(service.db))
        states = [row.state for row in history.find_inspections(service.db, Filters())]
        assert states.count("cancelled") >= 4
        assert set(states) == {"cancelled", "done"}
        images = list((service.folder.path / "images").rglob("*.png"))
        assert len(images) == states.count("done")  # what nobody waits for is not kept


# A camera that brings its stream itself, in a process of its own: FFmpeg holds Python's lock while it connects.
RTSP_CAMERA = """
import sys, time
import av, numpy
with av.open(sys.argv[1], "w", format="rtsp", options={"rtsp_transport": "tcp"}) as container:
    stream = container.add_stream("mpeg4", rate=20)
    stream.width = stream.height = 64
    stream.pix_fmt = "yuv420p"
    for number in range(60):
        time.sleep(0.05)
        pixels = numpy.full((64, 64, 3), 255 - number, numpy.uint8)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
"""


@pytest.mark.slow
def test_a_camera_is_read_by_rtsp_and_again_after_it_was_gone(tmp_path: Path) -> None:
    pytest.importorskip("av")
    url = f"rtsp://127.0.0.1:{free_port()}/line"
    # FFmpeg waits for the stream instead of asking for it; from there on it is the same protocol
    options = {"rtsp_flags": "listen", "listen_timeout": "10"}
    times = {"interval_s": 0.2, "retry_s": 0.1, "freeze_s": 3.0}
    camera = {"name": "cam", "kind": "camera", "url": url, "options": options, **times}
    with running(tmp_path, sources=[camera]) as (service, client):

        def taken() -> int:
            return len(history.find_inspections(service.db, Filters(source="cam", states=("done",))))

        for turn in range(1, 3):
            before = taken()
            deadline = time.monotonic() + 60
            while taken() < before + 3:  # a camera that comes before anybody listens comes again
                assert time.monotonic() < deadline, "no image came"
                subprocess.run([sys.executable, "-c", RTSP_CAMERA, url], timeout=30, capture_output=True, check=False)
            wait_for(lambda: not client.get("/v1/sources").json()["sources"][0]["up"])
            assert client.get("/v1/sources").json()["sources"][0]["reconnects"] >= turn


@pytest.mark.slow
def test_a_backup_of_postgresql_is_restored_there_and_into_a_file(tmp_path: Path) -> None:
    database = Postgres()
    database.start()
    try:
        with running(tmp_path, serve={"database": database.url}) as (service, client):
            ids = [
                post(client, (f"{number}.png", picture(dark=True))).json()["inspections"][0]["id"]
                for number in range(3)
            ]
            client.put(f"/v1/inspections/{ids[0]}/review", json={"label": "reject"})
            assert back_up(service.folder.path, database.url, tmp_path / "backup.tar") > 6
        other = Postgres()
        other.start()
        try:
            for place, url in (("there", other.url), ("file", None)):
                folder = tmp_path / place
                restore(tmp_path / "backup.tar", folder / "data", url)
                with running(folder, serve={"database": url}) as (_, client):
                    found = client.get(f"/v1/inspections/{ids[0]}").json()
                    assert (found["verdict"], found["review"]) == ("ng", "reject")
                    assert client.get(f"/v1/inspections/{ids[0]}/overlay").status_code == 200
                    assert post(client, ("new.png", picture())).status_code == 200  # numbers go on where they were
        finally:
            other.remove()
    finally:
        database.remove()


@pytest.mark.slow
def test_a_read_only_data_folder_is_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from blemish import cli
    from serve.servers import mounted

    with mounted(tmp_path / "disk", "size=4m,ro") as disk:
        for data in (disk, disk / "data"):
            assert cli.main(["serve", "--data", str(data), "--port", "0"]) == 2
            errors = capfd.readouterr().err.splitlines()
            assert len(errors) == 1
            assert "cannot be written (read-only file system); choose another folder with --data" in errors[0]


def test_a_database_of_a_newer_version_is_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from blemish import cli
    from blemish.serve.database.opening import open_database, sqlite_url

    data = tmp_path / "data"
    data.mkdir()
    db = open_database(sqlite_url(data))
    with db.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    db.dispose()
    assert cli.main(["serve", "--data", str(data), "--port", "0"]) == 2
    (error,) = capfd.readouterr().err.splitlines()
    assert "was made by a newer version of Blemish" in error
    assert list((data / "images").iterdir()) == []
