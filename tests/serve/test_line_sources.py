"""Folders and cameras: each image once, newest frames, skipped ones counted, opened again for ever."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from blemish.errors import UnknownNameError, UsageError
from blemish.serve import history
from blemish.serve.history import Filters
from blemish.serve.service import Service
from blemish.serve.sources.notices import is_local
from serve import plugin
from serve.conftest import picture, running, wait_for

SIDE = 64


def video(path: Path, *, frames: int) -> None:
    """A film of `frames` frames, 20 a second, that gets darker."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=20)
        stream.width = stream.height = SIDE
        stream.pix_fmt = "yuv420p"
        for number in range(frames):
            pixels = np.full((SIDE, SIDE, 3), 255 - 5 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())


def names(service: Service, source: str) -> list[str]:
    return [
        row.name for row in history.find_inspections(service.db, Filters(source=source, states=("done",)), limit=500)
    ]


def test_a_hot_folder_gives_each_file_once_also_over_restarts(tmp_path: Path) -> None:
    folder = tmp_path / "hot"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.png").write_bytes(picture())
    source = {"name": "hot", "kind": "folder", "path": str(folder), "settle_s": 0.2}
    with running(tmp_path, sources=[source]) as (service, _):
        wait_for(lambda: names(service, "hot") == ["a.png"])
        whole = picture(dark=True)
        with (folder / "sub" / "b.png").open("wb") as stream:  # a file that arrives slowly
            for start in range(0, len(whole), 200):
                stream.write(whole[start : start + 200])
                stream.flush()
                time.sleep(0.15)
        wait_for(lambda: names(service, "hot") == ["sub/b.png", "a.png"])
        (row,) = history.find_inspections(service.db, Filters(source="hot", verdicts=("ng",)))
        assert row.name == "sub/b.png"
    (folder / "c.png").write_bytes(picture())
    with running(tmp_path, sources=[source]) as (service, client):
        wait_for(lambda: names(service, "hot") == ["c.png", "sub/b.png", "a.png"])
        assert client.get("/v1/sources").json()["sources"][0]["taken"] == 1
        (folder / "a.png").write_bytes(picture(dark=True))  # written again: another image
        wait_for(lambda: len(names(service, "hot")) == 4)


def test_a_file_is_noticed_without_looking_again_and_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("blemish.serve.sources.folder.LOOK_S", 3600.0)
    folder = tmp_path / "hot"
    folder.mkdir()
    source = {"name": "hot", "kind": "folder", "path": str(folder), "settle_s": 0.1}
    with running(tmp_path, sources=[source]) as (service, _):
        for name in ("a.png", "b.png"):
            time.sleep(0.7)  # longer than a look takes: nothing but a notice shows the file
            (folder / name).write_bytes(picture())
            wait_for(lambda name=name: name in names(service, "hot"))


def test_a_folder_without_notices_is_looked_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("blemish.serve.sources.notices.is_local", lambda _: False)
    folder = tmp_path / "hot"
    folder.mkdir()
    source = {"name": "hot", "kind": "folder", "path": str(folder), "settle_s": 0.1}
    with running(tmp_path, sources=[source]) as (service, _):
        time.sleep(0.7)
        (folder / "a.png").write_bytes(picture())
        wait_for(lambda: names(service, "hot") == ["a.png"])


@pytest.mark.parametrize(
    ("kind", "local"), [("ext4", True), ("nfs4", False), ("cifs", False), ("fuse.sshfs", False), ("overlay", True)]
)
def test_network_shares_are_known_by_their_file_system(tmp_path: Path, kind: str, local: bool) -> None:
    folder = tmp_path / "the parts"
    folder.mkdir()
    mounts = tmp_path / "mountinfo"
    point = str(folder).replace(" ", "\\040")
    mounts.write_text(f"22 1 0:1 / / rw - ext4 /dev/a rw\n36 22 0:9 / {point} rw shared:1 - {kind} server:/parts rw\n")
    assert is_local(folder / "today", mounts=mounts) is local
    assert is_local(tmp_path, mounts=mounts)
    assert is_local(tmp_path, mounts=tmp_path / "none")


def test_a_camera_keeps_the_newest_frame_and_is_opened_again_for_ever(tmp_path: Path) -> None:
    film = tmp_path / "film.mp4"
    video(film, frames=12)
    camera = {"name": "cam", "kind": "camera", "path": str(film), "interval_s": 0.15, "retry_s": 0.05}
    with running(tmp_path, sources=[camera]) as (service, client):
        wait_for(lambda: len(names(service, "cam")) >= 8)
        state = client.get("/v1/sources").json()["sources"][0]
        assert state["reconnects"] >= 1
        assert state["skipped"] > 0
        assert state["frames"] > state["taken"]
        metrics = client.get("/metrics").text
        assert 'blemish_skipped_frames_total{source="cam"}' in metrics
        film.rename(tmp_path / "gone.mp4")  # the camera falls
        wait_for(lambda: not client.get("/v1/sources").json()["sources"][0]["up"])
        taken = len(names(service, "cam"))
        shutil.copy(tmp_path / "gone.mp4", film)
        wait_for(lambda: len(names(service, "cam")) > taken + 2)


def test_a_camera_is_triggered_by_http(tmp_path: Path) -> None:
    camera = {"name": "cam", "kind": "simulated", "interval_s": 0.05, "trigger": "http"}
    with running(tmp_path, sources=[camera]) as (service, client):
        wait_for(lambda: client.get("/v1/sources").json()["sources"][0]["frames"] > 2)
        assert names(service, "cam") == []
        answer = client.post("/v1/sources/cam/trigger")
        assert answer.status_code == 202
        wait_for(lambda: history.get(service.db, answer.json()["id"]).state == "done")  # type: ignore[union-attr]
        with pytest.raises(UnknownNameError, match="did you mean 'cam'"):
            service.sources.trigger("cma")


def test_a_full_queue_costs_frames_that_are_counted(tmp_path: Path) -> None:
    camera = {"name": "cam", "kind": "simulated", "interval_s": 0.02}
    with running(tmp_path, serve={"queue": 1, "batch_size": 1}, sources=[camera]) as (service, client):
        with service.pool.reserved(service.pool.room):
            before = service.sources.states()[0]["skipped"]
            wait_for(lambda: service.sources.states()[0]["skipped"] > before + 3)
        assert client.get("/health/live").status_code == 200


def test_a_folder_is_no_camera(tmp_path: Path) -> None:
    source = {"name": "hot", "kind": "folder", "path": str(tmp_path / "none")}
    with running(tmp_path, sources=[source]) as (service, client):
        with pytest.raises(UsageError, match="is a folder"):
            service.sources.trigger("hot")
        wait_for(lambda: "is not there" in (client.get("/v1/sources").json()["sources"][0]["problem"] or ""))


def test_a_source_has_the_profile_that_was_chosen_for_it(tmp_path: Path) -> None:
    plugin.install(tmp_path / "plugin")
    with running(tmp_path, profiles={"strict": {"model": {"engine": "served-darkness"}}}) as (service, client):
        chosen = client.put("/v1/sources/line 1/profile", json={"profile": "strict"})
        assert chosen.status_code == 200
        files = [("images", ("a.png", picture()))]
        client.post("/v1/inspections", files=files, data={"source": "line 1"})
        client.post("/v1/inspections", files=files, data={"source": "line 2"})
        rows = history.find_inspections(service.db, Filters())
        assert [(row.source, row.profile) for row in rows] == [("line 2", "default"), ("line 1", "strict")]
        assert client.put("/v1/sources/x/profile", json={"profile": "stritc"}).json()["error"]["code"] == "unknown_name"
