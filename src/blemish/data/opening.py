"""Opening a data set by its name or by its folder."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from importlib.util import find_spec
from pathlib import Path

from blemish.data.counts import absent_products, count_differences, product_line
from blemish.data.entries import Entry, entry, known_sets, maker_of
from blemish.data.files import FileSample
from blemish.data.layouts import OWN, layout_of
from blemish.data.samples import DataSet, Level
from blemish.data.scan import FileProblem, Scan, folder_name, same_name
from blemish.data.splits import quarter_tested
from blemish.errors import UsageError

__all__ = ["Reading", "open_data", "read_data"]

ROOT_VARIABLE = "BLEMISH_DATA"
MOST_NAMED = 5
CONVERTED = "mvtec"  # the layout that others convert data sets to
IN_A_FILE = ("table", "coco", "meta_json")


@dataclass(frozen=True)
class Reading:
    """A data set as it was read, and what is wrong where it lies."""

    dataset: DataSet
    samples: tuple[FileSample, ...]
    entry: Entry  # by which it was read
    root: Path
    remarks: tuple[str, ...]  # worth knowing, and not wrong
    problems: tuple[FileProblem, ...]
    differences: tuple[str, ...]  # the lines of `counts.count_differences`


def open_data(where: str | Path, *, root: Path | None = None) -> DataSet:
    """The data set at a path, or the one of that name.

    Only lists of files are read (and masks, where they alone say which images are anomalous).

    Args:
        where: A path, or a name that `blemish data list` shows, or "synthetic:2000@10000000" for 2,000 rendered samples from
            that seed on.
        root: The folder that a named set lies below; by default $BLEMISH_DATA, else the current folder.

    Raises:
        UsageError: Nothing or several things fit, or masks and images cannot be paired without doubt.

    Example:
        >>> open_data("synthetic:3").samples[0].name
        'seed-000000000'
    """
    make = maker_of(where) if isinstance(where, str) else None
    if make is not None:
        return make(str(where).partition(":")[2])
    reading = read_data(where, root=root)
    fatal = [problem for problem in reading.problems if problem.fatal]
    if fatal:
        raise UsageError(
            f"{reading.root}: read as {reading.entry.title}, but truth and images do not fit together: "
            f"{'; '.join(_first(fatal))} (blemish data check names everything)"
        )
    return reading.dataset


def read_data(where: str | Path, *, root: Path | None = None, exact: bool = False) -> Reading:
    """As `open_data` for images in files, with all that is wrong instead of an error for what makes the truth unsure.

    exact: `root` is the set of that name, so that folders which it should not have do not speak against it.
    """
    if isinstance(where, str) and where in {known.name for known in known_sets()}:
        return _read(*_locate(entry(where), root, exact=exact))
    return _read(*_recognise(Path(where).expanduser()))


def _read(path: Path, read_as: Entry) -> Reading:
    scan = Scan(path)
    is_own = read_as in OWN
    samples = layout_of(read_as).read(scan, read_as)
    scan.tell_moved()
    if not samples:
        reasons = "; ".join(_first(scan.problems))
        raise UsageError(f"{path}: read as {read_as.title}, but no image can be used{': ' if reasons else ''}{reasons}")
    if read_as.options.get("split") == "quarter" and read_as.layout != CONVERTED:
        samples = quarter_tested(samples)
    problems = tuple(dict.fromkeys(scan.problems))
    differences = count_differences(samples, read_as, all_products=folder_name(path) not in read_as.products)
    absent = absent_products(samples, read_as)
    if len(read_as.products) - len(absent) == 1 and len(absent) > 1:  # one product was meant to be there, not fifteen
        differences = [line for line in differences if line not in {product_line(product) for product in absent}]
        scan.remark(f"one of the {len(read_as.products)} products of {read_as.title} is there")
    incomplete = [f"not the whole official set: {'; '.join(_first(differences))}"] if differences else []
    dataset = DataSet(
        name=_own_name(path) if is_own else read_as.name,
        samples=tuple(samples),
        level=_level(samples) if is_own else read_as.level,
        variant="; ".join(text for text in (read_as.variant, scan.variant) if text),
        licence=read_as.licence,
        notes=(*read_as.notes, *scan.remarks, *_first(problems), *incomplete),
    )
    return Reading(dataset, tuple(samples), read_as, path, tuple(scan.remarks), problems, tuple(differences))


def _own_name(path: Path) -> str:
    """A list is called after its file, everything else after its folder."""
    return path.stem if path.is_file() else folder_name(path)


def _level(samples: Sequence[FileSample]) -> Level:
    """What a user's own samples allow to measure."""
    if not any(sample.truth for sample in samples):
        return "image"
    return "pixel" if all(sample.anomalous for sample in samples) else "image+pixel"


