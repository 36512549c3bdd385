"""Defect types and vocabularies as frozen data."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from blemish.errors import UsageError

__all__ = ["DefectType", "Vocabulary", "clashes", "without_shared_words"]

ARTICLE = re.compile(r"^(an?|the)\s+", re.IGNORECASE)


@dataclass(frozen=True)
class DefectType:
    """One kind of defect: the name that results carry, other words for the same thing, and a sentence on what it looks like."""

    name: str
    synonyms: tuple[str, ...] = ()
    sentence: str = ""

    @property
    def words(self) -> tuple[str, ...]:
        """The name and its synonyms."""
        return (self.name, *self.synonyms)

    @property
    def wordings(self) -> tuple[str, ...]:
        """Everything that can stand for the type inside a prompt: its words, and the sentence without article and full stop."""
        sentence = ARTICLE.sub("", self.sentence.strip().rstrip("."))
        return (*self.words, sentence) if sentence else self.words


@dataclass(frozen=True)
class Vocabulary:
    """The defect types that an inspection tells apart, in the order of its results. No word stands for two of them."""

    types: tuple[DefectType, ...]

    def __post_init__(self) -> None:
        if not self.types:
            raise UsageError("a vocabulary needs at least one defect type")
        for clash in clashes(self.types):
            raise UsageError(clash)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(defect.name for defect in self.types)


def clashes(types: Iterable[DefectType]) -> list[str]:
    """A sentence for every empty name, and for every word that is given twice, in whatever case."""
    owners: dict[str, tuple[str, int]] = {}  # the first type that has a word, and the word's place there
    found = []
    for defect in types:
        for place, word in enumerate(defect.words):
            if not word.strip():
                found.append(f"a synonym of {defect.name!r} is empty" if place else "a defect type needs a name")
                continue
            if word.lower() not in owners:
                owners[word.lower()] = (defect.name, place)
                continue
            owner, place_there = owners[word.lower()]
            if place == place_there == 0:
                found.append(f"the defect type {word!r} is named twice")
            elif owner == defect.name:
                found.append(f"{owner!r} has the word {word!r} twice")
            else:
                found.append(f"{word!r} stands for two defect types, {owner!r} and {defect.name!r}")
    return found


def without_shared_words(types: Iterable[DefectType]) -> tuple[DefectType, ...]:
    """The types without those synonyms that are another's name: who asks for "stain, spot" means two things."""
    types = tuple(types)
    names = {defect.name.lower() for defect in types}
    return tuple(
        DefectType(defect.name, tuple(word for word in defect.synonyms if word.lower() not in names), defect.sentence)
        for defect in types
    )
