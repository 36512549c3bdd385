"""What stays and what goes: jobs, retention, backup and restore, the command line."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from blemish import cli
from blemish.serve import history
from blemish.serve.backup import back_up, restore
from blemish.serve.client import Client, ServiceError
from blemish.serve.database.tables import inspections, jobs
from blemish.serve.history import Filters
from blemish.serve.line import RetentionConfig
from blemish.serve.retention import sweep, thin
from serve.conftest import picture, post, running, wait_for

DAY_MS = 86_400_000


def test_a_job_inspects_a_folder_once_however_often_it_is_taken(tmp_path: Path) -> None:
    inbox = tmp_path / "inbox"
    (inbox / "sub").mkdir(parents=True)
    for number in range(6):
        (inbox / "sub" / f"{number}.png").write_bytes(picture(dark=number < 2))
    (inbox / "broken.png").write_text("text")
    with running(tmp_path, folders=[{"name": "inbox", "path": str(inbox)}], serve={"queue": 2}) as (service, client):
        answer = client.post("/v1/jobs", json={"folder": "inbox"})
        assert answer.status_code == 202
        job = answer.headers["location"]
        done = wait_for(lambda: client.get(job).json()["state"] == "done" and client.get(job).json())
        assert done["total"] == 7
        assert done["images"] == {"waiting": 0, "done": 6, "failed": 1, "cancelled": 0}
        assert done["verdicts"] == {"ok": 4, "review": 0, "ng": 2}
        with service.db.begin() as connection:  # as if the service had fallen before it could say so
            connection.execute(update(jobs).values(state="running", total=None, lease_until_ms=1, finished_ms=None))
        wait_for(lambda: client.get(job).json()["state"] == "done")
        assert len(history.find_inspections(service.db, Filters(job=done["id"]))) == 7
        one = client.post("/v1/jobs", json={"folder": "inbox", "names": ["sub/1.png"]}).headers["location"]
        wait_for(lambda: client.get(one).json()["state"] == "done")
        assert client.get(one).json()["total"] == 1
        assert client.post("/v1/jobs", json={"folder": "inbxo"}).json()["error"]["code"] == "unknown_name"


def test_uploaded_images_are_inspected_when_there_is_room(tmp_path: Path) -> None:
    with running(tmp_path, serve={"queue": 2}) as (_, client):
        files = [("images", (f"{number}.png", picture())) for number in range(12)]
        job = client.post("/v1/jobs/uploads", files=files, data={"source": "batch"}).headers["location"]
        done = wait_for(lambda: client.get(job).json()["state"] == "done" and client.get(job).json())
        assert (done["total"], done["images"]["done"]) == (12, 12)


def test_a_job_that_is_ended_inspects_no_more(tmp_path: Path) -> None:
    with running(tmp_path, serve={"queue": 2}) as (service, client):
        with service.pool.reserved(2):
            files = [("images", (f"{number}.png", picture())) for number in range(5)]
            job = client.post("/v1/jobs/uploads", files=files).headers["location"]
            ended = client.delete(job).json()
        assert ended["state"] == "cancelled"
        wait_for(lambda: client.get(job).json()["images"]["waiting"] == 0)
        assert client.get(job).json()["images"]["cancelled"] >= 1


def age(service: Any, days: float) -> None:
    with service.db.begin() as connection:
        connection.execute(update(inspections).values(created_ms=inspections.c.created_ms - int(days * DAY_MS)))


def test_ok_images_go_first_and_records_stay(tmp_path: Path) -> None:
    with running(tmp_path) as (service, client):
        files = [("ok.png", picture()), ("seen.png", picture()), ("ng.png", picture(dark=True))]
        records = post(client, *files).json()["inspections"]
        client.put(f"/v1/inspections/{records[1]['id']}/review", json={"label": "accept"})
        age(service, 10)
        assert thin(service.db, service.folder, RetentionConfig(ok_days=20)).images == 0
        assert thin(service.db, service.folder, RetentionConfig(ok_days=5)).images == 1
        shown = {each["name"]: each for each in client.get("/v1/inspections").json()["inspections"]}
        assert [shown[name]["has_image"] for name in ("ok.png", "seen.png", "ng.png")] == [False, True, True]
        gone = client.get(f"/v1/inspections/{records[0]['id']}/original")
        assert (gone.status_code, gone.json()["error"]["code"]) == (410, "gone")
        assert client.get(f"/v1/inspections/{records[0]['id']}").json()["record"]["verdict"] == "ok"
        assert len(list(service.folder.files())) == 4
        left = thin(service.db, service.folder, RetentionConfig(ok_days=None, max_gb=1e-9))
        assert left.is_over_limit  # what is NG or reviewed stays
        assert len(list(service.folder.files())) == 4
        assert thin(service.db, service.folder, RetentionConfig(ok_days=None, max_days=5)).images == 2
        assert list(service.folder.files()) == []


def test_files_that_no_record_names_are_swept_away(tmp_path: Path) -> None:
    with running(tmp_path) as (service, client):
        post(client, ("a.png", picture()))
        stray = service.folder.path / "images" / "stray.png"
        stray.write_bytes(b"x")
        assert sweep(service.db, service.folder) == 0  # it may still get its row
        for place, _, _ in list(service.folder.files()):
            os.utime(service.folder.path_of(place), (1, 1))
        assert sweep(service.db, service.folder) == 1
        assert len(list(service.folder.files())) == 2


def test_a_backup_is_restored_into_a_new_folder(tmp_path: Path) -> None:
    with running(tmp_path) as (service, client):
        image_id = post(client, ("a.png", picture(dark=True))).json()["inspections"][0]["id"]
        client.put(f"/v1/inspections/{image_id}/review", json={"label": "reject"})
        assert back_up(service.folder.path, None, tmp_path / "backup.tar") == 3  # while it runs
    restore(tmp_path / "backup.tar", tmp_path / "other" / "data")
    with running(tmp_path / "other") as (_, client):
        found = client.get(f"/v1/inspections/{image_id}").json()
        assert (found["verdict"], found["review"]) == ("ng", "reject")
        assert client.get(f"/v1/inspections/{image_id}/overlay").status_code == 200


def test_the_client_reads_writes_and_says_what_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running(tmp_path) as (_, app), Client("http://testserver", retry_s=0.1) as client:
        monkeypatch.setattr(client, "_http", app)
        path = tmp_path / "part.png"
        path.write_bytes(picture(dark=True))
        record = client.inspect(path, source="mine")
        assert (record["verdict"], record["source"]) == ("ng", "part.png")
        both = client.inspect_many([picture(), b"no image"])
        assert isinstance(both[0], dict)
        assert "is not a JPEG" in str(both[1])
        client.review(record["id"], "false_alarm", note="glare")
        assert [each["id"] for each in client.inspections(review="false_alarm", limit=5)] == [record["id"]]
        assert client.picture(record["id"], "original") == path.read_bytes()
        with pytest.raises(ServiceError, match="unknown profile") as caught:
            client.inspect(path, profile="nothing")
        assert caught.value.code == "unknown_name"


def test_a_client_tries_again_where_nothing_answers() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with (
            Client(f"http://127.0.0.1:{port}", retry_s=0.5) as client,
            pytest.raises(ServiceError, match="cannot be reached"),
        ):
            client.job("x")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--config", "none.toml"], "none.toml: the configuration cannot be read"),
        (["--config", "typo.toml"], "unknown key of [serve] 'prot'; did you mean 'port'?"),
        (["--port", "{taken}"], "cannot be listened on (address already in use); choose another with --port"),
        (["--port", "70000"], "must be in 0..65535"),
        (["--data", "file"], "cannot be written"),
        (["token", "create", "x", "--scope", "raed"], "unknown scope 'raed'; did you mean 'read'?"),
        (["token", "revoke", "x"], "unknown token 'x'"),
        (["backup", "out.tar", "--data", "empty"], "holds no data of blemish serve"),
        (["restore", "typo.toml", "--data", "new"], "the backup cannot be read"),
        (["--profile", "file"], "is no profile of blemish learn"),
        (["--profile", "none.blemish"], "the profile cannot be read"),
    ],
)
def test_what_is_wrong_with_a_command_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("typo.toml").write_text("[serve]\nprot = 1\n")
    Path("file").write_text("")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        words = [word.format(taken=taken.getsockname()[1]) for word in arguments]
        assert cli.main(["serve", *words]) == 2
    errors = capfd.readouterr().err.splitlines()
    assert len(errors) == 1
    assert said in errors[0]


def test_tokens_are_made_listed_and_ended(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    data = ["--data", str(tmp_path / "data")]
    assert cli.main(["serve", "token", "create", "station 1", "--scope", "read", "--scope", "review", *data]) == 0
    token = capfd.readouterr().out.strip()
    token_id = token.split("_")[1]
    assert cli.main(["serve", "token", "list", *data]) == 0
    assert capfd.readouterr().out.split("  ") == [token_id, "station 1", "read,review", "valid\n"]
    assert cli.main(["serve", "token", "revoke", token_id, *data]) == 0
    assert capfd.readouterr().out == "ended: station 1\n"


def test_a_version_of_a_profile_is_calibrated_from_reviews_and_rolled_back(tmp_path: Path) -> None:
    with running(tmp_path) as (_, client):
        calibrate = "/v1/profiles/default/calibration"
        assert "no image was inspected" in client.post(calibrate, json={}).json()["error"]["message"]
        good = post(client, *[(f"{n}.png", picture()) for n in range(25)]).json()["inspections"]
        assert "was reviewed as good" in client.post(calibrate, json={}).json()["error"]["message"]
        for record in good:
            client.put(f"/v1/inspections/{record['id']}/review", json={"label": "accept"})
        found = client.post(calibrate, json={"max_false_rejects": 0.05, "apply": True}).json()
        assert (found["good"], found["bad"], found["version"]) == (25, 0, 2)
        assert "At most 5 % of good images will be NG" in found["promise"]
        assert found["notes"][-1].startswith("From reviewed images")
        record = post(client, ("a.png", picture())).json()["inspections"][0]
        assert (record["thresholds"]["calibration"], record["verdict"]) == ("calibrated", "ok")
        assert client.put("/v1/profiles/default/version", json={"version": 1}).status_code == 200
        record = post(client, ("a.png", picture())).json()["inspections"][0]
        assert record["thresholds"]["calibration"] == "uncalibrated"
        listed = client.get("/v1/profiles").json()
        assert (listed["in_force"], len(listed["profiles"])) == ({"default": 1}, 2)
        assert json.dumps(listed)


def test_metrics_say_what_runs(tmp_path: Path) -> None:
    with running(tmp_path) as (_, client):
        post(client, ("a.png", picture(dark=True)), source="line 1")
        text = client.get("/metrics").text
        for line in (
            'blemish_inspected_images_total{source="line 1",verdict="ng"} 1.0',
            "blemish_latency_seconds_count 1.0",
            "blemish_queue_images 0.0",
            "blemish_workers 1.0",
            "blemish_outbox_messages 0.0",
        ):
            assert line in text


def test_a_file_that_is_no_profile_is_refused_and_not_kept(tmp_path: Path) -> None:
    with running(tmp_path) as (service, client):
        answer = client.put("/v1/profiles/part/file", files={"file": ("part.blemish", b"no profile")})
        assert (answer.status_code, answer.json()["error"]["code"]) == (422, "invalid")
        assert str(tmp_path) not in answer.json()["error"]["message"]
        assert list((service.folder.path / "profiles").glob("*.blemish")) == []
