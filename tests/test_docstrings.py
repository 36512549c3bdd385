"""The examples in docstrings run, and print what they say."""

from __future__ import annotations

import doctest
import importlib
import re
from pathlib import Path

import numpy as np
import pytest

import blemish
from blemish.images import save
from fakes import use_darkness

SOURCE = Path(blemish.__file__).parent
RUNS = re.compile(r">>> (?!.*# doctest: \+SKIP)")  # what takes minutes is skipped, and run by docs/python.md


def modules_with_examples() -> list[str]:
    files = (path for path in SOURCE.rglob("*.py") if RUNS.search(path.read_text(encoding="utf-8")))
    names = (path.relative_to(SOURCE.parent).with_suffix("").as_posix().replace("/", ".") for path in files)
    return sorted(name.removesuffix(".__init__") for name in names)


def lay_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """What examples about runs find in the current folder: parts, good parts, a finished run; and a quick engine."""
    use_darkness(monkeypatch)
    part = np.full((60, 80, 3), 250, np.uint8)
    save(part, Path("parts/good.png"))
    part[10:40, 10:40] = 0
    save(part, Path("parts/bad.png"))
    for number in range(20):
        save(np.full((8, 8, 3), 255 - number, np.uint8), Path(f"good/{number:02}.png"))
    blemish.inspect_folder("parts", out="results")


@pytest.mark.parametrize("name", modules_with_examples())
def test_examples_in_docstrings_are_right(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # an example may write files
    if name.split(".")[1] in ("runs", "reports", "exports"):
        lay_out(monkeypatch)
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert result.attempted > 0
    assert result.failed == 0
