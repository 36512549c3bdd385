from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from small_towers import images, materialised_attention, plain_block, small_image_tower
from torch import nn

from blemish.backbones import fast
from blemish.backbones.config import VisionConfig
from blemish.backbones.layers import BeforeBlock, set_linear_precision
from blemish.backbones.vision import ImageTower, build_stem, interpolate_positions
from blemish.errors import UnknownNameError, UsageError


def close(ours: torch.Tensor, reference: torch.Tensor, tolerance: float = 1e-5) -> bool:
    return bool((ours - reference).abs().max() <= tolerance * reference.abs().max())


@settings(deadline=None, max_examples=20)
@given(depth=st.integers(1, 5), value_value_depth=st.integers(0, 5), size=st.sampled_from([16, 24, 32, 48]))
def test_both_paths_equal_a_twin_that_materialises_attention(depth: int, value_value_depth: int, size: int) -> None:
    value_value_depth = min(depth, value_value_depth)
    tower = small_image_tower(depth=depth)
    levels = range(1, depth + 1)
    with torch.no_grad():
        features = tower(images(size=size), levels=levels, value_value_depth=value_value_depth)
        x = tower.embed(images(size=size)).tokens
        v = x
        for number, block in enumerate(tower.blocks, start=1):
            if number > depth - value_value_depth:
                v = v + materialised_attention(block.attention, block.ln_1(x), value_value=True)
                x = plain_block(block, x)
            else:
                x = v = plain_block(block, x)
            assert close(features.levels[number], x)
            if value_value_depth:
                assert close(features.value_value_levels[number], v)
    assert close(features.tokens, x)
    if value_value_depth:
        assert close(features.value_value, v)
    else:
        assert features.value_value is None
        assert not features.value_value_levels


@pytest.mark.parametrize("patches", [True, False])
@pytest.mark.parametrize("value_value_depth", [0, 1, 3])
@pytest.mark.parametrize("levels", [(), (2,), (1, 5)])
def test_the_fast_way_gives_what_the_plain_one_gives(
    value_value_depth: int, patches: bool, levels: tuple[int, ...]
) -> None:
    tower = small_image_tower()
    asked = {"value_value_depth": value_value_depth, "levels": levels, "before_block": inserting(layer_tokens(3))}
    with torch.no_grad():
        plain = tower(images(), **asked)
        quick = fast.image_features(tower, tower.embed(images()), **asked, patches=patches)
    assert quick.grid == plain.grid
    assert close(quick.tokens, plain.tokens if patches else plain.tokens[:, :1])
    assert quick.levels.keys() == plain.levels.keys() == set(levels)
    assert quick.value_value_levels.keys() == plain.value_value_levels.keys()
    for level in levels:
        assert close(quick.levels[level], plain.levels[level])
        if value_value_depth:
            assert close(quick.value_value_levels[level], plain.value_value_levels[level])
    if value_value_depth:
        assert close(quick.value_value, plain.value_value)
    else:
        assert quick.value_value is plain.value_value is None


def test_the_stem_is_a_convolution_over_patches_in_row_major_order() -> None:
    tower = small_image_tower()
    picture = images(1)
    assert isinstance(tower.stem, nn.Conv2d)
    kernel = tower.stem.weight.flatten(1)  # [W, 3 * p * p]
    patch = picture[0, :, 8:16, 16:24].flatten()  # row 1, column 2
    assert close(tower.stem(picture)[0, :, 1, 2], kernel @ patch)
    with torch.no_grad():
        embedding = tower.embed(picture)
        row = tower.ln_pre(kernel @ patch + tower.position_embedding[1 + 1 * 4 + 2])
    assert embedding.grid == (4, 4)
    assert close(embedding.tokens[0, 1 + 1 * 4 + 2], row)


# Position embeddings


@pytest.mark.parametrize("interpolation", ["bicubic-antialias", "bicubic", "bilinear"])
def test_another_size_leaves_the_stored_positions_unchanged(interpolation: str) -> None:
    tower = small_image_tower()
    before = tower.position_embedding.detach().clone()
    with torch.no_grad():
        native = tower(images()).tokens
        other = tower(images(size=56), interpolation=interpolation)
        assert other.grid == (7, 7)
        assert other.tokens.shape == (2, 50, 32)
        assert torch.equal(tower(images()).tokens, native)
    assert torch.equal(tower.position_embedding, before)


def test_the_three_ways_are_those_of_torch() -> None:
    stored = torch.randn(17, 8)
    square = stored[1:].T.reshape(1, 8, 4, 4)
    for name, mode, antialias in (
        ("bicubic-antialias", "bicubic", True),
        ("bicubic", "bicubic", False),
        ("bilinear", "bilinear", False),
    ):
        for grid in ((6, 6), (3, 2), (4, 9)):
            expected = F.interpolate(square, size=grid, mode=mode, antialias=antialias, align_corners=False)
            ours = interpolate_positions(stored, grid, interpolation=name)
            assert torch.equal(ours[0], stored[0])
            assert torch.allclose(ours[1:], expected[0].flatten(1).T)


def test_the_ways_differ_when_the_grid_shrinks_and_agree_on_the_stored_grid() -> None:
    stored = torch.randn(17, 8)
    ways = ("bicubic-antialias", "bicubic", "bilinear")
    shrunk = [interpolate_positions(stored, (3, 3), interpolation=way) for way in ways]
    assert not torch.allclose(shrunk[0], shrunk[1])
    assert not torch.allclose(shrunk[1], shrunk[2])
    assert all(interpolate_positions(stored, (4, 4), interpolation=way) is stored for way in ways)


