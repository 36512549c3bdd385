"""Opening a data set by its name or by its folder."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from blemish.data.entries import Entry, entry, known_sets
from blemish.data.files import FileSample
from blemish.data.layouts import LAYOUTS
from blemish.data.own import OWN_LAYOUTS
from blemish.data.samples import DataSet, Level
from blemish.data.scan import Problem, Scan
from blemish.data.synthetic import rendered
from blemish.errors import UsageError

__all__ = ["Reading", "open_data", "read_data"]

ROOT_VARIABLE = "BLEMISH_DATA"
RENDERED = re.compile(r"synthetic(?::(?P<count>[\d_]+)(?:@(?P<first>[\d_]+))?)?")
RENDERED_COUNT = 1000
MOST_NAMED = 5
CONVERTED = "mvtec"  # the layout that others convert data sets to


@dataclass(frozen=True)
class Reading:
    """A data set as it was read, the entry it was read by, and what was wrong on the way."""

    dataset: DataSet
    entry: Entry
    root: Path
    problems: tuple[Problem, ...]


def open_data(where: str | Path, *, root: Path | None = None) -> DataSet:
    """The data set at a path, or the one of that name below a data root ($BLEMISH_DATA, else the current folder).

    Names are those that `blemish data list` shows, and "synthetic:2000@10000000" for 2,000 rendered samples from that seed.
    Only lists of files are read (and masks, where they alone say which images are anomalous). UsageError where nothing or
    several things fit, and where masks and images cannot be paired without doubt.
    """
    asked = RENDERED.fullmatch(where) if isinstance(where, str) else None
    if asked is not None:
        return rendered(int(asked["count"] or RENDERED_COUNT), first_seed=int(asked["first"] or 0))
    reading = read_data(where, root=root)
    fatal = [problem for problem in reading.problems if problem.fatal]
    if fatal:
        named = "; ".join(str(problem) for problem in fatal[:MOST_NAMED])
        more = f"; and {len(fatal) - MOST_NAMED} more" if len(fatal) > MOST_NAMED else ""
        raise UsageError(
            f"{reading.root}: read as {reading.entry.title}, but truth and images do not fit together: {named}{more} "
            f"(blemish data check names everything)"
        )
    return reading.dataset


def read_data(where: str | Path, *, root: Path | None = None) -> Reading:
    """As `open_data`, with everything that is wrong instead of an error for what is unsure."""
    if isinstance(where, str) and where in {known.name for known in known_sets()}:
        found = entry(where)
        place, found = _locate(found, root or Path(os.environ.get(ROOT_VARIABLE) or "."))
    else:
        place = Path(where).expanduser()
        found = _recognise(place)
    return _read(place, found)


def _read(place: Path, found: Entry) -> Reading:
    scan = Scan(place)
    samples = LAYOUTS[found.layout].read(scan, found)
    if not samples:
        raise UsageError(f"{place}: read as {found.title}, but it holds no images")
    dataset = DataSet(
        name=found.name if not found.name.startswith("own") else place.resolve().name,
        samples=tuple(samples),
        level=_level(samples, found),
        variant=found.variant,
        licence=found.licence,
        notes=(*found.notes, *_notes(scan.problems)),
    )
    return Reading(dataset, found, place, tuple(scan.problems))


def _level(samples: Sequence[FileSample], found: Entry) -> Level:
    """What the entry says; of a set of one's own, what the samples allow."""
    if not found.name.startswith("own"):
        return found.level
    if not any(sample.truth for sample in samples):
        return "image"
    return "image+pixel" if any(not sample.anomalous for sample in samples) else "pixel"


def _notes(problems: Sequence[Problem]) -> list[str]:
    said = [str(problem) for problem in problems]
    if len(said) > MOST_NAMED:
        return [*said[:MOST_NAMED], f"and {len(said) - MOST_NAMED} more problems: blemish data check names them"]
    return said


def _locate(found: Entry, root: Path) -> tuple[Path, Entry]:
    """The folder of a named set at or below `root`, and the entry to read it by."""
    if not root.is_dir():
        raise UsageError(f"{root}: there is no such data root to look for {found.name} in")
    scan = Scan(root)
    names = {name.lower() for name in (found.name, *found.folders)}
    places = [folder for folder in scan.folders(root) if folder.name.lower() in names]
    places += [inner for place in places for inner in Scan(place).folders(place) if inner.name.lower() in names]
    if not places or root.resolve().name.lower() in names:
        places = [root, *places]
    for reading in (found, _converted(found)):
        fitting = [place for place in places if LAYOUTS[reading.layout].fits(place, reading, sure=False)]
        if len(fitting) == 1:
            return fitting[0], reading
        if fitting:
            raise UsageError(
                f"{root}: {found.name} lies there more than once: {', '.join(map(str, fitting))}; name one"
            )
    here = ", ".join(path.name for path in scan.entries(root)[:8]) or "nothing"
    raise UsageError(
        f"{root}: {found.title} is not there: expected a folder {' or '.join(found.folders or (found.name,))}, "
        f"with what the official download unpacks to; found {here}"
    )


def _converted(found: Entry) -> Entry:
    return replace(found, layout=CONVERTED, products={}, variant="converted to the layout of MVTec AD")


def _recognise(place: Path) -> Entry:
    if not place.exists():
        names = [known.name for known in known_sets()]
        near = difflib.get_close_matches(str(place), names, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise UsageError(f"{place}: neither a path nor a data set's name{hint} (blemish data list shows the names)")
    named = [known for known in known_sets() if _is(place, known)]
    if len(named) > 1:
        raise UsageError(
            f"{place}: could be {' or '.join(known.name for known in named)}: say which, "
            f"with its name and the folder as the data root (blemish data check: --as)"
        )
    if named:
        return named[0]
    own = next((known for known in OWN_LAYOUTS if LAYOUTS[known.layout].fits(place, known, sure=True)), None)
    if own is None:
        inside = ", ".join(path.name for path in Scan(place).entries(place)[:8]) if place.is_dir() else "a file"
        raise UsageError(
            f"{place}: not a layout that is known: expected one of {'; '.join(known.title for known in OWN_LAYOUTS)}; "
            f"or a known data set (blemish data list); found {inside or 'an empty folder'}"
        )
    return own


def _is(place: Path, known: Entry) -> bool:
    names = {name.lower() for name in (known.name, *known.folders)}
    called_so = bool(names & {place.resolve().name.lower(), place.resolve().parent.name.lower()})
    if known.needs_name and not called_so:
        return False
    return place.is_dir() and LAYOUTS[known.layout].fits(place, known, sure=not called_so)
