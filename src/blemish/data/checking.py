"""Looking at every file of a data set: what is in it, and what is wrong with which file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from blemish.data.files import FileSample
from blemish.data.left_out import find_left_out
from blemish.data.opening import Reading, read_data
from blemish.data.scan import FileProblem
from blemish.errors import ImageError

__all__ = ["Check", "CountRow", "check"]

NORMAL = "normal"
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
        problems += _check_files(reading.samples, progress)
    left_out = find_left_out(reading, problems)
    return Check(reading, tuple(_count(reading.samples)), tuple(dict.fromkeys(problems)), left_out)


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


def _check_files(samples: tuple[FileSample, ...], progress: Callable[[int, int], None] | None) -> list[FileProblem]:
    problems: list[FileProblem] = []
    first_of: dict[str, FileSample] = {}  # by digest
    readable: dict[Path, bool] = {}  # several parts of one image have one file
    for done, sample in enumerate(samples, start=1):
        if sample.path not in readable:
            problem = _check_image(sample, first_of)
            readable[sample.path] = problem is None or problem.what.startswith(SAME)
            problems += [] if problem is None else [problem]
        if readable[sample.path] and sample.anomalous and sample.truth is not None:
            problems += _check_truth(sample)
        if progress is not None:
            progress(done, len(samples))
    return problems


def _check_image(sample: FileSample, first_of: dict[str, FileSample]) -> FileProblem | None:
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


def _check_truth(sample: FileSample) -> list[FileProblem]:
    try:
        mask = sample.mask()
    except ImageError as error:
        return [FileProblem(Path(error.source), error.reason)]
    if mask is None or mask.any() or sample.truth is None:
        return []
    return [FileProblem(sample.truth.files[0], f"is an empty mask, and {sample.path.name} is anomalous")]
