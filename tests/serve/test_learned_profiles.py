"""A product profile of `blemish learn` in the service: uploaded, chosen for a source, raised by reviews, kept and backed up."""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

import blemish
from blemish.inspection import load as loading
from blemish.serve.backup import back_up, restore
from serve import plugin
from serve.conftest import running

SIDE = 64


def part(seed: int, *, spot: float = 0.0) -> bytes:
    """A PNG file of a grey part, a little different from piece to piece; a spot is a defect."""
    rng = np.random.default_rng(seed)
    grey = 0.5 + 0.01 * rng.standard_normal() + 0.01 * rng.standard_normal((SIDE, SIDE))
    grey[16:24, 16:24] += spot
    held = io.BytesIO()
    Image.fromarray((255 * grey.clip(0, 1)).astype(np.uint8)).convert("RGB").save(held, "PNG")
    return held.getvalue()


@pytest.fixture
def learned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A profile of thirty good parts."""
    good = tmp_path / "good"
    good.mkdir()
    for number in range(30):
        (good / f"{number:02}.png").write_bytes(part(number))
    monkeypatch.setattr(loading, "ENGINES", {"served-memory": plugin.ServedMemory})
    blemish.learn(str(good), out=tmp_path / "part.blemish", engine="served-memory")
    shutil.rmtree(good)
    return tmp_path / "part.blemish"


def inspected(client: TestClient, source: str, *images: bytes) -> list[dict[str, Any]]:
    files = [("images", (f"{number}.png", image)) for number, image in enumerate(images)]
    answer = client.post("/v1/inspections", files=files, data={"source": source, "timeout_s": 60})
    found: list[dict[str, Any]] = answer.json()["inspections"]
    return found


def verdicts(client: TestClient, source: str) -> list[tuple[str, str]]:
    """Verdict and kind of thresholds of three good parts and one with a spot."""
    records = inspected(client, source, *(part(seed) for seed in (100, 101, 102)), part(103, spot=0.3))
    return [(record["verdict"], record["thresholds"]["calibration"]) for record in records]


AS_LEARNED = [*[("ok", "calibrated")] * 3, ("ng", "calibrated")]
MODEL = {"model": {"engine": "served-memory"}}


def test_an_uploaded_profile_decides_for_its_source_also_after_a_restart(learned: Path, tmp_path: Path) -> None:
    with running(tmp_path, **MODEL) as (_, client):
        added = client.put("/v1/profiles/part/file", files={"file": ("part.blemish", learned.read_bytes())})
        assert added.status_code == 201
        assert (added.json()["version"], added.json()["why"]) == (1, "a file of blemish learn")
        assert "At most 5 % of good images will be NG" in added.json()["promise"]
        assert client.put("/v1/sources/line 1/profile", json={"profile": "part"}).status_code == 200
        assert verdicts(client, "line 1") == AS_LEARNED
        assert verdicts(client, "line 2")[0] == ("review", "uncalibrated")  # the default profile knows no good part
        learned.unlink()  # the service has its own copy
    with running(tmp_path, **MODEL) as (_, client):
        assert verdicts(client, "line 1") == AS_LEARNED
        assert client.get("/v1/inspections", params={"profile": "part"}).json()["inspections"][0]["source"] == "line 1"


def test_reviews_raise_the_threshold_of_a_learned_profile_and_keep_its_promise(learned: Path, tmp_path: Path) -> None:
    with running(tmp_path, **MODEL) as (_, client):
        client.put("/v1/profiles/part/file", files={"file": ("part.blemish", learned.read_bytes())})
        client.put("/v1/sources/line 1/profile", json={"profile": "part"})
        (alarm,) = inspected(client, "line 1", part(104, spot=0.1))
        assert alarm["verdict"] == "ng"
        assert client.put(f"/v1/inspections/{alarm['id']}/review", json={"label": "false_alarm"}).status_code == 200
        found = client.post("/v1/profiles/part/calibration", json={"apply": True}).json()
        assert found["version"] == 2
        assert "At most 5 %" in found["promise"]
        assert found["thresholds"]["image"] > alarm["thresholds"]["image"]
        (again,) = inspected(client, "line 1", part(105, spot=0.1))
        assert again["thresholds"]["image"] == pytest.approx(found["thresholds"]["image"])
        assert client.put("/v1/profiles/part/version", json={"version": 1}).status_code == 200
        (before,) = inspected(client, "line 1", part(105, spot=0.1))
        assert before["thresholds"] == alarm["thresholds"]


def test_a_backup_holds_the_learned_profile(learned: Path, tmp_path: Path) -> None:
    with running(tmp_path, **MODEL) as (service, client):
        client.put("/v1/profiles/part/file", files={"file": ("part.blemish", learned.read_bytes())})
        client.put("/v1/sources/line 1/profile", json={"profile": "part"})
        back_up(service.folder.path, None, tmp_path / "backup.tar")
    shutil.rmtree(tmp_path / "data")
    restore(tmp_path / "backup.tar", tmp_path / "other" / "data")
    with running(tmp_path / "other", **MODEL) as (_, client):
        assert verdicts(client, "line 1") == AS_LEARNED


def test_a_service_is_started_with_a_learned_profile(learned: Path, tmp_path: Path) -> None:
    with running(tmp_path, **MODEL, references={"profile": str(learned)}) as (_, client):
        assert verdicts(client, "http") == AS_LEARNED
