"""The line below which a type is unknown, for the cards of shipped prompts."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from recipes.typing import find_typing_rule

from fakes import DarknessEngine
from probe import ArraySample


def square(number: int, kind: str, *, left: int) -> ArraySample:
    """A white picture with a dark square that starts at this column."""
    mask = np.zeros((64, 64), bool)
    mask[8 + 8 * number : 24 + 8 * number, left : left + 16] = True
    image = np.where(mask[..., None], 0, 255).repeat(3, axis=2).astype(np.uint8)
    return ArraySample(f"{kind}/{number}.png", image, mask, bool(kind), defect_type=kind)


# The fake engine calls the left half by the vocabulary's first type, the right half by its second.


def test_regions_count_with_the_whole_vocabulary_and_with_each_third_left_out() -> None:
    scratches = [square(number, "scratch", left=8) for number in range(3)]  # the first built-in type
    stains = [square(number, "stain", left=40) for number in range(2)]  # never the second one
    normal = replace(square(0, "", left=8), anomalous=False)
    rule = find_typing_rule(DarknessEngine(), [*scratches, *stains, normal], pixel_threshold=0.5)
    assert rule.right == 3 * len(scratches)  # all but the look without scratches
    assert rule.wrong == len(scratches) + 4 * len(stains)
    assert rule.min_lead == pytest.approx(0.9, abs=1e-5)
    assert rule.right_named == 1


def test_regions_beside_the_defect_do_not_count() -> None:
    inside = square(0, "scratch", left=8)
    beside = square(1, "scratch", left=8)
    assert beside.truth is not None
    moved = replace(beside, truth=np.roll(beside.truth, 30, axis=1))
    rule = find_typing_rule(DarknessEngine(), [inside, moved], pixel_threshold=0.5)
    assert (rule.right, rule.wrong) == (3, 1)
