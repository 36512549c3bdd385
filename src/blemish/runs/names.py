"""Names of result pictures: the tree of the inputs, each name once, safe on systems that ignore case."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain, count
from pathlib import Path, PurePosixPath

from blemish.images import FoundImage

__all__ = ["arriving_name", "output_names", "picture_name"]

PICTURE_SUFFIXES = (".jpg", ".png")


def output_names(images: Sequence[FoundImage]) -> list[PurePosixPath]:
    """One relative name without suffix for each image, as it lies below the folder that was asked for.

    `a/1.png` is named `a/1`; where `a/1.jpg` is there too, both keep their suffix: `a/1.png` and `a/1.jpg`. Where
    several folders were asked for, their names come first: `left/1`, `right/1`. No name is, with the suffix of a
    picture, that of a folder: beside a folder `1.jpg`, `1.png` keeps its suffix.
    """
    folders = _folder_names({_absolute(image.root) for image in images})
    relative = [_below(_absolute(image.path), _absolute(image.root), folders) for image in images]
    stems = Counter(_key(path.with_suffix("")) for path in relative)
    folders_used = {_key(folder) for path in relative for folder in path.parents}
    used: set[str] = set()
    names = []
    for path in relative:
        wanted = path if stems[_key(path.with_suffix(""))] > 1 else path.with_suffix("")
        numbered = (wanted.with_name(f"{wanted.name}-{number}") for number in count(2))
        for name in chain((wanted, path), numbered):
            pictures = {_key(name) + suffix for suffix in PICTURE_SUFFIXES}
            if _key(name) not in used and not pictures & folders_used:
                break
        used.add(_key(name))
        names.append(name)
    return names


def arriving_name(image: FoundImage, roots: Iterable[Path], used: set[str]) -> PurePosixPath:
    """The name of an image of which nobody knows what comes after it: with its suffix, and a number where it is `used`.

    The name is added to `used`; `roots` are all folders that are watched.
    """
    relative = _below(_absolute(image.path), _absolute(image.root), _folder_names({_absolute(root) for root in roots}))
    for name in chain((relative,), (relative.with_name(f"{relative.name}-{number}") for number in count(2))):
        if _key(name) not in used:
            break
    used.add(_key(name))
    return name


def picture_name(mask: str) -> str:
    """The name of an image's pictures, without case, from the path of its mask below the folder of results."""
    return mask.partition("/")[2].removesuffix(".png").casefold()


def _folder_names(roots: set[Path]) -> dict[Path, PurePosixPath]:
    """What stands for each folder in names: nothing for a single one, else as many of its last parts as tell all apart."""
    if len(roots) == 1:
        return dict.fromkeys(roots, PurePosixPath())
    names: dict[Path, PurePosixPath] = {}
    for depth in range(1, max((len(root.parts) for root in roots), default=1)):
        names = {root: PurePosixPath(*root.relative_to(root.anchor).parts[-depth:]) for root in roots}
        if len({_key(name) for name in names.values()}) == len(roots):
            break
    return names


def _below(path: Path, root: Path, folders: dict[Path, PurePosixPath]) -> PurePosixPath:
    inner = path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name
    return folders.get(root, PurePosixPath()) / inner


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))  # noqa: PTH100  (links stay as they were named)


def _key(path: PurePosixPath) -> str:
    return path.as_posix().casefold()
