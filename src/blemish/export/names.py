"""Names of result pictures: the tree of the inputs, each name once, safe on systems that ignore case."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from blemish.images import FoundImage

__all__ = ["output_names"]


def output_names(images: Sequence[FoundImage]) -> list[PurePosixPath]:
    """One relative name without suffix for each image, below the folder that all were asked for under.

    `a/1.png` is named `a/1`; where `a/1.jpg` is there too, both keep their suffix: `a/1.png` and `a/1.jpg`.
    """
    base = _common_folder({image.root for image in images})
    relative = [_below(image.path, base) for image in images]
    stems = Counter(_key(path.with_suffix("")) for path in relative)
    taken: set[str] = set()
    names = []
    for path in relative:
        name = path if stems[_key(path.with_suffix(""))] > 1 else path.with_suffix("")
        unique, number = name, 1
        while _key(unique) in taken:
            number += 1
            unique = name.with_name(f"{name.name}-{number}")
        taken.add(_key(unique))
        names.append(unique)
    return names


def _common_folder(roots: set[Path]) -> Path | None:
    try:
        return Path(os.path.commonpath([os.path.abspath(root) for root in roots]))  # noqa: PTH100  (keeps links)
    except ValueError:  # different drives, or none
        return None


def _below(path: Path, base: Path | None) -> PurePosixPath:
    absolute = Path(os.path.abspath(path))  # noqa: PTH100
    if base is not None and absolute.is_relative_to(base):
        return PurePosixPath(absolute.relative_to(base).as_posix())
    return PurePosixPath(absolute.name)


def _key(path: PurePosixPath) -> str:
    return path.as_posix().casefold()
