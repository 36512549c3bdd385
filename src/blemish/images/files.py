"""Which files are meant: paths, folders and patterns as a list of images, with what was left out."""

from __future__ import annotations

import glob
import os
import re
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from functools import cache
from itertools import takewhile
from pathlib import Path
from typing import overload

from blemish.errors import ImageError, UsageError
from blemish.images.kinds import DICOM_MARK, DICOM_MARK_AT, SUFFIXES
from blemish.images.pages import pages_of, split_page
from blemish.io.atomic import reason
from blemish.io.run_files import RUN_FILE, holds_run

__all__ = ["FoundImage", "FoundImages", "Search", "find_images", "list_images", "paged"]

NO_SUFFIX = "no suffix"
UID_NAME = re.compile(r"\.\d+")  # the end of a file's name that is a number of DICOM: 1.2.840.10008.5
MOST_SUFFIXES = 8  # named in a summary


@dataclass(frozen=True)
class FoundImage:
    """An image file and the folder under which it was asked for."""

    path: Path
    root: Path


@dataclass(frozen=True)
class FoundImages(Sequence[FoundImage]):
    """The images that were found, in order, and what lay beside them."""

    images: tuple[FoundImage, ...]
    left_out: Mapping[str, int] = field(
        default_factory=dict
    )  # suffix in lower case -> files in folders that are no images
    unlisted: tuple[ImageError, ...] = ()  # folders that could not be looked into

    @overload
    def __getitem__(self, index: int) -> FoundImage: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[FoundImage, ...]: ...
    def __getitem__(self, index: int | slice) -> FoundImage | tuple[FoundImage, ...]:
        return self.images[index]

    def __len__(self) -> int:
        return len(self.images)

    @property
    def summary(self) -> str:
        """One line that says how many files were left out, by suffix; empty where none was."""
        return _left_out(self.left_out)

    @property
    def paths(self) -> list[Path]:
        """The files alone."""
        return [image.path for image in self.images]

    @property
    def notes(self) -> tuple[str, ...]:
        """What to tell the user about what was not taken: the line on files, and one for each folder that cannot be listed."""
        return tuple(line for line in (self.summary, *(f"unreadable: {error}" for error in self.unlisted)) if line)


@dataclass
class Search:
    """A search through folders: collects what is no image, and folders that cannot be listed.

    Hidden files and folders, and folders of results (`skip`, or any that holds Blemish's run.json), are passed over. Links to
    folders are not followed.
    """

    skip: Path | None = None
    left_out: Counter[str] = field(default_factory=Counter)
    unlisted: dict[str, ImageError] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._skipped = None if self.skip is None else self.skip.resolve()
        self._is_dicom: dict[Path, bool] = {}

    def folder(self, folder: Path) -> list[FoundImage]:
        """The images in a folder (recursive), sorted; UsageError where the folder itself cannot be listed."""
        try:
            with os.scandir(folder):
                pass
        except OSError as error:
            raise UsageError(f"{folder}: cannot be listed ({reason(error)})") from error
        files = [file for parent, names in self._walk(folder) for file in self._images(parent, names)]
        return [FoundImage(path, folder) for path in sorted(files, key=_natural)]

    def pattern(self, pattern: Path) -> list[FoundImage]:
        """The images that a pattern matches, sorted; `**` stands for folders of any depth, and never for a link to one."""
        fixed = list(takewhile(lambda part: not glob.has_magic(part), pattern.parts))
        root = Path(*fixed) if fixed else Path()
        is_results = cache(holds_run)
        files = [
            path
            for path in _matches(root, pattern.parts[len(fixed) :])
            if path.is_file()
            and self._is_image(path)
            and not self._is_skipped(path.parent)
            and not any(is_results(root / folder) for folder in list(path.relative_to(root).parents)[:-1])
        ]
        return [FoundImage(path, root) for path in sorted(set(files), key=_natural)]

    def _walk(self, folder: Path) -> Iterator[tuple[Path, list[str]]]:
        for parent, folders, names in os.walk(folder, onerror=self._note):
            here = Path(parent)
            results = here != folder and RUN_FILE in names and holds_run(here)
            if results or self._is_skipped(here):
                folders.clear()
                continue
            folders[:] = [name for name in folders if not name.startswith(".")]
            yield here, names

    def _images(self, parent: Path, names: Iterable[str]) -> list[Path]:
        found = []
        for name in names:
            if name.startswith("."):
                continue
            path = parent / name
            if self._is_image(path):
                found.append(path)
            else:
                self.left_out[path.suffix.lower() or NO_SUFFIX] += 1
        return found

    def _note(self, error: OSError) -> None:
        name = Path(os.fsdecode(error.filename)).as_posix()
        self.unlisted[name] = ImageError(name, f"the folder cannot be listed ({reason(error)})")

    def _is_skipped(self, folder: Path) -> bool:
        if self._skipped is None:
            return False
        here = folder.resolve()
        return here == self._skipped or self._skipped in here.parents

    def _is_image(self, path: Path) -> bool:
        """Whether a file is taken from a folder: by its suffix or, without one, by the mark that DICOM files carry."""
        if path.name.startswith("."):
            return False
        suffix = path.suffix.lower()
        if suffix in SUFFIXES:
            return True
        if suffix and not UID_NAME.fullmatch(suffix):
            return False
        if path not in self._is_dicom:
            self._is_dicom[path] = path.name.upper() != "DICOMDIR" and _has_dicom_mark(path)
        return self._is_dicom[path]


