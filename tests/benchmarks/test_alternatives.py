"""The two simple alternatives of the table: what their distances promise, on arrays made up for it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.alternatives import (
    FOLDS,
    MEMORY,
    NearestNeighbours,
    Places,
    SelfSimilarity,
    deal,
    joined,
    nearest,
    unlike_itself,
)
from benchmarks.real_sets import Comparison, Item

GRID = (8, 8)


class ToyTrunk(NamedTuple):
    """Vectors by path instead of those of a network."""

    vectors: dict[Path, Tensor]

    def places(self, path: Path) -> Places:
        return Places(self.vectors[path], GRID, (64, 64))


def toy(normal: int, *, odd_place: int = 27) -> tuple[Comparison, ToyTrunk]:
    """Normal images of noise about one point, and one whose `odd_place` lies far from it."""
    generator = torch.Generator().manual_seed(0)
    paths = [Path(f"{number}.png") for number in range(normal + 1)]
    vectors = {path: torch.randn(GRID[0] * GRID[1], 6, generator=generator) for path in paths}
    vectors[paths[-1]][odd_place] += 20
    items = tuple(Item(path, path == paths[-1]) for path in paths)
    return Comparison("toy", items, has_masks=False), ToyTrunk(vectors)


def test_nearest_is_the_least_of_all_distances() -> None:
    generator = torch.Generator().manual_seed(1)
    vectors, memory = torch.randn(7, 5, generator=generator), torch.randn(11, 5, generator=generator)
    slow = [min(float((one - other).norm()) for other in memory) for one in vectors]
    assert nearest(vectors, memory).tolist() == pytest.approx(slow, rel=1e-4)


def test_what_is_remembered_is_at_no_distance() -> None:
    memory = torch.eye(4)
    assert nearest(memory[:2], memory).tolist() == pytest.approx([0, 0], abs=1e-3)


@pytest.mark.parametrize("count", [5, 34, 952])
def test_folds_are_of_the_same_size_and_dealt_the_same_way_again(count: int) -> None:
    folds = deal(count)
    sizes = np.bincount(folds, minlength=FOLDS)
    assert sizes.sum() == count
    assert sizes.max() - sizes.min() <= 1
    assert (folds == deal(count)).all()


def test_an_image_is_never_in_the_memory_that_scores_it() -> None:
    comparison, trunk = toy(10)
    found = NearestNeighbours(trunk).look(comparison)  # type: ignore[arg-type]
    assert all(finding.anomaly_map.min() > 0.1 for finding in found[:-1])  # it would be 0 at its own places


def test_the_odd_place_stands_out_in_the_map_and_in_the_image_score() -> None:
    comparison, trunk = toy(10)
    for looker in (NearestNeighbours(trunk), SelfSimilarity(trunk)):  # type: ignore[arg-type]
        *normal, odd = looker.look(comparison)
        assert odd.anomaly_map.argmax() == 27
        assert odd.image_score == odd.anomaly_map.max()
        assert odd.image_score > 2 * max(finding.image_score for finding in normal)


def test_the_memory_is_bounded_and_takes_the_same_of_each_image() -> None:
    comparison, trunk = toy(200)
    samples = list(NearestNeighbours(trunk)._sampled(comparison.good))  # type: ignore[arg-type]
    assert len({len(sample) for sample in samples}) == 1
    assert sum(map(len, samples)) * (FOLDS - 1) / FOLDS <= MEMORY


def test_without_normal_images_there_is_no_memory_but_self_similarity() -> None:
    comparison, trunk = toy(10)
    only = Comparison("toy", comparison.items[-1:], has_masks=False)
    assert NearestNeighbours(trunk).absent(only) == "no normal images to remember"  # type: ignore[arg-type]
    assert SelfSimilarity(trunk).absent(only) == ""  # type: ignore[arg-type]


def test_a_defect_does_not_excuse_itself_by_its_own_neighbourhood() -> None:
    vectors = torch.zeros(GRID[0] * GRID[1], 3)
    rows, columns = np.divmod(np.arange(len(vectors)), GRID[1])
    patch = (abs(rows - 2) <= 1) & (abs(columns - 2) <= 1)  # nine places, all alike
    vectors[torch.from_numpy(patch)] = 1.0
    found = unlike_itself(vectors, GRID, neighbours=3, near=2).numpy()
    assert found[patch].min() > 1.7  # the square root of 3
    assert found[~patch].max() == pytest.approx(0, abs=1e-3)


def test_levels_are_joined_on_the_finest_grid() -> None:
    vectors, grid = joined([torch.ones(1, 2, 6, 4), torch.full((1, 3, 3, 2), 5.0)])
    assert grid == (6, 4)
    assert vectors.shape == (24, 5)
    assert torch.equal(vectors, torch.tensor([1.0, 1, 5, 5, 5]).expand(24, 5))
