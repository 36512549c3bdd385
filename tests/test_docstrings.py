"""The examples in docstrings run, and print what they say.

They run in a folder with 20 images in good/, parts/good.png, parts/bad.png, and (where no example makes it) results/, the run of
`inspect_folder("parts", out="results", threshold=0.6)`.
"""

from __future__ import annotations

import doctest
import importlib
import shutil
from pathlib import Path

import numpy as np
import pytest

import blemish
from blemish.images import save
from blemish.synthesis import render

SOURCE = Path(blemish.__file__).parent
GOOD, BURNT = 50_000_022, 50_000_003  # seeds of rendered pictures


def modules_with_examples() -> list[str]:
    files = (path for path in SOURCE.rglob("*.py") if ">>> " in path.read_text(encoding="utf-8"))
    names = (path.relative_to(SOURCE.parent).with_suffix("").as_posix().replace("/", ".") for path in files)
    return sorted(name.removesuffix(".__init__") for name in names)


@pytest.fixture(scope="module")
def example_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("examples")
    good = render(GOOD).image
    for number in range(20):
        save(np.roll(good, number, axis=1), folder / f"good/{number:02}.png")
    save(good, folder / "parts/good.png")
    save(render(BURNT).image, folder / "parts/bad.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        blemish.inspect_folder("parts", out="results", threshold=0.6)
    return folder


@pytest.mark.parametrize("name", modules_with_examples())
def test_examples_in_docstrings_are_right(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    module = importlib.import_module(name)
    text = Path(str(module.__file__)).read_text(encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        if any(word in text for word in ('("parts"', '("good"', '("results"')):
            shutil.copytree(request.getfixturevalue("example_folder"), tmp_path, dirs_exist_ok=True)
        if 'out="results"' in text:
            shutil.rmtree(tmp_path / "results", ignore_errors=True)
        patch.chdir(tmp_path)  # an example may write files
        result = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
    assert result.failed == 0
