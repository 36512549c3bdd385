"""What can go wrong, as one tree.

BlemishError
├── UsageError            the request cannot be met as it was asked: an unknown name, a bad option
│   └── UnknownNameError  a name that is not in a table; says the nearest one
├── ImageError            one image cannot be used; a batch records it and goes on
├── ModelError            weights, checkpoints or vocabularies that are not what was expected
├── PluginError           something from another package cannot be used; names the package
├── OutputError           results cannot be written where they were asked for
└── MissingExtraError     an optional dependency is not installed; prints the pip line
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path

__all__ = [
    "BlemishError",
    "ImageError",
    "MissingExtraError",
    "ModelError",
    "OutputError",
    "PluginError",
    "UnknownNameError",
    "UsageError",
]


class BlemishError(Exception):
    """Everything that Blemish raises on purpose; its text is one line for a person to act on."""


class UsageError(BlemishError):
    """The request cannot be met as it was asked."""


class UnknownNameError(UsageError):
    """A name that no table holds; the message suggests the nearest known one."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        known = sorted(known)
        lowered = {candidate.lower(): candidate for candidate in known}
        nearest = difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=0.4)
        hint = f"; did you mean {lowered[nearest[0]]!r}?" if nearest else ""
        super().__init__(f"unknown {kind} {name!r}{hint} (known: {', '.join(known) or 'none'})")
        self.kind = kind
        self.name = name


class ImageError(BlemishError):
    """One image cannot be used; `source` is its path or name."""

    def __init__(self, source: str | Path, reason: str) -> None:
        super().__init__(f"{source}: {reason}")
        self.source = str(source)
        self.reason = reason


class ModelError(BlemishError):
    """Weights, a checkpoint or a vocabulary file is not what was expected."""


class PluginError(BlemishError):
    """Something from another package cannot be used; `package` is its name."""

    def __init__(self, kind: str, name: str, package: str, error: Exception) -> None:
        super().__init__(
            f"the {kind} {name!r} of the package {package} cannot be used ({type(error).__name__}: {error}): "
            f"update or uninstall {package}"
        )
        self.package = package


class OutputError(BlemishError):
    """Results cannot be written where they were asked for."""


class MissingExtraError(BlemishError):
    """An optional dependency is missing; the message holds the line that installs it."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(f'{purpose} needs {package}: pip install "blemish[{extra}]"')
