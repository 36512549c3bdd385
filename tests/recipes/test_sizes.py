"""How well defects of each size are found is counted for each range of sizes alone."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from recipes.real.sizes import by_size


def test_each_range_has_its_own_figures() -> None:
    small, large, none = (np.zeros((40, 40), bool) for _ in range(3))
    small[:1, :2] = True  # 0.1 %
    large[:8, :10] = True  # 5 %
    found, missed = small.astype(float), 1 - large.astype(float)
    rows = list(by_size([small, large, none], [0.9, 0.1, 0.5], [found, missed, none.astype(float)]))
    assert rows == [(0.0, 0.003, 1, 1.0, 1.0), (0.03, 0.1, 1, 0.0, 0.0)]
