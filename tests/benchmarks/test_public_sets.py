"""Complete public test sets are laid out from snapshots where the data readers find them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
from benchmarks.public_sets import PublicSet, lay_out

from blemish.errors import UsageError
from blemish.images import save


def snapshot(mirror: Path, files: list[str]) -> PublicSet:
    work = mirror / "someone+images" / "repo"
    for name in files:
        save(np.zeros((4, 4, 3), np.uint8), work / name)
    (work / "bottle" / "notes.txt").write_text("no image")
    for words in (["init", "-q"], ["add", "-A"], ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "all"]):
        subprocess.run(["git", *words], cwd=work, check=True, timeout=60)
    return PublicSet("someone/images", {"bottle": "mvtec/bottle"})


def test_only_the_images_of_the_folder_are_written_and_a_second_time_nothing_changes(tmp_path: Path) -> None:
    public = snapshot(tmp_path / "mirror", ["bottle/test/good/1.png", "bottle/test/broken/2.png", "other/3.png"])
    for _ in range(2):
        assert lay_out(public, tmp_path / "mirror", tmp_path / "out") == 2
    found = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*"))
    assert found == ["mvtec/bottle/test/broken/2.png", "mvtec/bottle/test/good/1.png"]


def test_a_snapshot_without_the_images_is_refused(tmp_path: Path) -> None:
    snapshot(tmp_path / "mirror", ["bottle/1.png"])
    with pytest.raises(UsageError, match="none of the images"):
        lay_out(PublicSet("someone/images", {"else": "else"}), tmp_path / "mirror", tmp_path / "out")
