"""What lies in the folder of a data set and is no part of it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from blemish.data.opening import Reading
from blemish.data.scan import FileProblem
from blemish.images import SUFFIXES
from blemish.io.atomic import reason

__all__ = ["find_left_out"]

MOST_NAMED = 8


def find_left_out(reading: Reading, problems: list[FileProblem]) -> tuple[str, ...]:
    """Lines about the files below the set's folder that are neither images nor truth of it, nor named as a problem.

    Folders that cannot be listed are added to the problems. Of a set that a list in a file describes, only the folders of its
    images are looked at.
    """
    used = {os.path.realpath(sample.path) for sample in reading.samples}
    used |= {os.path.realpath(file) for sample in reading.samples if sample.truth for file in sample.truth.files}
    named = {os.path.realpath(problem.path) for problem in reading.problems}
    images: Counter[str] = Counter()
    others: Counter[str] = Counter()
    for parent, name in _files(reading, problems):
        path = Path(parent, name)
        real = os.path.realpath(path)
        if real in used or real in named or any(str(above) in named for above in Path(real).parents):
            continue
        if path.suffix.lower() in SUFFIXES:
            images[path.parent.relative_to(reading.root).as_posix() if reading.root.is_dir() else path.parent.name] += 1
        else:
            others[path.suffix.lower() or "no suffix"] += 1
    return tuple(
        f"{sum(counts.values()):,} {what} ({_most(counts)})"
        for counts, what in (
            (images, "image files are no part of the set as it was read"),
            (others, "files are no images"),
        )
        if counts
    )


def _files(reading: Reading, problems: list[FileProblem]) -> Iterator[tuple[str, str]]:
    def note(error: OSError) -> None:
        problems.append(FileProblem(Path(error.filename), f"cannot be listed ({reason(error)})", fatal=True))

    if reading.root.is_dir():
        for parent, folders, names in os.walk(reading.root, onerror=note):
            folders[:] = [name for name in folders if not name.startswith((".", "__MACOSX"))]
            yield from ((parent, name) for name in names if not name.startswith("."))
        return
    for folder in dict.fromkeys(sample.path.parent for sample in reading.samples):
        yield from ((str(folder), path.name) for path in folder.iterdir() if path.is_file())


def _most(counts: Counter[str]) -> str:
    ordered = counts.most_common()
    rest = sum(count for _, count in ordered[MOST_NAMED:])
    return ", ".join(
        [*(f"{name} {count:,}" for name, count in ordered[:MOST_NAMED]), *([f"others {rest:,}"] if rest else [])]
    )
