"""What is known of each data set, from the TOML files in known/: where it comes from, how it lies on disk, what is in it."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field, fields
from functools import cache
from importlib import resources
from typing import Any, get_args

from blemish.data.samples import Level
from blemish.errors import UnknownNameError, UsageError

__all__ = ["Entry", "entry", "known_sets"]


@dataclass(frozen=True)
class Entry:
    """One data set, or one reading of it.

    layout is the reader in `blemish.data.layouts`, folders the names under which people keep it, normal the folders of normal
    images. types leads from the set's own word (mostly a folder) to the grouped type; "" is a defect that has no name of its
    own. products has, for each, how many images each folder of the test split holds, and `train`; numbers that nobody verified
    stay out. words has, for each product, the words that occur, where products does not say them. options are read by the
    layout alone. needs_name: the layout alone does not tell this set from others. reading_of is the set that this is another
    reading of: it is opened by its name only.
    """

    name: str
    title: str
    layout: str
    level: Level
    licence: str = ""
    home: str = ""
    get: str = ""
    variant: str = ""
    protocol: str = ""
    folders: tuple[str, ...] = ()
    normal: tuple[str, ...] = ("good",)
    ignored: tuple[str, ...] = ()
    threshold: int | None = None
    needs_name: bool = False
    reading_of: str = ""
    notes: tuple[str, ...] = ()
    types: dict[str, str] = field(default_factory=dict)
    products: dict[str, dict[str, int]] = field(default_factory=dict)
    words: dict[str, list[str]] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)

    def type_of(self, folder: str) -> str:
        """The grouped type of the set's own word."""
        return self.types.get(folder, _in_words(folder))

    @property
    def knowledge(self) -> dict[str, dict[str, str]]:
        """Product -> own word -> grouped type, of the products whose defects are known."""
        counted = {*self.normal, "train", "normal", "anomalous", "defect"}
        held = {product: [word for word in counts if word not in counted] for product, counts in self.products.items()}
        return {
            product: {word: self.type_of(word) for word in words} for product, words in (self.words or held).items()
        }


# Names of folders that say no more than "this is a defect".
NAMELESS = frozenset(
    [
        *("abnormal", "anomaly", "anomalous", "anomalies", "bad", "defect", "defective", "defects"),
        *("ko", "ng", "notgood", "ungood", "yes"),
    ]
)


def known_sets() -> tuple[Entry, ...]:
    """Every data set that has a name, sorted by it."""
    return tuple(_entries()[name] for name in sorted(_entries()))


def entry(name: str) -> Entry:
    """The data set of that name; UnknownNameError with the nearest one where there is none."""
    if name not in _entries():
        raise UnknownNameError("data set", name, _entries())
    return _entries()[name]


@cache
def _entries() -> dict[str, Entry]:
    found: dict[str, Entry] = {}
    for file in sorted((resources.files(__package__) / "known").iterdir(), key=lambda file: file.name):
        if file.name.endswith(".toml"):
            name = file.name.removesuffix(".toml")
            table = tomllib.loads(file.read_text(encoding="utf-8"))
            others = table.pop("readings", {})
            found[name] = parse_entry(name, table)
            for other, changes in others.items():
                options = {**table.get("options", {}), **changes.pop("options", {})}
                found[other] = parse_entry(other, {**table, **changes, "options": options, "reading_of": name})
    return found


def parse_entry(name: str, table: dict[str, Any]) -> Entry:
    """The entry that a TOML table describes; UsageError where a key or a level is none of ours."""
    known = {item.name for item in fields(Entry)} - {"name"}
    for key in table:
        if key not in known:
            raise UnknownNameError(f"key of the data set {name}", key, known)
    if table.get("level") not in get_args(Level):
        raise UsageError(
            f"data set {name}: the level is {table.get('level')!r}, not one of {', '.join(get_args(Level))}"
        )
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}
    return Entry(name, **values)


def _in_words(folder: str) -> str:
    words = " ".join(folder.replace("_", " ").replace("-", " ").split())
    return "" if words.lower().replace(" ", "") in NAMELESS else words
