"""Looking through a folder: what is an image, which mask belongs to which, and what is wrong with which file."""

from __future__ import annotations

import os
import re
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from blemish.data.entries import Entry
from blemish.data.files import FileSample, MaskTruth
from blemish.data.samples import Split
from blemish.errors import UsageError
from blemish.images import SUFFIXES
from blemish.io.atomic import reason
from blemish.io.text import read_text

__all__ = ["MASK_ENDINGS", "FileProblem", "Scan", "folder_name", "holds_images", "same_name"]

ESCAPED = re.compile(r"\\u(dc[89a-f][0-9a-f])")
FOREIGN = re.compile(r"/|~|[A-Za-z]:|.*\\", re.DOTALL)  # an absolute path, a drive, or backslashes
MOST_WALKED = 500_000  # files among which one that was moved is looked for
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
    moved: dict[str, Path] = field(default_factory=dict)  # names of files as a list has them -> where they were found
    variant: str = ""  # what must stand beside every number and only the files say
    _names: dict[Path, dict[str, list[Path]]] = field(default_factory=dict, repr=False)

    def report(self, path: Path, what: str, *, fatal: bool = False) -> None:
        self.problems.append(FileProblem(path, what, fatal))

    def remark(self, text: str) -> None:
        """Take note of something that the user should know and that is not wrong."""
        if text not in self.remarks:
            self.remarks.append(text)

    def text(self, path: Path) -> str:
        """The text of a file, with a remark where it is not UTF-8; UsageError where it cannot be read."""
        text, coding = read_text(path)
        if coding:
            self.remark(f"{path.name} is not UTF-8: read as {coding}")
        return text

    def locate(self, base: Path, name: str, inner: Sequence[str] = ("",)) -> Path | None:
        """The file that a list means by `name`: below `base` or one of its folders `inner`, else where it was moved to.

        A list may have been made on Windows or on another machine. Where its paths are of that kind, the file below `base` is
        taken that ends with the same folders and name, if there is one only; `tell_moved` says so. None where there is none,
        or several fit.
        """
        name = ESCAPED.sub(
            lambda found: chr(int(found[1], 16)), name
        )  # a name that is no text, as our own lists write it
        plain = name.replace("\\", "/")
        for spelled in dict.fromkeys((name, plain)):
            for folder in inner:
                path = Path(os.path.normpath(base / folder / spelled))
                if path.is_file():
                    return path
        if not FOREIGN.match(name):
            return None
        parts = [part for part in plain.lower().split("/") if part not in ("", ".", "..")]
        found = self._below(base).get(parts[-1], []) if parts else []
        agreeing = [_agreeing(path, parts) for path in found]
        best = [path for path, length in zip(found, agreeing, strict=True) if length == max(agreeing)]
        if len(best) != 1:
            return None
        self.moved[name] = best[0]
        return best[0]

    def tell_moved(self) -> None:
        """A remark for all files that `locate` found elsewhere than their list says."""
        if self.moved:
            name, path = next(iter(self.moved.items()))
            self.remark(
                f"{len(self.moved)} files lie elsewhere than their list says ({name} was found as {path.as_posix()})"
            )

    def _below(self, base: Path) -> dict[str, list[Path]]:
        """The files below a folder by their names in lower case."""
        if base not in self._names:
            index: dict[str, list[Path]] = {}
            walked = ((Path(parent), name) for parent, _, names in os.walk(base) for name in names)
            for parent, name in islice(walked, MOST_WALKED):
                index.setdefault(name.lower(), []).append(parent / name)
            self._names[base] = index
        return self._names[base]

    def name(self, path: Path) -> str:
        """The name of a sample: its path below the root."""
        return path.relative_to(self.root).as_posix()

    def sample(
        self,
        path: Path,
        entry: Entry,
        *,
        word: str,
        anomalous: bool,
        product: str | None = None,
        split: Split = "test",
        masks: Sequence[Path] = (),
    ) -> FileSample:
        """The sample of an image file.

        Args:
            path: The file, below the root.
            entry: The data set; its `types` lead from the word to the defect type.
            word: The data set's own word for what the image shows, mostly its folder.
            anomalous: Whether the image is.
            product: By default the data set's option "product", else the name of the root.
            split: Of the data set.
            masks: The files of its truth, whose union counts; left out where it is normal.
        """
        return FileSample(
            name=self.name(path),
            product=product or entry.options.get("product") or folder_name(self.root),
            split=split,
            anomalous=anomalous,
            path=path,
            defect_type=entry.type_of(word) if anomalous else "",
            folder=word,
            truth=MaskTruth(tuple(masks), entry.threshold) if masks and anomalous else None,
        )

    def entries(self, folder: Path) -> list[Path]:
        """What lies in a folder, sorted, without what is hidden; one that cannot be listed is reported.

        Raises:
            UsageError: the root cannot be listed.
        """
        try:
            return sorted((path for path in folder.iterdir() if not path.name.startswith((".", "__MACOSX"))), key=str)
        except OSError as error:
            if folder == self.root:
                raise UsageError(f"{folder}: cannot be listed ({reason(error)})") from error
            self.report(folder, f"cannot be listed ({reason(error)})", fatal=True)
            return []

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


def _agreeing(path: Path, parts: Sequence[str]) -> int:
    """How many parts at the end of a path are those of a name."""
    length = 0
    for mine, wanted in zip(reversed(path.parts), reversed(parts), strict=False):
        if mine.lower() != wanted:
            break
        length += 1
    return length


def holds_images(folder: Path) -> bool:
    """Whether an image file lies directly in a folder; not where it cannot be listed."""
    try:
        return folder.is_dir() and any(path.suffix.lower() in SUFFIXES and path.is_file() for path in folder.iterdir())
    except OSError:
        return False


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
