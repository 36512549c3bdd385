"""The memory of patch features against distances that are all computed at once."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from blemish.methods.memory import FeatureBank, PatchView, RobustScale

ALONE, AROUND = PatchView(0, 1, standardised=False), PatchView(0, 3, standardised=True)


def maps(count: int, *, seed: int = 0) -> Tensor:
    return torch.randn(count, 5, 4, 6, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(params=[2**21, 2000, 4], autouse=True)
def block_bytes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("blemish.methods.memory.BLOCK_BYTES", {"cpu": request.param})


@pytest.mark.parametrize("view", [ALONE, AROUND])
def test_distances_are_those_to_the_nearest_patch_of_each_reference_image(view: PatchView) -> None:
    bank = FeatureBank([maps(4), maps(2, seed=1)], view)
    patches = bank.patches(maps(1, seed=2))[0]
    entries = bank.patches(torch.cat([maps(4), maps(2, seed=1)]))
    assert len(bank) == 6
    assert torch.allclose(bank.entries, entries.flatten(0, 1), atol=1e-6)
    assert torch.allclose(bank.distances(patches), torch.cdist(patches, entries).amin(2), atol=1e-5)
    assert bank.norm() == pytest.approx(float(entries.square().sum(2).mean().sqrt()), rel=1e-5)


@pytest.mark.parametrize("k", [1, 3, 200])
def test_the_nearest_entries_of_all_are_found_in_order(k: int) -> None:
    bank = FeatureBank([maps(6)], ALONE)
    patches = bank.patches(maps(1, seed=2))[0]
    found, expected = bank.nearest(patches, k=k), torch.cdist(patches, bank.entries).sort(1)
    most = min(k, 6 * 24)
    assert found.distances.shape == (24, most)
    assert torch.allclose(found.distances, expected.values[:, :most], atol=1e-5)
    assert torch.equal(found.entries, expected.indices[:, :most])


def test_what_is_added_is_seen_as_what_was_there() -> None:
    bank = FeatureBank([maps(4)], AROUND)
    before = bank.entries.clone()
    bank.add(maps(2, seed=3))
    assert len(bank) == 6
    assert torch.equal(bank.entries[: len(before)], before)
    own = bank.patches(maps(2, seed=3))
    assert torch.allclose(bank.entries[len(before) :], own.flatten(0, 1), atol=1e-6)
    assert torch.allclose(bank.distances(own[1])[5], torch.zeros(24), atol=1e-3)


def test_a_patch_in_its_neighbourhood_is_the_mean_around_it() -> None:
    bank = FeatureBank([maps(3)], PatchView(0, 3, standardised=False))
    around = maps(3)[0, :, :3, :3].mean((1, 2))  # of the patch in row 1, column 1
    assert torch.allclose(bank.patches(maps(3))[0, 1 * 6 + 1] + bank.mean.flatten(), around, atol=1e-6)


def test_standardised_patches_have_unit_length() -> None:
    bank = FeatureBank([maps(3) * torch.tensor([1.0, 10, 100, 1, 1]).reshape(1, -1, 1, 1)], AROUND)
    assert torch.allclose(bank.entries.norm(dim=1), torch.ones(72), atol=1e-5)


def test_a_scale_leaves_still_values_out_and_is_never_zero() -> None:
    values = torch.cat([torch.zeros(90), torch.arange(1.0, 12.0)])
    scale = RobustScale.of(values, still=0.5)
    assert scale == RobustScale(median=6.0, spread=pytest.approx(1.4826 * 3))  # type: ignore[arg-type]
    assert float(scale.deviations(torch.tensor(6.0))) == 0
    assert RobustScale.of(torch.zeros(5)).spread > 0
