"""What is known of each data set, from the TOML files in known/: where it comes from, how it lies on disk, what is in it."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any

from blemish.data.samples import DataSet, Level
from blemish.errors import UnknownNameError, UsageError
from blemish.io.codec import from_dict
from blemish.plugins import Registry

__all__ = ["DATASETS", "LAYOUTS", "Entry", "entry", "is_known", "known_sets", "maker_of"]

# Beside the files in known/. A name stands for a TOML file like those there, or, where a set lies in no files, for a function
# that makes it: it gets what stands behind the name and a colon, as in "synthetic:2000@10000000".
DATASETS = Registry("blemish.datasets", "data set", {"synthetic": "blemish.synthesis.dataset:open_rendered"})
# The readers of layouts on disk: `blemish.data.layouts.Layout`.
LAYOUTS = Registry(
    "blemish.layouts",
    "layout",
    {
        name: f"blemish.data.layouts.{name}"
        for name in (
            *("aitex", "bmad", "class_folders", "coco", "crackforest", "dagm", "elpv", "flat_folder", "headct"),
            *("images_and_masks", "masks_beside", "meta_json", "mvtec", "real_iad", "table", "visa"),
        )
    },
)


@dataclass(frozen=True)
class Entry:
    """One data set, or one reading of it."""

    name: str
    title: str
    layout: str  # the reader, a name in `LAYOUTS`
    level: Level
    licence: str = ""
    home: str = ""
    get: str = ""  # how to get it
    variant: str = ""  # what must stand beside every number
    protocol: str = ""  # what there is to measure on, in words
    folders: tuple[str, ...] = ()  # the names under which people keep it
    normal: tuple[str, ...] = ("good",)  # the folders of normal images
    ignored: tuple[str, ...] = ()  # folders that are left out
    threshold: int | None = None  # mask values above it are foreground; None: see `MaskValues.above`
    needs_name: bool = False  # the layout alone does not tell this set from others
    reading_of: str = ""  # the set that this is another reading of: it is opened by its name only
    notes: tuple[str, ...] = ()
    # Its own word (mostly a folder) -> defect type, "" where the defect has no name of its own.
    types: dict[str, str] = field(default_factory=dict)
    # Product -> folder of the test split, or "train" -> number of images. Numbers that nobody verified stay out.
    products: dict[str, dict[str, int]] = field(default_factory=dict)
    # Product -> its own words, where `products` does not say them.
    words: dict[str, list[str]] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)  # read by the layout alone

    def type_of(self, folder: str) -> str:
        """The grouped type of the set's own word."""
        return self.types.get(folder, _in_words(folder))

    @property
    def knowledge(self) -> dict[str, dict[str, str]]:
        """Product -> own word -> grouped type, of the products whose defects are known."""
        counted = {*self.normal, "train", "normal", "anomalous", "defect"}
        in_counts = {
            product: [word for word in counts if word not in counted] for product, counts in self.products.items()
        }
        return {
            product: {word: self.type_of(word) for word in words}
            for product, words in (self.words or in_counts).items()
        }


# Names of folders that say no more than "this is a defect".
NAMELESS = frozenset(
    [
        *("abnormal", "anomaly", "anomalous", "anomalies", "bad", "defect", "defective", "defects"),
        *("ko", "ng", "notgood", "ungood", "yes"),
    ]
)


def known_sets() -> tuple[Entry, ...]:
    """Every data set in files that has a name, sorted by it."""
    return tuple(_entries()[name] for name in sorted(_entries()))


def entry(name: str) -> Entry:
    """The data set of that name; UnknownNameError with the nearest one where there is none."""
    if name not in _entries():
        raise UnknownNameError("data set", name, _entries())
    return _entries()[name]


def is_known(where: str) -> bool:
    """Whether this names a data set, and not a path."""
    return where in _entries() or where.partition(":")[0] in DATASETS


def maker_of(where: str) -> Callable[[str], DataSet] | None:
    """The function that makes the data set of this name, given what stands behind its colon; None where it names no such set."""
    name = where.partition(":")[0]
    return DATASETS[name] if name in DATASETS and name not in _entries() else None


@cache
def _entries() -> dict[str, Entry]:
    known = resources.files(__package__) / "known"
    files = {file.name.removesuffix(".toml"): file for file in known.iterdir() if file.name.endswith(".toml")}
    own = [known for name, file in files.items() for known in _read(name, file)]
    added = [known for entries in DATASETS.use_plugins(_read_plugin).values() for known in entries]
    return {known.name: known for known in (*added, *own)}  # of two with the same name, our own


def _read_plugin(name: str, source: Any) -> list[Entry]:
    """The entries in the file of another package, none where it brings a function; an error where the layout fails, too."""
    if callable(source):
        return []
    entries = list(_read(name, source))
    for known in entries:
        LAYOUTS[known.layout]
    return entries


def _read(name: str, file: Traversable) -> Iterator[Entry]:
    """The data set in a TOML file, and its other readings."""
    table = tomllib.loads(file.read_text(encoding="utf-8"))
    others = table.pop("readings", {})
    yield parse_entry(name, table)
    for other, changes in others.items():
        options = {**table.get("options", {}), **changes.pop("options", {})}
        yield parse_entry(other, {**table, **changes, "options": options, "reading_of": name})


def parse_entry(name: str, table: dict[str, Any]) -> Entry:
    """The entry that a TOML table describes; UsageError where a key or a value is none of ours."""
    try:
        return from_dict(Entry, {"name": name, **table})
    except UsageError as error:
        raise UsageError(f"data set {name}: {error}") from error


def _in_words(folder: str) -> str:
    words = " ".join(folder.replace("_", " ").replace("-", " ").split())
    return "" if words.lower().replace(" ", "") in NAMELESS else words
