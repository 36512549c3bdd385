"""The file in which an accumulator is kept, to be continued later: one .npz with arrays and one JSON text; nothing pickled."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.errors import UsageError
from blemish.io.atomic import replace_file

__all__ = ["Arrays", "load_counts", "nested", "renamed", "save_counts", "under"]

Arrays = dict[str, NDArray[Any]]
_FACTS = "facts"


def nested(prefix: str, arrays: Mapping[str, NDArray[Any]]) -> Arrays:
    """The arrays with `prefix/` before their names."""
    return {f"{prefix}/{name}": array for name, array in arrays.items()}


def under(prefix: str, arrays: Mapping[str, NDArray[Any]]) -> Arrays:
    """The arrays whose names begin with `prefix/`, without it."""
    start = f"{prefix}/"
    return {name.removeprefix(start): array for name, array in arrays.items() if name.startswith(start)}


def renamed(setup: Mapping[str, Any]) -> dict[str, Any]:
    """The settings in a state of any version, by their names of today."""
    return {"bins" if name == "cells" else name: value for name, value in setup.items()}


def save_counts(path: str | Path, kind: str, facts: Mapping[str, Any], arrays: Arrays) -> None:
    """Put a state of this kind at `path`, replacing what was there; OutputError where that cannot be."""
    text = json.dumps({"kind": kind, **facts})
    with replace_file(Path(path)) as temporary, temporary.open("wb") as file:
        content: Any = {_FACTS: np.frombuffer(text.encode(), np.uint8), **nested("arrays", arrays)}
        np.savez_compressed(file, **content)


def load_counts(path: str | Path, kind: str) -> tuple[dict[str, Any], Arrays]:
    """The facts and arrays of a state of this kind; UsageError where the file holds none."""
    try:
        with Path(path).open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            facts = json.loads(file[_FACTS].tobytes())
            arrays = under("arrays", {name: file[name] for name in file.files})
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, EOFError) as error:
        raise UsageError(f"{path}: no saved state of metrics can be read from it ({error})") from error
    if facts.get("kind") != kind:
        raise UsageError(f"{path}: holds {facts.get('kind')!r} and not {kind!r}")
    return facts, arrays
