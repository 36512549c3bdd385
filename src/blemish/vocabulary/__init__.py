"""Defect vocabularies: names and synonyms of defect types. They hold no weights; a new name needs no training."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

from blemish.errors import UsageError

__all__ = ["DefectType", "Vocabulary", "general", "parse_defects"]


@dataclass(frozen=True)
class DefectType:
    """One kind of defect: the name that results carry, and other words for the same thing."""

    name: str
    synonyms: tuple[str, ...] = ()

    @property
    def words(self) -> tuple[str, ...]:
        """The name and its synonyms."""
        return (self.name, *self.synonyms)


@dataclass(frozen=True)
class Vocabulary:
    """The defect types that an inspection tells apart, in the order of its results."""

    types: tuple[DefectType, ...]

    def __post_init__(self) -> None:
        if not self.types:
            raise UsageError("a vocabulary needs at least one defect type")
        seen: set[str] = set()
        for defect in self.types:
            if not defect.name.strip():
                raise UsageError("a defect type needs a name")
            if defect.name.lower() in seen:
                raise UsageError(f"the defect type {defect.name!r} is named twice")
            seen.add(defect.name.lower())

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(defect.name for defect in self.types)


def general() -> Vocabulary:
    """The built-in vocabulary: the types that the embedded model was taught with, synonyms included."""
    text = (resources.files(__package__) / "general.toml").read_text(encoding="utf-8")
    return Vocabulary(tuple(DefectType(name, tuple(entry["synonyms"])) for name, entry in tomllib.loads(text).items()))


def parse_defects(defects: str | Sequence[str]) -> Vocabulary:
    """A vocabulary from "scratch, hole, stain" or from a sequence of names; a built-in name brings its synonyms.

    Raises UsageError where a name is empty or named twice.
    """
    names = defects.split(",") if isinstance(defects, str) else list(defects)
    names = [" ".join(name.split()) for name in names]
    if not all(names):
        raise UsageError('defect names are separated by commas and must not be empty: --defects "scratch, hole, stain"')
    known = {defect.name.lower(): defect for defect in general().types}
    return Vocabulary(tuple(known.get(name.lower(), DefectType(name)) for name in names))
