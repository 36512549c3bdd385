"""What there is to know of each method without building it: paper, needs, training, weights and their licence."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from importlib import resources

from blemish.io.codec import from_dict
from blemish.methods import METHODS

__all__ = ["MethodFacts", "method_facts"]


@dataclass(frozen=True, kw_only=True)
class MethodFacts:
    """One method; texts are "" where nothing is known, as of another package's method."""

    name: str
    title: str = ""
    paper: str = ""
    needs: str = ""  # before it can score
    trained_on: str = ""  # by its authors
    numbers: int | None = None  # trained, on ViT-L/14@336 with the default options
    weights: str = ""  # trained parts that there are, and their licence
    docs: str = ""  # page below docs/


def method_facts() -> tuple[MethodFacts, ...]:
    """The methods that `blemish inspect --method` knows, by name; nothing is imported.

    Example:
        >>> next(method.numbers for method in method_facts() if method.name == "anomalyclip")
        43008
    """
    text = (resources.files(__package__) / "facts.toml").read_text(encoding="utf-8")
    known = tomllib.loads(text)
    return tuple(from_dict(MethodFacts, {"name": name, **known.get(name, {})}) for name in METHODS)
