"""Which files are meant: folders, patterns, and what is left out."""

from __future__ import annotations

from pathlib import Path

import pytest

from blemish.errors import UsageError
from blemish.images import find_images, list_images


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def names(folder: Path, *args: str | Path, **options: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in list_images(args, **options)]


def test_folders_are_recursive_and_sorted_as_people_count(tmp_path: Path) -> None:
    touch(tmp_path, "part10.png", "part2.PNG", "b/1.jpeg", "b/x.TIF", "notes.txt", "a.webp", "c.bmp", "noext")
    assert names(tmp_path, tmp_path) == ["a.webp", "b/1.jpeg", "b/x.TIF", "c.bmp", "part2.PNG", "part10.png"]


def test_hidden_files_and_macos_companions_are_skipped(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", ".hidden.png", "._a.png", ".cache/b.png")
    assert names(tmp_path, tmp_path) == ["a.png"]


def test_duplicates_are_removed_and_the_order_of_arguments_kept(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "b.png")
    (tmp_path / "x").mkdir()
    assert names(tmp_path, tmp_path / "b.png", tmp_path, tmp_path / "x" / ".." / "a.png") == ["b.png", "a.png"]


def test_patterns_are_expanded_here(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "b.jpg", "sub/c.png", "sub/d.txt")
    assert names(tmp_path, str(tmp_path / "*.png")) == ["a.png"]
    assert names(tmp_path, str(tmp_path / "**" / "*.png")) == ["a.png", "sub/c.png"]
    assert [image.root for image in find_images(str(tmp_path / "s*" / "*.png"))] == [tmp_path]


def test_a_file_whose_name_looks_like_a_pattern_is_a_file(tmp_path: Path) -> None:
    touch(tmp_path, "part[1].png")
    assert names(tmp_path, tmp_path / "part[1].png") == ["part[1].png"]


def test_results_inside_the_input_are_no_input(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "out/overlays/a.png", "old/overlays/a.png")
    (tmp_path / "old" / "run.json").write_text('{"schema": "blemish.run/7"}')
    assert names(tmp_path, tmp_path, skip=tmp_path / "out") == ["a.png"]
    assert names(tmp_path, str(tmp_path / "**" / "*.png"), skip=tmp_path / "out") == ["a.png"]
    with pytest.raises(UsageError, match="matches no image"):
        list_images(str(tmp_path / "o*" / "overlays" / "*.png"), skip=tmp_path / "out")
    for named in (tmp_path / "old", str(tmp_path / "old" / "overlays" / "*.png")):
        assert names(tmp_path, named) == ["old/overlays/a.png"]


@pytest.mark.parametrize("content", ["", "not JSON", "[]", '{"schema": "other.run/1"}', '{"lines": 5}'])
def test_another_programs_run_json_hides_no_images(content: str, tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "camera/b.png")
    (tmp_path / "camera" / "run.json").write_text(content)
    assert names(tmp_path, tmp_path) == ["a.png", "camera/b.png"]
    assert names(tmp_path, str(tmp_path / "**" / "*.png")) == ["a.png", "camera/b.png"]


def test_digits_that_are_no_numbers_sort_as_letters(tmp_path: Path) -> None:
    touch(tmp_path, "5²5.png", "5.png", "٣.png")
    assert len(list_images(tmp_path)) == 3


def test_what_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no such file or folder"):
        list_images(tmp_path / "missing")
    with pytest.raises(UsageError, match=r"empty: the folder holds no images"):
        list_images(tmp_path / "empty")
    with pytest.raises(UsageError, match="matches no image"):
        list_images(str(tmp_path / "*.png"))
    with pytest.raises(UsageError, match="no images were named"):
        list_images([])


def test_a_file_named_by_itself_is_taken_whatever_its_suffix(tmp_path: Path) -> None:
    touch(tmp_path, "scan.dat")
    assert names(tmp_path, tmp_path / "scan.dat") == ["scan.dat"]
