"""Looking at every file of a data set: what is in it, and what is wrong with which file."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from blemish.data.files import FileSample
from blemish.data.opening import Reading, read_data
from blemish.data.scan import FileProblem
from blemish.errors import ImageError
from blemish.images import SUFFIXES
from blemish.io.atomic import reason

__all__ = ["Check", "CountRow", "check"]

NORMAL = "normal"
MOST_NAMED = 8
SAME = "has the same bytes as"


@dataclass(frozen=True)
class CountRow:
    """The images of one product, split and type, and how many of them have a drawn mask."""

    product: str
    split: str
    defect_type: str
    folder: str
    images: int
    masks: int


@dataclass(frozen=True)
class Check:
    """What was found: the data set as read, its counts, every problem with its file, and what was left out."""

    reading: Reading
    rows: tuple[CountRow, ...]
    problems: tuple[FileProblem, ...]
    left_out: tuple[str, ...] = ()  # lines about files that lie there and are no part of the set

    @property
    def is_clean(self) -> bool:
        return not self.problems and not self.reading.differences


def check(
    where: str | Path,
    *,
    root: Path | None = None,
    quick: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Check:
    """The data set with its counts and problems; `quick` opens no image. UsageError where nothing is recognised.

    A name says that the set lies at `root`, whatever its folder is called.

    Every image and every mask is decoded once: unreadable files, empty masks, masks of another size and files with the same
    bytes are problems. progress(done, of_how_many) is called after each sample. Nothing is written.
    """
    reading = read_data(where, root=root, exact=True)
    problems = list(reading.problems)
    if not quick:
        problems += _look(reading.samples, progress)
    left_out = _left_out(reading, problems)
    return Check(reading, tuple(_count(reading.samples)), tuple(dict.fromkeys(problems)), tuple(left_out))


def _left_out(reading: Reading, problems: list[FileProblem]) -> list[str]:
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
    return [
        f"{sum(counts.values()):,} {what} ({_most(counts)})"
        for counts, what in (
            (images, "image files are no part of the set as it was read"),
            (others, "files are no images"),
        )
        if counts
    ]


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


def _count(samples: tuple[FileSample, ...]) -> list[CountRow]:
    images: Counter[tuple[str, str, str, str]] = Counter()
    masks: Counter[tuple[str, str, str, str]] = Counter()
    for sample in samples:
        named = sample.defect_type or "no name" if sample.anomalous else NORMAL
        key = (sample.product, sample.split, named, sample.folder)
        images[key] += 1
        masks[key] += sample.truth is not None
    keys = sorted(images, key=lambda key: (key[0], key[1] != "train", key[2] != NORMAL, *key[2:]))
    return [CountRow(*key, images[key], masks[key]) for key in keys]


def _look(samples: tuple[FileSample, ...], progress: Callable[[int, int], None] | None) -> list[FileProblem]:
    problems: list[FileProblem] = []
    first_of: dict[str, FileSample] = {}  # by digest
    readable: dict[Path, bool] = {}  # several parts of one image have one file
    for done, sample in enumerate(samples, start=1):
        if sample.path not in readable:
            found = _look_at_image(sample, first_of)
            readable[sample.path] = found is None or found.what.startswith(SAME)
            problems += [] if found is None else [found]
        if readable[sample.path] and sample.anomalous and sample.truth is not None:
            problems += _look_at_truth(sample)
        if progress is not None:
            progress(done, len(samples))
    return problems


def _look_at_image(sample: FileSample, first_of: dict[str, FileSample]) -> FileProblem | None:
    """What is wrong with an image file: that it cannot be read, or that another one has its bytes."""
    try:
        sample.picture()
        other = first_of.setdefault(replace(sample, box_px=None).digest(), sample)
    except ImageError as error:
        return FileProblem(sample.path, f"is unreadable: {error.reason}")
    if other is sample:
        return None
    unlike = "" if other.anomalous == sample.anomalous else ", and one is normal, the other anomalous"
    return FileProblem(sample.path, f"{SAME} {other.name}{unlike}")


def _look_at_truth(sample: FileSample) -> list[FileProblem]:
    try:
        mask = sample.mask()
    except ImageError as error:
        return [FileProblem(Path(error.source), error.reason)]
    if mask is None or mask.any() or sample.truth is None:
        return []
    return [FileProblem(sample.truth.files[0], f"is an empty mask, and {sample.path.name} is anomalous")]
