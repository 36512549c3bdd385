"""Looking through a folder: what is an image, which mask belongs to which, and what is wrong with which file."""

from __future__ import annotations

import os
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from blemish.errors import UsageError
from blemish.images import SUFFIXES
from blemish.io.atomic import reason

__all__ = ["MASK_ENDINGS", "FileProblem", "Scan", "folder_name", "holds_images", "same_name"]

MASK_ENDINGS = ("_segmentation", "_mask", "_label", "_gt")


@dataclass(frozen=True)
class FileProblem:
    """What is wrong with a file."""

    path: Path
    what: str  # goes on from the path: "is an empty mask"
    fatal: bool = False  # it is unsure which truth belongs to which image: such a set is not opened

    def __str__(self) -> str:
        return f"{self.path.as_posix()}: {self.what}"


@dataclass
class Scan:
    """The files below `root`, and the problems met while looking at them. It opens no image."""

    root: Path
    problems: list[FileProblem] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    variant: str = ""  # what must stand beside every number and only the files say

    def report(self, path: Path, what: str, *, fatal: bool = False) -> None:
        self.problems.append(FileProblem(path, what, fatal))

    def remark(self, text: str) -> None:
        """Take note of something that the user should know and that is not wrong."""
        self.remarks.append(text)

    def name(self, path: Path) -> str:
        """The name of a sample: its path below the root."""
        return path.relative_to(self.root).as_posix()

    def entries(self, folder: Path) -> list[Path]:
        """What lies in a folder, sorted, without what is hidden; UsageError where it cannot be listed."""
        try:
            return sorted((path for path in folder.iterdir() if not path.name.startswith((".", "__MACOSX"))), key=str)
        except OSError as error:
            raise UsageError(f"{folder}: cannot be listed ({reason(error)})") from error

    def folders(self, folder: Path) -> list[Path]:
        return [path for path in self.entries(folder) if path.is_dir()]

    def images(self, folder: Path) -> list[Path]:
        """The image files directly in a folder. Folders that are named like images and copies are reported and left out."""
        files = []
        for path in self.entries(folder):
            if path.suffix.lower() not in SUFFIXES:
                continue
            if path.is_dir():
                self.report(path, "is a folder where an image file should be")
            elif "(copy)" in path.name:
                self.report(path, "is a stray copy, left out")
            else:
                files.append(path)
        return files

    def pairs(
        self, pictures: Sequence[Path], masks: Iterable[Path], endings: Sequence[str] = MASK_ENDINGS
    ) -> dict[Path, tuple[Path, ...]]:
        """The masks of each picture, paired by name: the picture's stem, with one of the endings or without.

        Endings with a number (`_mask1`, `_mask2`) are parts of one truth. Masks of no picture, and what could belong to two,
        are reported as fatal.
        """
        by_stem: dict[str, Path] = {}
        for picture in pictures:
            other = by_stem.setdefault(picture.stem.lower(), picture)
            if other is not picture:
                self.report(picture, f"has the same stem as {other.name}: no mask can be told apart", fatal=True)
        paired: dict[Path, list[Path]] = {}
        for mask in masks:
            stem, part = _without_ending(mask.stem.lower(), endings, by_stem)
            if stem not in by_stem:
                self.report(mask, "is a mask of no image", fatal=True)
                continue
            of_picture = paired.setdefault(by_stem[stem], [])
            if of_picture and not part:
                self.report(mask, f"is a second mask of {by_stem[stem].name}, beside {of_picture[0].name}", fatal=True)
                continue
            of_picture.append(mask)
        return {picture: tuple(files) for picture, files in paired.items()}


def holds_images(folder: Path) -> bool:
    """Whether an image file lies directly in a folder."""
    return folder.is_dir() and any(path.suffix.lower() in SUFFIXES and path.is_file() for path in folder.iterdir())


def folder_name(path: Path) -> str:
    """The name of a folder as it was asked for, also where it was asked for as "." or is a link."""
    return Path(os.path.abspath(path)).name  # noqa: PTH100  (Path.resolve would follow the link)


def same_name(folders: Iterable[Path], name: str) -> Path | None:
    """The folder with this name, upper and lower case aside."""
    return next((folder for folder in folders if folder.name.lower() == name.lower()), None)


def _without_ending(stem: str, endings: Sequence[str], known: Container[str]) -> tuple[str, bool]:
    """The stem of the picture that a mask's stem means, and whether the mask is one part of several."""
    if stem in known:
        return stem, False
    plain = stem.rstrip("0123456789")
    for ending in endings:
        if stem.endswith(ending.lower()):
            return stem.removesuffix(ending.lower()), False
        if plain != stem and plain.endswith(ending.lower()):
            return plain.removesuffix(ending.lower()), True
    return stem, False
