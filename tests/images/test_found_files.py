"""Folders as they really are: links that lead back, folders that are closed, names that are no text, files that are no images."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from blemish.errors import UsageError
from blemish.images import find_images, list_images


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def names(folder: Path, pattern: str) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in list_images(str(folder / pattern))]


@pytest.mark.timeout(20)
def test_patterns_never_follow_a_link_back(tmp_path: Path) -> None:
    touch(tmp_path, "d/part.png", "d/e/deep.png", "other/far.png")
    for name in ("up", "current", "e/up"):
        (tmp_path / "d" / name).symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "d" / "self").symlink_to(tmp_path / "d", target_is_directory=True)
    assert names(tmp_path, "**/*.png") == ["d/e/deep.png", "d/part.png", "other/far.png"]
    assert names(tmp_path, "d/**/*.png") == ["d/e/deep.png", "d/part.png"]
    assert names(tmp_path, "*/*.png") == ["d/part.png", "other/far.png"]
    assert names(tmp_path, "*/*/*.png") == ["d/e/deep.png"]


@pytest.mark.timeout(20)
def test_patterns_follow_other_links_once(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.png", "b/2.png", "elsewhere/3.png")
    (tmp_path / "a" / "b").symlink_to(tmp_path / "b", target_is_directory=True)
    (tmp_path / "b" / "a").symlink_to(tmp_path / "a", target_is_directory=True)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "there").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert [Path(name).name for name in names(tmp_path, "[ab]/**/*.png")] == ["1.png", "2.png"]
    assert names(tmp_path, "in/**/*.png") == ["in/there/3.png"]
    assert names(tmp_path, "in/*/*.png") == ["in/there/3.png"]


def test_patterns_match_as_the_shell_would(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", ".h.png", ".hid/b.png", "s/c.png", "s/t/d.png", "s/notes.txt", "x[1].png")
    assert names(tmp_path, "**") == ["a.png", "s/c.png", "s/t/d.png", "x[1].png"]
    assert names(tmp_path, "**/t/*") == ["s/t/d.png"]
    assert names(tmp_path, "s/**/d.p?g") == ["s/t/d.png"]
    assert names(tmp_path, "[as]*") == ["a.png"]
    assert names(tmp_path, ".hid/*.png") == [".hid/b.png"]
    with pytest.raises(UsageError, match="matches no image"):
        names(tmp_path, "*.txt")


def test_links_to_folders_are_not_followed_below_a_folder(tmp_path: Path) -> None:
    touch(tmp_path, "d/a.png")
    (tmp_path / "d" / "up").symlink_to(tmp_path, target_is_directory=True)
    assert [path.name for path in list_images(tmp_path)] == ["a.png"]


def test_folders_that_cannot_be_listed_are_named_and_the_rest_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "a.png", "closed/b.png", "open/c.png")
    scandir = os.scandir

    def refuse(path: Any) -> Any:
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    found = find_images(tmp_path)
    assert [image.path.name for image in found] == ["a.png", "c.png"]
    assert [str(error) for error in found.unlisted] == [
        f"{(tmp_path / 'closed').as_posix()}: the folder cannot be listed (permission denied)"
    ]
    with pytest.raises(UsageError, match=r"closed: cannot be listed \(permission denied\)"):
        find_images(tmp_path / "closed")


def test_an_empty_folder_says_what_lies_there(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4", "b.MP4", "readme", ".hidden")
    with pytest.raises(UsageError, match=r"holds no images .*; left out: 3 files \(\.mp4 2, no suffix 1\)"):
        find_images(tmp_path)


def test_what_is_left_out_is_counted_over_all_folders_and_shortened(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.png", "b/2.png", *(f"b/file.x{number}" for number in range(12)), "a/notes.txt", "b/notes.txt")
    found = find_images([tmp_path / "a", tmp_path / "b"])
    assert sum(found.left_out.values()) == 14
    assert found.summary.startswith("left out: 14 files (.txt 2, .x0 1")
    assert found.summary.endswith("others 5)")
    assert find_images(tmp_path / "a" / "1.png").summary == ""


@pytest.mark.skipif(os.name == "nt", reason="names are Unicode there")
def test_names_that_are_not_utf_8_are_found(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    touch(tmp_path, name)
    assert [path.name for path in list_images(tmp_path)] == [name]
    assert [path.name for path in list_images(str(tmp_path / "*.png"))] == [name]
