"""Defect vocabularies: names and synonyms of defect types. They hold no weights; a new name needs no training."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from blemish.errors import UsageError
from blemish.language.checks import Problem, problems_of
from blemish.language.files import VocabularyFile, load_vocabulary, read_vocabulary_file, read_vocabulary_text
from blemish.language.names import DefectType, Vocabulary, without_shared_words

__all__ = [
    "DefectType",
    "Problem",
    "Vocabulary",
    "VocabularyFile",
    "general",
    "general_text",
    "load_vocabulary",
    "parse_defects",
    "problems_of",
    "read_vocabulary_file",
]


def general() -> Vocabulary:
    """The built-in vocabulary: the types that the generator draws and the embedded model knows, with synonyms and sentences."""
    return Vocabulary(read_vocabulary_text(general_text(), path=Path("general.toml")).types)


def general_text() -> str:
    """The file of the built-in vocabulary, to begin one's own with."""
    return (resources.files(__package__) / "general.toml").read_text(encoding="utf-8")


def parse_defects(defects: str | Sequence[str]) -> Vocabulary:
    """A vocabulary from "scratch, hole, stain" or from a sequence of names; a built-in name brings its synonyms
    and its sentence.

    Raises UsageError where a name is empty, named twice, or too long for a prompt, and where there are too many.
    """
    names = defects.split(",") if isinstance(defects, str) else list(defects)
    names = [" ".join(name.split()) for name in names]
    if not all(names):
        raise UsageError('defect names are separated by commas and must not be empty: --defects "scratch, hole, stain"')
    known = {defect.name.lower(): defect for defect in general().types}
    types = without_shared_words(known.get(name.lower(), DefectType(name)) for name in names)
    for problem in problems_of(types):
        if problem.severity == "error":
            raise UsageError(problem.text)
    return Vocabulary(types)
