"""The table of input sizes: what counts as small, and a line for each size."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.input_size import is_small, measure, table

from blemish.synthesis import NORMAL, SyntheticSample
from fakes import darkness_inspector


def sample(side_px: int, *, grey: int = 255) -> SyntheticSample:
    """A picture of 100 x 100 px with a black square, all of it a defect; grey elsewhere."""
    mask = np.zeros((100, 100), bool)
    mask[:side_px, :side_px] = True
    image = np.where(mask[..., None], 0, grey).repeat(3, axis=2).astype(np.uint8)
    return SyntheticSample(image, mask, "hole" if side_px else NORMAL, "steel", "")


@pytest.mark.parametrize(("side_px", "small"), [(0, False), (1, True), (4, True), (5, False), (50, False)])
def test_small_is_a_defect_below_a_fifth_of_a_percent(side_px: int, small: bool) -> None:
    assert is_small(sample(side_px).mask) is small


def test_small_defects_are_told_apart_from_normal_pictures_alone() -> None:
    found = measure(darkness_inspector(), [sample(0), sample(0, grey=200), sample(30), sample(1)])
    assert found.image_auroc.value == pytest.approx(3 / 4)  # the small one is lighter than the darker normal picture
    assert found.small_auroc.value == pytest.approx(1 / 2)
    assert found.input_px == 64
    assert found.seconds > 0
    lines = table([found, found]).splitlines()
    assert len(lines) == 4
    assert lines[2].startswith("| 64 px | 0.750")
