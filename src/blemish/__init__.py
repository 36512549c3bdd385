"""Zero-shot visual anomaly detection that finds, locates and names defects.

Importing this package is quick: torch comes in with the first name that needs it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from blemish._version import __version__
from blemish.errors import (
    BlemishError,
    ImageError,
    MissingExtraError,
    ModelError,
    OutputError,
    UnknownNameError,
    UsageError,
)

if TYPE_CHECKING:
    from blemish.inspection.inspector import Inspector
    from blemish.inspection.load import load
    from blemish.results import Inspection, Region, Thresholds, Verdict
    from blemish.training import Recipe, Trained, train

__all__ = [
    "BlemishError",
    "ImageError",
    "Inspection",
    "Inspector",
    "MissingExtraError",
    "ModelError",
    "OutputError",
    "Recipe",
    "Region",
    "Thresholds",
    "Trained",
    "UnknownNameError",
    "UsageError",
    "Verdict",
    "__version__",
    "load",
    "train",
]

_LAZY = {
    "Inspection": "blemish.results",
    "Inspector": "blemish.inspection.inspector",
    "Recipe": "blemish.training",
    "Region": "blemish.results",
    "Thresholds": "blemish.results",
    "Trained": "blemish.training",
    "Verdict": "blemish.results",
    "load": "blemish.inspection.load",
    "train": "blemish.training",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'blemish' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
