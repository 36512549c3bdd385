"""What befalls a service: images that end or stop a worker, a full queue, callers that leave, restarts, full disks."""

from __future__ import annotations

import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from blemish.errors import OutputError, UsageError
from blemish.serve import history
from blemish.serve.database.tables import inspections
from blemish.serve.intake import Upload, Wanted
from blemish.serve.service import Service
from serve import plugin
from serve.conftest import line_of, picture, post, running, wait_for

SLOW = picture(colour=plugin.SLOW)


def states(service: Service) -> dict[str, str]:
    """The state of every inspection, by the image's name."""
    with history.reading(service.db) as connection:
        return {row.name: row.state for row in connection.execute(select(inspections.c.name, inspections.c.state))}


@pytest.mark.slow
def test_an_image_that_ends_its_process_harms_no_other_one(tmp_path: Path) -> None:
    with running(tmp_path, serve={"wait_ms": 200}) as (service, client):
        files = [("a.png", picture()), ("crash.png", picture(colour=plugin.CRASH)), ("b.png", picture(dark=True))]
        answer = post(client, *files, timeout_s=60)
        assert [record["verdict"] for record in answer.json()["inspections"]] == ["ok", None, "ng"]
        (problem,) = answer.json()["errors"]
        assert problem["code"] == "worker"
        assert "ended 3 times with this image" in problem["message"]
        assert service.pool.restarts >= 3
        assert post(client, ("c.png", picture())).status_code == 200


@pytest.mark.slow
def test_an_image_that_stops_its_process_is_ended_after_its_time(tmp_path: Path) -> None:
    with running(tmp_path, serve={"image_limit_s": 1.0}) as (service, client):
        post(client, ("a.png", picture()))  # the first batch has more time
        answer = post(client, ("hang.png", picture(colour=plugin.HANG)), timeout_s=60)
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "worker_error"
        assert states(service)["hang.png"] == "failed"


def test_a_killed_worker_is_replaced_and_its_images_are_done_again(tmp_path: Path) -> None:
    with running(tmp_path) as (service, client), ThreadPoolExecutor(1) as pool:
        answer = pool.submit(post, client, ("slow.png", SLOW), timeout_s=60)
        wait_for(lambda: service.pool.running)
        os.kill(service.pool.process_ids[0], signal.SIGKILL)
        assert answer.result().json()["inspections"][0]["verdict"] == "ok"
        assert list(states(service).values()) == ["done"]


def test_a_full_queue_refuses_with_the_time_to_come_back(tmp_path: Path) -> None:
    with (
        running(tmp_path, serve={"queue": 2, "batch_size": 1}) as (service, client),
        ThreadPoolExecutor(8) as pool,
    ):
        answers = [pool.submit(post, client, (f"{number}.png", SLOW), timeout_s=60) for number in range(8)]
        codes = sorted(answer.result().status_code for answer in answers)
        assert set(codes) == {200, 429}
        refused = next(answer.result() for answer in answers if answer.result().status_code == 429)
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.json()["error"]["code"] == "queue_full"
        assert len(states(service)) == codes.count(200)  # what was refused left nothing behind
        assert len(list(service.folder.files())) == 2 * codes.count(200)


def test_a_request_that_waits_too_long_leaves_the_queue(tmp_path: Path) -> None:
    with running(tmp_path, serve={"batch_size": 1}) as (service, client), ThreadPoolExecutor(1) as pool:
        first = pool.submit(post, client, *[(f"slow-{number}.png", SLOW) for number in range(4)], timeout_s=60)
        wait_for(lambda: service.pool.waiting >= 2)
        late = post(client, ("late.png", picture()), timeout_s=0.05)
        assert (late.status_code, late.json()["error"]["code"]) == (504, "timeout")
        assert states(service)["late.png"] == "cancelled"
        assert first.result().status_code == 200
        assert "late.png" not in {
            row.name for row in history.find_inspections(service.db, history.Filters(states=("done",)))
        }


def test_what_was_accepted_before_a_stop_is_inspected_after_the_next_start(tmp_path: Path) -> None:
    environment = plugin.install(tmp_path / "plugin")
    service = Service(line_of(tmp_path / "data", serve={"batch_size": 1}), environment=environment)
    wait_for(lambda: service.pool.is_ready)
    pending = service.intake.take([Upload(f"{n}.png", SLOW) for n in range(6)], Wanted(source="test"))
    service.close()
    before = {each.id for each in pending if each.recorded.done()}
    assert len(before) < 6
    service = Service(line_of(tmp_path / "data"), environment=environment)
    try:
        wait_for(lambda: set(states(service).values()) == {"done"})
        assert len(states(service)) == 6
    finally:
        service.close()


def test_records_wait_for_a_database_that_cannot_be_written(tmp_path: Path) -> None:
    with running(tmp_path) as (service, client):
        holding, release = threading.Event(), threading.Event()

        def hold() -> None:
            with service.db.begin():  # a writer that does not end: all others wait
                holding.set()
                release.wait(30)

        pending = service.intake.take([Upload("a.png", SLOW)], Wanted(source="test"))
        thread = threading.Thread(target=hold)
        thread.start()
        holding.wait(30)
        wait_for(lambda: not service.pool.running)
        assert client.get("/v1/inspections").status_code == 200  # readers do not wait
        release.set()
        thread.join(30)
        assert pending[0].recorded.result(30)["verdict"] == "ok"


def test_a_full_disk_refuses_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running(tmp_path) as (service, client):

        def full(*_: Any) -> int:
            raise OutputError("image: cannot be written (no space left on device)")

        with monkeypatch.context() as patch:
            patch.setattr(service.folder, "write", full)
            answer = post(client, ("a.png", picture()))
        assert (answer.status_code, answer.json()["error"]["code"]) == (507, "disk_full")
        assert states(service) == {}
        assert post(client, ("a.png", picture())).status_code == 200


def test_a_clock_that_jumps_back_moves_no_inspection_from_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(tmp_path) as (_, client):
        post(client, ("first.png", picture()))
        with monkeypatch.context() as patch:
            patch.setattr("blemish.serve.intake.now_ms", lambda: 1_000_000)
            post(client, ("second.png", picture()))
        post(client, ("third.png", picture()))
        names = [each["name"] for each in client.get("/v1/inspections").json()["inspections"]]
        assert names == ["third.png", "second.png", "first.png"]


def test_a_data_folder_serves_one_service_alone(tmp_path: Path) -> None:
    with running(tmp_path), pytest.raises(UsageError, match="another blemish serve has this data folder"):
        Service(line_of(tmp_path / "data"))
