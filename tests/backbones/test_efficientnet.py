"""The embedded backbone's stem: each place against its own image."""

from __future__ import annotations

import pytest
import torch

from blemish.backbones import efficientnet as trunk
from blemish.backbones.efficientnet import LocalStem, likeness


def test_the_odd_place_is_least_like_the_others() -> None:
    generator = torch.Generator().manual_seed(0)
    two = torch.randn(16, 2, generator=generator)
    rows, columns = torch.meshgrid(torch.arange(12), torch.arange(12), indexing="ij")
    level = two[:, (rows + columns) % 2][None] + 0.05 * torch.randn(1, 16, 12, 12, generator=generator)
    level[0, :, 5, 7] = torch.randn(16, generator=generator)
    unlike = likeness(level)
    assert unlike.shape == (1, 3, 12, 12)
    for channel in unlike[0, :2]:
        assert divmod(int(channel.argmax()), 12) == (5, 7)
    assert unlike.min() >= -1e-6
    assert unlike.max() <= 2


def test_a_repeated_pattern_is_alike_and_neighbours_do_not_count() -> None:
    tile = torch.randn(1, 8, 4, 4, generator=torch.Generator().manual_seed(1))
    repeated = likeness(tile.repeat(1, 1, 3, 3))
    assert repeated[:, 0].max() < 1e-5  # every place is found again elsewhere
    once = torch.zeros(1, 8, 12, 12)
    once[0, 0, 4:6, 4:6] = 1  # four places alike, all next to each other
    once = once + 0.01 * torch.randn(once.shape, generator=torch.Generator().manual_seed(2))
    nearest = likeness(once)[0, 0]
    assert nearest[4:6, 4:6].min() > nearest[8:, 8:].mean()


@pytest.mark.parametrize("grid", [(1, 1), (2, 3), (3, 20)])
def test_small_grids_and_flat_images_give_finite_values(grid: tuple[int, int]) -> None:
    for level in (torch.zeros(2, 8, *grid), torch.randn(2, 8, *grid)):
        unlike = likeness(level)
        assert unlike.shape == (2, 3, *grid)
        assert unlike.isfinite().all()


def test_a_large_grid_is_compared_with_part_of_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    level = torch.randn(1, 8, 20, 20, generator=torch.Generator().manual_seed(3))
    whole = likeness(level)
    monkeypatch.setattr(trunk, "_MOST_REFERENCES", 100)
    part = likeness(level)  # every second row and column
    assert (part[:, 0] >= whole[:, 0] - 1e-6).all()
    assert torch.allclose(part[:, 2], whole[:, 2], atol=0.2)


def test_an_image_is_judged_by_itself_and_not_by_its_batch() -> None:
    torch.manual_seed(0)
    stem = LocalStem(16).eval()
    images = torch.randn(3, 3, 64, 64)
    with torch.no_grad():
        together = stem(images)
        alone = torch.cat([stem(image[None]) for image in images])
    assert together.shape == (3, 16, 8, 8)
    assert torch.allclose(together, alone, atol=1e-5)
