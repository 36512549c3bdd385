"""Which files are meant: paths, folders and patterns as a list of images."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from blemish.errors import UsageError
from blemish.images.pages import pages_of, split_page
from blemish.io.run_files import RUN_FILE, holds_run

__all__ = ["SUFFIXES", "FoundImage", "find_images", "images_in", "list_images", "paged"]

SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".tif", ".tiff", ".bmp", ".webp", ".dcm", ".dicom"})


@dataclass(frozen=True)
class FoundImage:
    """An image file and the folder under which it was asked for."""

    path: Path
    root: Path


def list_images(paths: str | Path | Iterable[str | Path], *, skip: Path | None = None) -> list[Path]:
    """The image files among files, folders (recursive) and patterns such as `*.png` or `**/*.jpg`, each once.

    Folders and patterns are sorted as people count (part2 before part10). Hidden files and folders, and folders of
    results (`skip`, or any that holds Blemish's run.json), are left out, unless they are named themselves. Links to
    folders are not followed below a folder. A file named by itself is taken whatever its suffix. Each page of a file with
    several is an image of its own, `stack.tif#2`.
    A UsageError names what does not exist and a folder or pattern without images.
    """
    return [found.path for found in find_images(paths, skip=skip)]


def find_images(paths: str | Path | Iterable[str | Path], *, skip: Path | None = None) -> list[FoundImage]:
    """As `list_images`, with the folder under which each file was found."""
    asked: Sequence[str | Path] = [paths] if isinstance(paths, str | Path) else list(paths)
    if not asked:
        raise UsageError("no images were named: give files, folders or patterns")
    found: dict[str, FoundImage] = {}
    for entry in asked:
        for file in _find(entry, skip):
            for image in paged(file):
                found.setdefault(os.path.normcase(os.path.realpath(image.path)), image)
    return list(found.values())


def paged(image: FoundImage) -> list[FoundImage]:
    """The pages of a file with several, or the file itself."""
    return [FoundImage(path, image.root) for path in pages_of(image.path)]


def _find(entry: str | Path, skip: Path | None) -> list[FoundImage]:
    path = Path(entry).expanduser()
    if not str(entry):
        raise UsageError("an empty path was given")
    try:
        if path.is_dir():
            return _in_folder(path, skip)
        if path.exists() or Path(split_page(path)[0]).is_file():
            return [FoundImage(path, path.parent)]
    except (OSError, ValueError) as error:
        raise UsageError(f"{entry}: cannot be used as a path ({error})") from error
    if glob.has_magic(str(path)):
        return _matching(path, skip)
    raise UsageError(f"{entry}: no such file or folder")


def images_in(folder: Path, skip: Path | None = None) -> list[FoundImage]:
    """The images in a folder (recursive), sorted; UsageError where it cannot be listed."""
    skipped = None if skip is None else skip.resolve()
    files: list[Path] = []

    def refuse(error: OSError) -> None:
        raise UsageError(f"{error.filename}: cannot be listed ({error.strerror})") from error

    for parent, folders, names in os.walk(folder, onerror=refuse):
        here = Path(parent)
        if skipped is not None and here.resolve() == skipped:
            folders.clear()
            continue
        if here != folder and RUN_FILE in names and holds_run(here):
            folders.clear()
            continue
        folders[:] = [name for name in folders if not name.startswith(".")]
        files += [here / name for name in names if _is_image_name(name)]
    return [FoundImage(path, folder) for path in sorted(files, key=_natural)]


def _in_folder(folder: Path, skip: Path | None) -> list[FoundImage]:
    found = images_in(folder, skip)
    if not found:
        raise UsageError(f"{folder}: the folder holds no images ({', '.join(sorted(SUFFIXES))})")
    return found


def _matching(pattern: Path, skip: Path | None) -> list[FoundImage]:
    fixed = []
    for part in pattern.parts:
        if glob.has_magic(part):
            break
        fixed.append(part)
    root = Path(*fixed) if fixed else Path()
    skipped = None if skip is None else skip.resolve()
    is_results = cache(holds_run)
    matches = [Path(match) for match in glob.glob(str(pattern), recursive=True)]  # noqa: PTH207  (takes absolute ones)
    files = [
        path
        for path in matches
        if path.is_file()
        and _is_image_name(path.name)
        and (skipped is None or skipped not in path.resolve().parents)
        and not any(is_results(root / folder) for folder in list(path.relative_to(root).parents)[:-1])
    ]
    if not files:
        raise UsageError(f"{pattern}: the pattern matches no image")
    return [FoundImage(path, root) for path in sorted(files, key=_natural)]


def _is_image_name(name: str) -> bool:
    return not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES


def _natural(path: Path) -> list[tuple[int, int, str]]:
    """A key that sorts numbers in names by value and letters without case; the path itself breaks ties."""
    pieces = re.split(r"(\d+)", path.as_posix().lower())
    return [(1, int(piece), "") if piece.isdecimal() else (0, 0, piece) for piece in pieces] + [(0, 0, path.as_posix())]
