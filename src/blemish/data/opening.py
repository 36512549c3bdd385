"""Opening a data set by its name or by its folder."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from importlib.util import find_spec
from pathlib import Path

from blemish.data.counts import count_differences
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
    """A data set as it was read: `dataset`, the entry it was read by, where it lies, and what is wrong there.

    `differences` are the lines of `counts.count_differences`.
    """

    dataset: DataSet
    samples: tuple[FileSample, ...]
    entry: Entry
    root: Path
    remarks: tuple[str, ...]
    problems: tuple[FileProblem, ...]
    differences: tuple[str, ...]


def open_data(where: str | Path, *, root: Path | None = None) -> DataSet:
    """The data set at a path, or the one of that name below a data root ($BLEMISH_DATA, else the current folder).

    Names are those that `blemish data list` shows, and "synthetic:2000@10000000" for 2,000 rendered samples from that seed.
    Only lists of files are read (and masks, where they alone say which images are anomalous). UsageError where nothing or
    several things fit, and where masks and images cannot be paired without doubt.
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

    exact: someone said that `root` is the set of that name, so that folders which it should not have do not speak against it.
    """
    if isinstance(where, str) and where in {known.name for known in known_sets()}:
        return _read(*_locate(entry(where), root, exact=exact))
    return _read(*_recognise(Path(where).expanduser()))


def _read(place: Path, found: Entry) -> Reading:
    scan = Scan(place)
    own = found in OWN
    samples = layout_of(found).read(scan, found)
    if not samples:
        told = "; ".join(_first(scan.problems))
        raise UsageError(f"{place}: read as {found.title}, but no image can be used{': ' if told else ''}{told}")
    if found.options.get("split") == "quarter" and found.layout != CONVERTED:
        samples = quarter_tested(samples)
    problems = tuple(dict.fromkeys(scan.problems))
    missing = count_differences(samples, found, whole=folder_name(place) not in found.products)
    counted = [f"not the whole official set: {'; '.join(_first(missing))}"] if missing else []
    dataset = DataSet(
        name=_own_name(place) if own else found.name,
        samples=tuple(samples),
        level=_level(samples) if own else found.level,
        variant="; ".join(text for text in (found.variant, scan.variant) if text),
        licence=found.licence,
        notes=(*found.notes, *scan.remarks, *_first(problems), *counted),
    )
    return Reading(dataset, tuple(samples), found, place, tuple(scan.remarks), problems, tuple(missing))


def _own_name(place: Path) -> str:
    """A list is called after its file, everything else after its folder."""
    return place.stem if place.is_file() else folder_name(place)


def _level(samples: Sequence[FileSample]) -> Level:
    """What a user's own samples allow to measure."""
    if not any(sample.truth for sample in samples):
        return "image"
    return "pixel" if all(sample.anomalous for sample in samples) else "image+pixel"


def _first(lines: Sequence[object]) -> list[str]:
    more = [f"and {len(lines) - MOST_NAMED} more"] if len(lines) > MOST_NAMED else []
    return [*(str(line) for line in lines[:MOST_NAMED]), *more]


def _locate(found: Entry, asked: Path | None, *, exact: bool) -> tuple[Path, Entry]:
    """The folder of a named set at or below the data root, or in its Python package, and the entry to read it by."""
    root = asked or Path(os.environ.get(ROOT_VARIABLE) or ".")
    if not root.is_dir():
        raise UsageError(f"{root}: there is no such folder to look for {found.name} in")
    named = list(dict.fromkeys(_called_so(root, found, exact=exact)))
    for reading in (found, _converted(found)):
        fitting = [place for place in named if layout_of(reading).fits(place, reading, sure=False)]
        fitting = [place for place in fitting if not set(place.parents) & set(fitting)]
        if len(fitting) == 1:
            return fitting[0], reading
        if fitting:
            raise UsageError(
                f"{root}: {found.name} lies there more than once: {', '.join(map(str, fitting))}; name one"
            )
    if not found.needs_name and layout_of(found).fits(root, found, sure=True):
        return root, found  # it has another name, and nothing in it speaks against it
    package = found.options.get("package")
    if package is not None and find_spec(package) is not None:
        said = replace(found, notes=(*found.notes, f"read from the Python package {found.options['install']}"))
        return Path(str(resources.files(package))) / found.options["inside"], said
    here = ", ".join(path.name for path in Scan(root).entries(root)[:8]) or "nothing"
    hint = f" (or: pip install {found.options['install']})" if package is not None else ""
    raise UsageError(
        f"{root}: {found.title} is not there: expected what the official download unpacks to, in a folder "
        f"{' or '.join(found.folders or (found.name,))}{hint}; found {here}"
    )


def _called_so(root: Path, found: Entry, *, exact: bool) -> Iterator[Path]:
    """The folders with one of the set's names: the root, those in it, and one folder deeper."""
    names = (found.name, *found.folders)
    if exact or folder_name(root).lower() in {name.lower() for name in names}:
        yield root
    for name in names:
        place: Path | None = root
        for piece in name.split("/"):
            place = None if place is None else same_name(Scan(place).folders(place), piece)
        if place is not None:
            yield place
            yield from Scan(place).folders(place)


def _converted(found: Entry) -> Entry:
    """The entry for a copy of the set that others brought into the layout of MVTec AD."""
    options = {key: value for key, value in found.options.items() if key in ("product", "type")}
    return replace(
        found,
        layout=CONVERTED,
        products={},
        options=options,
        normal=tuple(dict.fromkeys((*found.normal, "good"))),
        types={},
        variant="a copy in the layout of MVTec AD, its own split",
    )


def _recognise(place: Path) -> tuple[Path, Entry]:
    """What lies at a path, or in its only folder."""
    if not place.exists():
        names = [known.name for known in known_sets()]
        near = difflib.get_close_matches(str(place).lower(), names, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise UsageError(f"{place}: neither a path nor a data set's name{hint} (blemish data list shows the names)")
    folder = place.is_dir()
    inside = Scan(place).folders(place) if folder else []
    places = [place, *inside] if len(inside) == 1 else [place]
    for here in places if folder else []:
        named = [known for known in known_sets() if not known.reading_of and _is(here, known)]
        if len(named) > 1:
            raise UsageError(
                f"{place}: could be {' or '.join(known.name for known in named)}: say which "
                f"(in Python: its name, with this folder as root; blemish data check: --as)"
            )
        if named:
            return here, named[0]
    able = [own for own in OWN if folder or own.layout in IN_A_FILE]
    for here in places:
        for own in able:
            if layout_of(own).fits(here, own, sure=True):
                return here, own
    there = ", ".join(path.name for path in Scan(place).entries(place)[:8]) or "nothing" if folder else "a file"
    raise UsageError(
        f"{place}: no known layout: expected {'; '.join(own.title for own in able)}; "
        f"or a known data set (blemish data list); found {there}"
    )


def _is(place: Path, known: Entry) -> bool:
    names = {name.lower() for name in (known.name, *known.folders)}
    called_so = bool(names & {folder_name(place).lower(), folder_name(place.absolute().parent).lower()})
    if known.needs_name and not called_so:
        return False
    return layout_of(known).fits(place, known, sure=not called_so)
