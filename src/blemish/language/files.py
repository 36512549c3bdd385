"""Vocabulary files: TOML with a table for each defect type, and one for each product that has a choice of them.

[types.scratch]
synonyms = ["scrape", "scuff mark"]
sentence = "a thin bright line on the surface"

[products.bottle]
types = ["scratch"]                        # left out: all of them

[products.bottle.sentences]                # in place of the types' own
scratch = "a thin white line on the glass"
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from blemish.errors import ModelError, UnknownNameError
from blemish.language.checks import Problem, problems_of
from blemish.language.names import DefectType, Vocabulary

__all__ = ["VocabularyFile", "load_vocabulary", "read_vocabulary_file", "read_vocabulary_text"]

TYPE_KEYS = ("synonyms", "sentence")
PRODUCT_KEYS = ("types", "sentences")


@dataclass(frozen=True)
class VocabularyFile:
    """What a file says: its types, the choice of each product, and what is wrong with it."""

    path: Path
    types: tuple[DefectType, ...]
    products: dict[str, tuple[DefectType, ...]] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()

    def vocabulary(self, product: str | None = None) -> Vocabulary:
        """The types of a product, or all of them; ModelError where the file has an error, UnknownNameError for a product."""
        errors = [problem.text for problem in self.problems if problem.severity == "error"]
        if errors:
            more = f"; {len(errors) - 1} more" if len(errors) > 1 else ""
            raise ModelError(f"{self.path}: {errors[0]}{more} (see blemish vocabulary check {self.path})")
        if product is None:
            return Vocabulary(self.types)
        if product not in self.products:
            raise UnknownNameError(f"product of {self.path.name}", product, self.products)
        return Vocabulary(self.products[product])


def load_vocabulary(path: str | Path, *, product: str | None = None) -> Vocabulary:
    """The vocabulary in a TOML file, for one of its products or with all its types.

    ModelError says what is wrong with the file, UnknownNameError which product is nearest.
    """
    return read_vocabulary_file(path).vocabulary(product)


def read_vocabulary_file(path: str | Path) -> VocabularyFile:
    """Everything in a vocabulary file, problems included; ModelError where it cannot be read at all."""
    path = Path(path).expanduser()
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror or error})") from error
    except UnicodeDecodeError as error:
        raise ModelError(f"{path}: is no text in UTF-8 (byte {error.start}); save it as UTF-8") from error
    return read_vocabulary_text(text, path=path)


def read_vocabulary_text(text: str, *, path: Path) -> VocabularyFile:
    """What `read_vocabulary_file` gives, of a file's text; `path` is for messages."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        return VocabularyFile(path, (), problems=(Problem("error", _syntax(error, text)),))
    reader = _Reader()
    reader.known_keys("the file", data, ("types", "products"))
    types = tuple(reader.defect(name, entry) for name, entry in reader.table("types", data.get("types", {})).items())
    products = {
        name: reader.product(name, entry, types)
        for name, entry in reader.table("products", data.get("products", {})).items()
    }
    problems = [Problem("error", said) for said in reader.errors]
    if types or not problems:  # else there are none because of what was said
        problems += problems_of(types)
    for name, chosen in products.items():
        own = problems_of(chosen) if chosen or not reader.errors else []
        problems += [
            replace(problem, text=f"product {name!r}: {problem.text}") for problem in own if problem not in problems
        ]
    problems.sort(key=lambda problem: problem.severity)  # errors first
    return VocabularyFile(path, types, products, tuple(problems))


def _syntax(error: tomllib.TOMLDecodeError, text: str) -> str:
    """What the parser says, the line included, with a hint where a name lacks its quotes."""
    said, line = f"is no TOML: {error}", re.search(r"at line (\d+)", str(error))
    wrong = text.splitlines()[int(line[1]) - 1].strip() if line else ""
    if wrong.startswith("[") and not {'"', "'"} & set(wrong):
        said += '; names with spaces or other letters stand in quotes: [types."loose screw"]'
    return said


class _Reader:
    """Turns plain data into types and products and collects what is wrong on the way."""

    def __init__(self) -> None:
        self.errors: list[str] = []

    def defect(self, name: str, entry: Any) -> DefectType:
        where = f"type {name!r}"
        entry = self.table(where, entry)
        self.known_keys(where, entry, TYPE_KEYS)
        synonyms = self.texts(f"synonyms of {name!r}", entry.get("synonyms", []))
        return DefectType(_spaced(name), synonyms, self.text(f"the sentence of {name!r}", entry.get("sentence", "")))

    def product(self, name: str, entry: Any, types: tuple[DefectType, ...]) -> tuple[DefectType, ...]:
        where = f"product {name!r}"
        entry = self.table(where, entry)
        self.known_keys(where, entry, PRODUCT_KEYS)
        known = {defect.name: defect for defect in types}
        names = self.texts(f"types of {where}", entry.get("types", list(known)))
        sentences = self.table(f"sentences of {where}", entry.get("sentences", {}))
        for chosen in [*names, *sentences]:
            if chosen not in known:
                self.errors.append(f"{where}: {UnknownNameError('defect type', chosen, known)}")
        self.errors += [f"{where} has a sentence for {kind!r}, which is not among its types" for kind in sentences
                        if kind in known and kind not in names]  # fmt: skip
        said = {kind: self.text(f"the sentence of {kind!r}", text) for kind, text in sentences.items()}
        return tuple(
            replace(known[kind], sentence=said.get(kind, known[kind].sentence)) for kind in names if kind in known
        )

    def table(self, where: str, value: Any) -> Mapping[str, Any]:
        if isinstance(value, Mapping):
            return value
        form = {"types": ": write [types.NAME] for each", "products": ": write [products.NAME] for each"}.get(where, "")
        self.errors.append(f"{where} must be a table, not {value!r}{form}")
        return {}

    def known_keys(self, where: str, entry: Mapping[str, Any], known: tuple[str, ...]) -> None:
        self.errors += [f"{where}: {UnknownNameError('key', key, known)}" for key in entry if key not in known]

    def texts(self, where: str, value: Any) -> tuple[str, ...]:
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return tuple(_spaced(item) for item in value)
        self.errors.append(f'{where} must be a list of texts, as ["one", "two"], not {value!r}')
        return ()

    def text(self, where: str, value: Any) -> str:
        if isinstance(value, str):
            return _spaced(value)
        self.errors.append(f"{where} must be a text, not {value!r}")
        return ""


def _spaced(text: str) -> str:
    """The text with single spaces."""
    return " ".join(text.split())
