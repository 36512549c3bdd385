"""Saved images come back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from image_bytes import RGB
from PIL import Image

from blemish.errors import OutputError, UsageError
from blemish.images import read, save


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".JPEG"])
def test_saved_images_come_back(suffix: str, tmp_path: Path) -> None:
    smooth = np.tile(np.arange(64, dtype=np.uint8)[:, None, None], (1, 64, 3))
    path = save(smooth, tmp_path / "new" / f"a{suffix}")
    assert abs(read(path).pixels.astype(int) - smooth).max() <= (0 if suffix == ".png" else 4)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_thin_lines_keep_their_colour_where_pictures_are_small(tmp_path: Path) -> None:
    for side, colours in ((767, ((1, 1), (1, 1), (1, 1))), (768, ((2, 2), (1, 1), (1, 1)))):
        with Image.open(save(np.zeros((side, 900, 3), np.uint8), tmp_path / "a.jpg")) as saved:
            assert tuple(layer[1:3] for layer in saved.layer) == colours  # type: ignore[attr-defined]


def test_saving_where_it_cannot_be_done_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"cannot be written"):
        save(RGB, tmp_path / "file" / "a.png")
    with pytest.raises(UsageError, match=r"\.png, \.jpg or \.jpeg"):
        save(RGB, tmp_path / "a.gif")
