"""`blemish inspect` on folders as they are: nothing is passed over without a word, and nothing ends the run."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from blemish import cli
from blemish.images import save
from fakes import use_darkness


@pytest.fixture
def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    use_darkness(monkeypatch)
    monkeypatch.chdir(tmp_path)
    save(np.full((8, 8), 255, np.uint8), tmp_path / "parts" / "part.png")
    return tmp_path / "parts"


def records(out: str = "out") -> dict[str, dict[str, Any]]:
    lines = (Path(out) / "results.jsonl").read_text(encoding="utf-8").splitlines()
    return {Path(record["source"]).name: record for record in map(json.loads, lines)}


def test_what_is_left_out_is_counted_by_suffix(parts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a.mp4", "b.MP4", "notes.txt"):
        (parts / name).write_bytes(b"x")
    assert cli.main(["inspect", "parts", "--out", "out"]) == 0
    assert "left out: 3 files (.mp4 2, .txt 1)" in capsys.readouterr().out
    run = json.loads(Path("out/run.json").read_text(encoding="utf-8"))
    assert run["left_out"] == {".mp4": 2, ".txt": 1}


def test_a_folder_that_cannot_be_listed_is_named_and_the_rest_is_done(
    parts: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (parts / "closed").mkdir()
    scandir = os.scandir

    def refuse(path: Any) -> Any:
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert cli.main(["inspect", "parts", "--out", "out"]) == 3
    assert "unreadable: parts/closed: the folder cannot be listed (permission denied)" in capsys.readouterr().err
    assert records()["part.png"]["verdict"] == "ok"
    assert json.loads(Path("out/run.json").read_text(encoding="utf-8"))["unlisted"][0]["source"] == "parts/closed"


def test_odd_files_are_rows_with_an_error_and_their_neighbour_is_done(parts: Path) -> None:
    deep = np.random.default_rng(0).integers(0, 65536, (30, 40, 3), dtype=np.uint16)
    tifffile.imwrite(parts / "zstd.tif", deep, photometric="rgb", compression="zstd")
    tifffile.imwrite(parts / "lzma.tif", deep, photometric="rgb", compression="lzma")
    damaged = bytearray((parts / "lzma.tif").read_bytes())
    damaged[len(damaged) // 2 : len(damaged) // 2 + 40] = bytes(40)
    (parts / "lzma.tif").write_bytes(damaged)
    (parts / "broken.dcm").write_bytes(bytes(128) + b"DICM" + b"\x28\0\x11\0US\x08\0" + bytes(8) + b"\xff" * 90)
    assert cli.main(["inspect", "parts", "--out", "out", "--quiet"]) == 3
    found = records()
    assert [found[name]["error"] for name in ("part.png", "zstd.tif")] == [None, None]
    assert "cannot be decoded" in found["lzma.tif"]["error"]


def test_notes_are_in_the_records_and_the_summary(parts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stream = io.BytesIO()
    Image.fromarray(np.full((8, 8), 200, np.uint16)).save(stream, "PNG")
    (parts / "deep.png").write_bytes(stream.getvalue())
    assert cli.main(["inspect", "parts", "--out", "out"]) == 0
    assert "note: 1 image: its 16-bit values fit into 8 bits (highest: 200)" in capsys.readouterr().out
    assert "fit into 8 bits" in records()["deep.png"]["tags"]["note"]