def _first(lines: Sequence[object]) -> list[str]:
    more = [f"and {len(lines) - MOST_NAMED} more"] if len(lines) > MOST_NAMED else []
    return [*(str(line) for line in lines[:MOST_NAMED]), *more]


def _locate(wanted: Entry, root: Path | None, *, exact: bool) -> tuple[Path, Entry]:
    """The folder of a named set at or below the data root, or in its Python package, and the entry to read it by."""
    root = root or Path(os.environ.get(ROOT_VARIABLE) or ".")
    if not root.is_dir():
        raise UsageError(f"{root}: there is no such folder to look for {wanted.name} in")
    named = list(dict.fromkeys(_folders_of_that_name(root, wanted, exact=exact)))
    for read_as in (wanted, _converted(wanted)):
        fitting = [folder for folder in named if layout_of(read_as).fits(folder, read_as, sure=False)]
        fitting = [folder for folder in fitting if not set(folder.parents) & set(fitting)]
        if len(fitting) == 1:
            return fitting[0], read_as
        if fitting:
            raise UsageError(
                f"{root}: {wanted.name} lies there more than once: {', '.join(map(str, fitting))}; name one"
            )
    if not wanted.needs_name and layout_of(wanted).fits(root, wanted, sure=True):
        return root, wanted  # it has another name, and nothing in it speaks against it
    package = wanted.options.get("package")
    if package is not None and find_spec(package) is not None:
        note = f"read from the Python package {wanted.options['install']}"
        return Path(str(resources.files(package))) / wanted.options["inside"], replace(
            wanted, notes=(*wanted.notes, note)
        )
    hint = f" (or: pip install {wanted.options['install']})" if package is not None else ""
    raise UsageError(
        f"{root}: {wanted.title} is not there: expected what the official download unpacks to, in a folder "
        f"{' or '.join(wanted.folders or (wanted.name,))}{hint}; found {_contents(root)}"
    )


def _folders_of_that_name(root: Path, wanted: Entry, *, exact: bool) -> Iterator[Path]:
    """The folders with one of the set's names: the root, those in it, and one folder deeper."""
    names = (wanted.name, *wanted.folders)
    if exact or folder_name(root).lower() in {name.lower() for name in names}:
        yield root
    for name in names:
        folder: Path | None = root
        for piece in name.split("/"):
            folder = None if folder is None else same_name(Scan(folder).folders(folder), piece)
        if folder is not None:
            yield folder
            yield from Scan(folder).folders(folder)


def _converted(official: Entry) -> Entry:
    """The entry for a copy of the set that others brought into the layout of MVTec AD."""
    return replace(
        official,
        layout=CONVERTED,
        products={},
        options={key: value for key, value in official.options.items() if key in ("product", "type")},
        normal=tuple(dict.fromkeys((*official.normal, "good"))),
        types={},
        variant="a copy in the layout of MVTec AD, its own split",
    )


def _recognise(path: Path) -> tuple[Path, Entry]:
    """What lies at a path, or in its only folder."""
    if not path.exists():
        names = [known.name for known in known_sets()]
        nearest = difflib.get_close_matches(str(path).lower(), names, n=1)
        hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
        raise UsageError(f"{path}: neither a path nor a data set's name{hint} (blemish data list shows the names)")
    is_folder = path.is_dir()
    inside = Scan(path).folders(path) if is_folder else []
    candidates = [path, *inside] if len(inside) == 1 else [path]
    for candidate in candidates if is_folder else []:
        fitting = [known for known in known_sets() if not known.reading_of and _is(candidate, known)]
        if len(fitting) > 1:
            raise UsageError(
                f"{path}: could be {' or '.join(known.name for known in fitting)}: say which "
                f"(in Python: its name, with this folder as root; blemish data check: --as)"
            )
        if fitting:
            return candidate, fitting[0]
    possible = [own for own in OWN if is_folder or own.layout in IN_A_FILE]
    for candidate in candidates:
        for own in possible:
            if layout_of(own).fits(candidate, own, sure=True):
                return candidate, own
    raise UsageError(
        f"{path}: no known layout: expected {'; '.join(own.title for own in possible)}; "
        f"or a known data set (blemish data list); found {_contents(path) if is_folder else 'a file'}"
    )


def _contents(folder: Path) -> str:
    return ", ".join(path.name for path in Scan(folder).entries(folder)[:8]) or "nothing"


def _is(folder: Path, known: Entry) -> bool:
    names = {name.lower() for name in (known.name, *known.folders)}
    has_its_name = bool(names & {folder_name(folder).lower(), folder_name(folder.absolute().parent).lower()})
    if known.needs_name and not has_its_name:
        return False
    return layout_of(known).fits(folder, known, sure=not has_its_name)
