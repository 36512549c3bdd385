"""A clock that was set back or ahead: no message waits for the old time, no job stays leased, no image goes as old."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, update

from blemish.serve import clock
from blemish.serve.clock import ClockWatch, now_ms
from blemish.serve.database.opening import open_database, sqlite_url
from blemish.serve.database.tables import inspections, jobs, outbox
from blemish.serve.line import RetentionConfig
from blemish.serve.output.senders import OutboxSender
from blemish.serve.retention import thin
from serve.conftest import picture, post, running, wait_for

DAY_MS = 86_400_000


@pytest.mark.parametrize("jump_s", [7200, -7200])
def test_after_a_jump_ages_are_not_told_for_a_while(monkeypatch: pytest.MonkeyPatch, jump_s: int) -> None:
    watch = ClockWatch()
    assert watch.is_steady()
    monkeypatch.setattr(clock, "now_ms", lambda: time.time_ns() // 1_000_000 + 1000 * jump_s)
    assert not watch.is_steady()
    assert not watch.is_steady()  # also where it goes on evenly since
    monkeypatch.setattr(clock, "DISTRUST_S", 0.0)
    assert watch.is_steady()


def test_a_clock_that_is_corrected_by_minutes_is_steady(monkeypatch: pytest.MonkeyPatch) -> None:
    watch = ClockWatch()
    monkeypatch.setattr(clock, "now_ms", lambda: time.time_ns() // 1_000_000 + 1000 * 300)
    assert watch.is_steady()


def test_images_that_look_old_stay_while_the_clock_is_not_trusted(tmp_path: Path) -> None:
    with running(tmp_path) as (service, client):
        post(client, ("ok.png", picture()))
        with service.db.begin() as connection:
            connection.execute(update(inspections).values(created_ms=inspections.c.created_ms - 400 * DAY_MS))
        limits = RetentionConfig(ok_days=30, max_days=60)
        assert thin(service.db, service.folder, limits, by_age=False).images == 0
        assert thin(service.db, service.folder, limits).images == 1


def test_a_message_that_waits_for_a_time_long_ahead_is_sent_now(tmp_path: Path) -> None:
    db = open_database(sqlite_url(tmp_path))
    sent: list[str] = []

    class Kept(OutboxSender):
        def send(self, rows: Sequence[Any]) -> list[int]:
            sent.extend(row.payload for row in rows)
            return [row.number for row in rows]

    rows = [
        {"target": "t", "topic": "x", "payload": name, "created_ms": 0, "next_ms": now_ms() + ahead_ms}
        for name, ahead_ms in (("due", -1), ("pause", 60_000), ("old time", DAY_MS))
    ]
    with db.begin() as connection:
        connection.execute(insert(outbox), rows)
    sender = Kept(db, "t")
    sender.start()
    wait_for(lambda: len(sent) >= 2)
    sender.close()
    assert sent == ["due", "old time"]
    db.dispose()


def test_a_job_whose_lease_lies_long_ahead_is_taken(tmp_path: Path) -> None:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    (inbox / "a.png").write_bytes(picture())
    with running(tmp_path, folders=[{"name": "inbox", "path": str(inbox)}]) as (service, client):
        job = client.post("/v1/jobs", json={"folder": "inbox"}).headers["location"]
        wait_for(lambda: client.get(job).json()["state"] == "done")
        with service.db.begin() as connection:  # as a service left it that fell before the clock was set back
            connection.execute(
                update(jobs).values(state="running", total=None, lease_owner="x", lease_until_ms=now_ms() + DAY_MS)
            )
        wait_for(lambda: client.get(job).json()["state"] == "done")
        assert client.get(job).json()["total"] == 1
