"""Towers side by side say the mean of what each of them says alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from blemish.backbones import fast
from blemish.backbones.ensemble import ImageTowerEnsemble
from blemish.backbones.model import Clip
from blemish.backbones.vision import ImageTower
from blemish.backbones.weights import load_backbone, save_backbone
from blemish.errors import UsageError
from blemish.methods.dapo import progressive
from checkpoint_files import tiny_config

VISION = {
    "image_size": 32,
    "width": 48,
    "depth": 3,
    "heads": 6,
    "patch_size": 8,
    "position_grid": 4,
    "stem": "efficientnet-lite0",
    "members": 3,
}
IMAGES = torch.randn(2, 3, 64, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def clip() -> Clip:
    torch.manual_seed(1)
    return Clip(tiny_config(vision=VISION)).eval()


def alone(tower: ImageTowerEnsemble) -> list[ImageTower]:
    """Each member as a tower of its own, with the trunk that they share."""
    towers = []
    for member in tower.members:
        one = ImageTower(tower.config.member, member.projection.shape[1]).eval()
        trunk = tower.members[0].stem.trunk.state_dict(prefix="stem.trunk.")
        one.load_state_dict({**member.state_dict(), **trunk})
        towers.append(one)
    return towers


@torch.no_grad()
def test_it_says_the_mean_of_its_members(clip: Clip) -> None:
    tower = clip.image
    asked = {"levels": (1, 2), "value_value_depth": 2}
    fresh = torch.randn(2, 3, 48)
    seen = tower(IMAGES, **asked, before_block=progressive(fresh, 0.1))
    own = [
        (one, one(IMAGES, **asked, before_block=progressive(tokens, 0.1)))
        for one, tokens in zip(alone(tower), fresh.chunk(3, dim=-1), strict=True)
    ]
    assert seen.grid == own[0][1].grid == (8, 4)
    for read in (
        lambda features: features.tokens,
        lambda features: features.value_value,
        lambda features: features.levels[1],
        lambda features: features.value_value_levels[2],
    ):
        for norm in (True, False):
            mean = torch.stack([one.project(read(features), norm=norm) for one, features in own]).mean(0)
            assert torch.allclose(tower.project(read(seen), norm=norm), mean, atol=1e-5)
    short = fast.image_features(
        tower, tower.embed(IMAGES), **asked, before_block=progressive(fresh, 0.1), patches=False
    )
    assert torch.allclose(short.tokens, seen.tokens[:, :1], atol=1e-5)
    assert short.value_value is not None
    assert torch.allclose(short.value_value, seen.value_value, atol=1e-5)


@torch.no_grad()
def test_its_linear_projection_is_that_of_members_whose_spread_is_one(clip: Clip) -> None:
    tokens = torch.randn(4, 3, 16)
    tokens = (tokens - tokens.mean(-1, keepdim=True)) / tokens.std(-1, keepdim=True, correction=0)
    weight, bias = clip.image.linear_projection()
    assert torch.allclose(tokens.flatten(1) @ weight + bias, clip.image.project(tokens.flatten(1)), atol=1e-3)


def test_gradients_reach_the_tokens_of_every_member(clip: Clip) -> None:
    tokens = torch.randn(3, 2, 48, requires_grad=True)
    clip.image.project(clip.image(IMAGES, before_block=progressive(tokens, 0.1)).tokens).square().sum().backward()
    assert tokens.grad is not None
    assert (tokens.grad.abs().amax((0, 1)) > 0).all()


def test_it_is_kept_with_one_trunk_and_comes_back_the_same(clip: Clip, tmp_path: Path) -> None:
    names = [name for name in clip.state_dict() if ".trunk." in name]
    assert names
    assert all(name.startswith("image.members.0.stem.trunk.") for name in names)
    save_backbone(clip, tmp_path)
    again = load_backbone(tmp_path)
    assert isinstance(again.image, ImageTowerEnsemble)
    assert again.fingerprint() == clip.fingerprint()
    with torch.no_grad():
        assert torch.equal(again.image(IMAGES).tokens, clip.image(IMAGES).tokens)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"members": 4}, "shared out evenly"),
        ({"members": 0}, "members"),
        ({"stem": "patches"}, "whose trunk they can share"),
    ],
)
def test_members_that_cannot_be_are_refused(changed: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        tiny_config(vision=VISION | changed)