def test_images_need_not_be_square() -> None:
    features = small_image_tower()(torch.randn(1, 3, 16, 40))
    assert features.grid == (2, 5)
    assert features.tokens.shape == (1, 11, 32)


# Tokens of a method


def layer_tokens(depth: int) -> torch.Tensor:
    return torch.randn(depth, 3, 32, generator=torch.Generator().manual_seed(3))


def inserting(fresh: torch.Tensor) -> BeforeBlock:
    """Tokens [d, n, W] behind CLS: inserted before the first block, replaced before those that have fresh ones."""

    def before_block(index: int, x: torch.Tensor) -> torch.Tensor:
        if index >= len(fresh):
            return x
        return torch.cat([x[:, :1], fresh[index].expand(len(x), -1, -1), x[:, 1 + (3 if index else 0) :]], dim=1)

    return before_block


def test_what_stands_before_a_block_is_what_it_gets_on_both_paths() -> None:
    tower, seen = small_image_tower(depth=2), []

    def before_block(index: int, x: torch.Tensor) -> torch.Tensor:
        seen.append((index, x))
        return x + 1

    with torch.no_grad():
        x = tower.embed(images()).tokens
        first = tower.blocks[0](x + 1)
        features = tower(images(), value_value_depth=1, levels=(1,), before_block=before_block)
    assert [index for index, _ in seen] == [0, 1]
    assert close(features.levels[1], first)
    assert close(features.tokens, tower.blocks[1](first + 1))
    assert close(features.value_value, first + 1 + tower.blocks[1].value_value(first + 1))


@pytest.mark.parametrize("patches", [True, False])
def test_gradients_reach_images_every_layer_token_and_every_parameter(patches: bool) -> None:
    tower = small_image_tower()
    fresh = layer_tokens(5).requires_grad_()
    picture = images().requires_grad_()
    features = fast.image_features(
        tower, tower.embed(picture), value_value_depth=3, before_block=inserting(fresh), patches=patches
    )
    assert features.value_value is not None
    (tower.project(features.tokens).square().sum() + tower.project(features.value_value).square().sum()).backward()
    assert fresh.grad is not None
    assert picture.grad is not None
    assert all(gradient.abs().max() > 0 for gradient in fresh.grad)
    assert picture.grad.abs().max() > 0
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in tower.parameters())
    assert all(parameter.grad.abs().max() > 0 for parameter in tower.parameters())


# Precision, projection, stems, wrong requests


def test_linear_layers_in_bfloat16_keep_the_residual_stream_accurate() -> None:
    tower = small_image_tower()
    with torch.no_grad():
        exact = tower(images(), value_value_depth=3)
        set_linear_precision(tower, torch.bfloat16)
        rough = tower(images(), value_value_depth=3)
    assert tower.blocks[0].mlp.fc_in.weight.dtype == torch.bfloat16
    assert tower.ln_pre.weight.dtype == tower.projection.dtype == rough.tokens.dtype == torch.float32
    assert close(rough.tokens, exact.tokens, tolerance=2e-2)
    assert close(rough.value_value, exact.value_value, tolerance=2e-2)


def test_the_whole_tower_in_bfloat16_runs() -> None:
    tower = small_image_tower().bfloat16()
    with torch.no_grad():
        features = tower(images(size=48).bfloat16(), value_value_depth=2)
    assert features.tokens.dtype == torch.bfloat16
    assert tower.project(features.tokens).isfinite().all()


def test_projection_with_and_without_the_layer_norm() -> None:
    tower = small_image_tower()
    tokens = torch.randn(2, 32)
    assert close(tower.project(tokens, norm=False), tokens @ tower.projection)
    assert close(tower.project(tokens), tower.ln_post(tokens) @ tower.projection)


def test_the_embedded_stem_makes_a_grid_of_the_tower_width() -> None:
    pytest.importorskip("blemish.backbones.efficientnet")
    config = VisionConfig(
        image_size=64, width=32, depth=1, heads=4, patch_size=None, position_grid=4, stem="efficientnet-lite0"
    )
    grid = build_stem(config).eval()(images(1, 64))
    assert grid.ndim == 4
    assert grid.shape[:2] == (1, 32)
    tower = ImageTower(config, 16).eval()
    with torch.no_grad():
        features = tower(images(1, 64))
    assert features.tokens.shape == (1, 1 + features.grid[0] * features.grid[1], 32)


def test_wrong_requests_say_what_is_wrong() -> None:
    tower = small_image_tower()
    for asked, message in (
        ({"levels": (0,)}, r"levels \[0\] are outside 1..5"),
        ({"levels": (6,)}, "outside 1..5"),
        ({"value_value_depth": 6}, "value_value_depth 6 is outside 0..5"),
    ):
        with pytest.raises(UsageError, match=message):
            tower(images(), **asked)
    with pytest.raises(UsageError, match="image size 30x32 is not a multiple of the patch size 8"):
        tower(torch.zeros(1, 3, 32, 30))
    with pytest.raises(UsageError, match=r"\[B, 3, H, W\]"):
        tower(torch.zeros(3, 32, 32))
    with pytest.raises(UnknownNameError, match="did you mean 'bicubic'"):
        tower(images(size=48), interpolation="bicubik")
