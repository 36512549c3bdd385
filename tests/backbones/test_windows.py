"""Windows of an image: which patches they have, that dropping tokens equals masking keys, and means over windows."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from blemish.backbones import windows as module
from blemish.backbones.config import VisionConfig
from blemish.backbones.ensemble import ImageTowerEnsemble
from blemish.backbones.fast import image_features
from blemish.backbones.layers import Block
from blemish.backbones.vision import Embedding, ImageTower, Tower, VisionFeatures
from blemish.backbones.windows import embed_windows, mean_over_windows, window_patches
from blemish.errors import UsageError

WIDTH, HEADS, JOINT, GRID = 32, 4, 24, (5, 5)


@pytest.fixture(scope="module")
def tower() -> ImageTower:
    torch.manual_seed(0)
    config = VisionConfig(image_size=40, width=WIDTH, depth=3, heads=HEADS, patch_size=8, position_grid=5)
    return ImageTower(config, JOINT).requires_grad_(False)


def image(count: int = 2) -> Tensor:
    return torch.randn(count, 3, 40, 40, generator=torch.Generator().manual_seed(1))


def test_windows_are_in_row_major_order() -> None:
    assert window_patches((3, 4), 2).tolist()[:4] == [[0, 1, 4, 5], [1, 2, 5, 6], [2, 3, 6, 7], [4, 5, 8, 9]]
    assert window_patches((3, 4), 3).shape == (2, 9)
    assert window_patches((3, 4), 1).tolist() == [[number] for number in range(12)]


@pytest.mark.parametrize("side", [0, 4])
def test_a_side_that_the_grid_has_no_window_of_is_refused(side: int) -> None:
    with pytest.raises(UsageError, match=f"windows of {side} x {side} patches do not fit into a grid of 3 x 4"):
        window_patches((3, 4), side)


def masked(tower: ImageTower, stream: Tensor, visible: Tensor) -> Tensor:
    """The class embedding [B, D] where in every block only the visible tokens can be attended to."""
    bias = torch.zeros(stream.shape[1]).masked_fill(~visible, -torch.inf)
    x = stream
    for block in tower.blocks:
        assert isinstance(block, Block)
        query, key, value = block.attention.qkv(block.ln_1(x))
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=bias[None])
        x = x + block.attention.out_projection(mixed.transpose(1, 2).flatten(2))
        x = x + block.mlp(block.ln_2(x))
    return tower.project(x[:, 0])


@pytest.mark.parametrize("side", [1, 2, 3])
def test_dropping_tokens_equals_masking_their_keys_in_every_block(tower: ImageTower, side: int) -> None:
    embedding = tower.embed(image())
    found = embed_windows(tower, embedding, side=side)
    assert found.shape == (2, (6 - side) ** 2, JOINT)
    for number, patches in enumerate(window_patches(GRID, side)):
        visible = torch.zeros(1 + 25, dtype=torch.bool)
        visible[0] = True
        visible[1 + patches] = True
        assert torch.allclose(found[:, number], masked(tower, embedding.tokens, visible), atol=1e-6)


def test_the_largest_window_is_the_whole_image(tower: ImageTower) -> None:
    whole = tower.project(tower(image()).tokens[:, 0])
    assert torch.allclose(embed_windows(tower, tower.embed(image()), side=5)[:, 0], whole, atol=1e-6)


def test_all_windows_of_a_side_are_one_batch_and_parts_of_it_give_the_same(
    tower: ImageTower, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedding = tower.embed(image())
    batches: list[int] = []

    def counted(tower: Tower, windows: Embedding, *, patches: bool) -> VisionFeatures:
        batches.append(len(windows.tokens))
        return image_features(tower, windows, patches=patches)

    monkeypatch.setattr(module.fast, "image_features", counted)
    together = embed_windows(tower, embedding, side=2)
    assert batches == [2 * 16]
    monkeypatch.setattr(module, "MOST_BYTES", 1)
    assert torch.allclose(embed_windows(tower, embedding, side=2), together, atol=1e-6)
    assert batches == [2 * 16, *[2] * 16]


def test_towers_side_by_side_have_windows_too() -> None:
    config = VisionConfig(
        image_size=64,
        width=32,
        depth=2,
        heads=4,
        patch_size=None,
        position_grid=8,
        stem="efficientnet-lite0",
        members=2,
    )
    towers = ImageTowerEnsemble(config, JOINT).requires_grad_(False).eval()
    stream = torch.randn(1, 1 + 64, 32, generator=torch.Generator().manual_seed(2))
    found = embed_windows(towers, Embedding(tokens=stream, grid=(8, 8)), side=2)
    members = [tower for tower in towers.members if isinstance(tower, ImageTower)]
    parts = [
        embed_windows(member, Embedding(tokens=part, grid=(8, 8)), side=2)
        for member, part in zip(members, stream.chunk(2, dim=-1), strict=True)
    ]
    assert torch.allclose(found, torch.stack(parts).mean(0), atol=1e-6)
    normed = towers.last_norm(stream)
    assert torch.allclose(normed[..., :16], members[0].ln_post(stream[..., :16]), atol=1e-6)


def test_means_over_windows_by_hand() -> None:
    values = torch.tensor([[1.0, 2.0, 4.0, 8.0]])  # windows of side 2 on a grid of 3 x 3
    plain = mean_over_windows(values, (3, 3), side=2)
    assert torch.allclose(plain, torch.tensor([[[1, 1.5, 2], [2.5, 3.75, 5], [4, 6, 8]]]))
    harmonic = mean_over_windows(values, (3, 3), side=2, harmonic=True)
    assert harmonic[0, 0, 1].item() == pytest.approx(2 / (1 + 1 / 2))
    assert harmonic[0, 1, 1].item() == pytest.approx(4 / (1 + 1 / 2 + 1 / 4 + 1 / 8))


def test_a_harmonic_mean_with_a_zero_is_0() -> None:
    values = torch.tensor([[0.0, 2.0, 4.0, 8.0]])
    found = mean_over_windows(values, (3, 3), side=2, harmonic=True)
    assert (found[0, :2, :2] == 0).all()
    assert found[0, 2, 2].item() == 8
