"""The nearest entries, beside all distances written out."""

import pytest
import torch

from blemish.methods import nearest
from blemish.methods.nearest import Entries

IMAGES, PATCHES, CHANNELS, QUERIES = 5, 12, 7, 23


@pytest.fixture
def vectors() -> torch.Tensor:
    return torch.randn(IMAGES * PATCHES, CHANNELS, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def queries() -> torch.Tensor:
    return torch.randn(QUERIES, CHANNELS, generator=torch.Generator().manual_seed(2))


NUMBERS = torch.arange(IMAGES).repeat_interleave(PATCHES)


@pytest.mark.parametrize("block_bytes", [2**22, 4 * PATCHES * 3])
@pytest.mark.parametrize("without", [None, 3])
def test_nearest_of_each_image(
    vectors: torch.Tensor,
    queries: torch.Tensor,
    without: int | None,
    block_bytes: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One entry of each of the k nearest images, whatever the blocks."""
    monkeypatch.setitem(nearest.BLOCK_BYTES, "cpu", block_bytes)
    found = Entries(vectors, images=NUMBERS, patches=PATCHES).nearest(queries, k=3, without=without)
    of_images, inside = torch.cdist(queries, vectors).reshape(QUERIES, IMAGES, PATCHES).min(2)
    if without is not None:
        of_images[:, without] = torch.inf
    values, images = of_images.topk(3, dim=1, largest=False)
    assert torch.allclose(found.distances, values, atol=1e-5)
    assert torch.equal(found.numbers, images * PATCHES + inside.gather(1, images))


@pytest.mark.parametrize("without", [None, 3])
def test_nearest_of_all(vectors: torch.Tensor, queries: torch.Tensor, without: int | None) -> None:
    found = Entries(vectors, images=NUMBERS).nearest(queries, k=3, without=without)
    distances = torch.cdist(queries, vectors)
    if without is not None:
        distances[:, without == NUMBERS] = torch.inf
    values, numbers = distances.topk(3, dim=1, largest=False)
    assert torch.allclose(found.distances, values, atol=1e-5)
    assert torch.equal(found.numbers, numbers)


@pytest.mark.parametrize("patches", [0, PATCHES])
def test_fewer_entries_than_asked_for(vectors: torch.Tensor, queries: torch.Tensor, patches: int) -> None:
    """Distances to an image that may not be compared are infinite; no number lies outside."""
    only = Entries(vectors[:PATCHES], images=NUMBERS[:PATCHES], patches=patches)
    found = only.nearest(queries, k=3, without=0)
    assert torch.isinf(found.distances).all()
    assert int(found.numbers.max()) < PATCHES