def list_images(paths: str | Path | Iterable[str | Path], *, skip: Path | None = None) -> list[Path]:
    """The image files among files, folders (recursive) and patterns such as `*.png` or `**/*.jpg`, each once.

    Folders and patterns are sorted as people count (part2 before part10). Hidden files and folders, and folders of
    results (`skip`, or any that holds Blemish's run.json), are left out, unless they are named themselves. Links to
    folders are not followed below a folder. A file named by itself is taken whatever its suffix. Each page of a file with
    several is an image of its own, `stack.tif#2`.
    A UsageError names what does not exist and a folder or pattern without images.
    """
    return find_images(paths, skip=skip).paths


def find_images(paths: str | Path | Iterable[str | Path], *, skip: Path | None = None) -> FoundImages:
    """As `list_images`, with the folder under which each file was found, and with what was left out."""
    asked: Sequence[str | Path] = [paths] if isinstance(paths, str | Path) else list(paths)
    if not asked:
        raise UsageError("no images were named: give files, folders or patterns")
    search = Search(skip)
    found: dict[str, FoundImage] = {}
    for entry in asked:
        for file in _find(entry, search):
            for image in paged(file):
                found.setdefault(os.path.normcase(os.path.realpath(image.path)), image)
    return FoundImages(tuple(found.values()), dict(search.left_out), tuple(search.unlisted.values()))


def paged(image: FoundImage) -> list[FoundImage]:
    """The pages of a file with several, or the file itself."""
    return [FoundImage(path, image.root) for path in pages_of(image.path)]


def _find(entry: str | Path, search: Search) -> list[FoundImage]:
    path = Path(entry).expanduser()
    if not str(entry):
        raise UsageError("an empty path was given")
    try:
        if path.is_dir():
            return _in_folder(path, search)
        if path.exists() or Path(split_page(path)[0]).is_file():
            return [FoundImage(path, path.parent)]
    except (OSError, ValueError) as error:
        raise UsageError(f"{entry}: cannot be used as a path ({error})") from error
    if glob.has_magic(str(path)):
        found = search.pattern(path)
        if not found:
            raise UsageError(f"{path}: the pattern matches no image")
        return found
    raise UsageError(f"{entry}: no such file or folder")


def _in_folder(folder: Path, search: Search) -> list[FoundImage]:
    before = len(search.unlisted)
    found = search.folder(folder)
    if not found:
        closed = "; ".join(str(error) for error in list(search.unlisted.values())[before:])
        there = "; ".join(text for text in (_left_out(search.left_out), closed) if text)
        raise UsageError(
            f"{folder}: the folder holds no images ({', '.join(sorted(SUFFIXES))}){'; ' if there else ''}{there}"
        )
    return found


def _left_out(counts: Mapping[str, int]) -> str:
    if not counts:
        return ""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    named = [f"{suffix} {count}" for suffix, count in ordered[:MOST_SUFFIXES]]
    rest = sum(count for _, count in ordered[MOST_SUFFIXES:])
    total = sum(counts.values())
    listed = ", ".join([*named, f"others {rest}"] if rest else named)
    return f"left out: {total} {'file' if total == 1 else 'files'} ({listed})"


def _matches(root: Path, parts: Sequence[str]) -> Iterator[Path]:
    """The paths below `root` that match the parts of a pattern; hidden ones only for a part that begins with a dot."""
    if not parts:
        yield root
        return
    first, rest = parts[0], parts[1:]
    if first == "**":
        for folder in _below(root):
            yield from _matches(folder, rest or ["*"])
    elif glob.has_magic(first):
        for entry in _entries(root):
            hidden = entry.name.startswith(".") and not first.startswith(".")
            if (
                not hidden
                and fnmatch(entry.name, first)
                and (not rest or (entry.is_dir() and not _leads_back(entry, root)))
            ):
                yield from _matches(root / entry.name, rest)
    elif (root / first).exists():
        yield from _matches(root / first, rest)


def _below(root: Path) -> Iterator[Path]:
    """A folder and those below it, each once: links to folders last, and never one that leads back above `root`."""
    visited: set[str] = set()
    links = deque([root])
    while links:
        folders = [links.popleft()]
        while folders:
            folder = folders.pop()
            real = os.path.realpath(folder)
            if real in visited:
                continue
            visited.add(real)
            yield folder
            for entry in _entries(folder):
                if entry.name.startswith(".") or not entry.is_dir():
                    continue
                if not entry.is_symlink():
                    folders.append(folder / entry.name)
                elif not _leads_back(entry, root):
                    links.append(folder / entry.name)


def _leads_back(entry: os.DirEntry[str], root: Path) -> bool:
    """Whether a link leads to a folder or to one that holds it."""
    real = Path(os.path.realpath(root))
    return entry.is_symlink() and Path(os.path.realpath(entry)) in (real, *real.parents)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:  # no folder, or one that is closed
        return []


def _has_dicom_mark(path: Path) -> bool:
    try:
        if not path.is_file():
            return False
        with path.open("rb") as stream:
            return stream.read(DICOM_MARK_AT + len(DICOM_MARK))[DICOM_MARK_AT:] == DICOM_MARK
    except OSError:
        return False


def _natural(path: Path) -> list[tuple[int, int, str]]:
    """A key that sorts numbers in names by value and letters without case; the path itself breaks ties."""
    pieces = re.split(r"(\d+)", path.as_posix().lower())
    return [(1, int(piece), "") if piece.isdecimal() else (0, 0, piece) for piece in pieces] + [(0, 0, path.as_posix())]
