from __future__ import annotations

import json
import math
import tomllib

import pytest
import torch

from blemish.backbones.config import (
    BackboneConfig,
    PreprocessConfig,
    TextConfig,
    VisionConfig,
    at_input,
    default_deep_text_blocks,
    default_levels,
    default_value_value_depth,
)
from blemish.backbones.model import Clip
from blemish.errors import UnknownNameError, UsageError
from blemish.io.codec import from_dict, to_dict

TINY = """
name = "tiny"
joint_width = 16
levels = [1, 3]

[vision]
image_size = 32
width = 32
depth = 4
heads = 4
patch_size = 8
position_grid = 4

[text]
width = 32
depth = 4
heads = 4
vocabulary_size = 100
"""


def test_a_backbone_comes_from_toml_and_survives_json() -> None:
    config = BackboneConfig.from_dict(tomllib.loads(TINY))
    assert config.levels == (1, 3)
    assert config.preprocess == PreprocessConfig(size=32)
    assert BackboneConfig.from_dict(json.loads(json.dumps(to_dict(config)))) == config


def test_a_stem_without_patches_survives_the_round_trip() -> None:
    config = VisionConfig(
        image_size=64, width=32, depth=4, heads=4, patch_size=None, position_grid=4, stem="efficientnet-lite0"
    )
    assert from_dict(VisionConfig, to_dict(config)) == config


@pytest.mark.parametrize(
    ("depth", "value_value", "deep_text", "levels"),
    [
        (24, 19, (2, 18), (6, 12, 18, 24)),
        (12, 10, (2, 9), (3, 6, 9, 12)),
        (6, 5, (2, 5), (2, 3, 5, 6)),
        (4, 3, (2, 3), (1, 2, 3, 4)),
        (2, 2, (2, 2), (1, 2)),
        (1, 1, (1, 1), (1,)),
    ],
)
def test_where_methods_act_follows_from_the_depth(
    depth: int, value_value: int, deep_text: tuple[int, int], levels: tuple[int, ...]
) -> None:
    assert default_value_value_depth(depth) == value_value
    assert default_deep_text_blocks(depth) == deep_text
    assert default_levels(depth) == levels


def test_an_unknown_key_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="unknown key of TextConfig 'widht'; did you mean 'width'"):
        from_dict(TextConfig, {"widht": 32, "depth": 1, "heads": 1})
    with pytest.raises(UnknownNameError, match="key of BackboneConfig 'level'; did you mean 'levels'"):
        BackboneConfig.from_dict(tomllib.loads("level = [1]\n" + TINY))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"text": {"width": 32}}, "TextConfig lacks depth, heads"),
        ({"text": {"width": "32", "depth": 1, "heads": 1}}, "TextConfig.width must be of type int, not '32'"),
        ({"text": {"width": True, "depth": 1, "heads": 1}}, "TextConfig.width must be of type int, not True"),
        ({"text": {"width": 32, "depth": 1, "heads": 5}}, "width 32 cannot be split into 5 heads"),
        ({"text": {"width": 32, "depth": 0, "heads": 4}}, "depth must be positive"),
        ({"text": 3}, "lacks the table 'text'"),
        ({"preprocess": 3}, "BackboneConfig.preprocess must be of type PreprocessConfig, not 3"),
        ({"preprocess": {"size": 32, "mean": [1, 2]}}, "must have 3 entries"),
        ({"preprocess": {"size": 32, "mean": 0.5}}, "must be a list"),
        ({"preprocess": {"size": 32, "std": [0, 1, 1]}}, "std must be positive"),
        ({"preprocess": {"size": 32, "interpolation": "bicubik"}}, "did you mean 'bicubic'"),
        ({"levels": [5]}, r"levels \(5,\) are outside 1..4"),
        ({"value_value_depth": 5}, "value_value_depth 5 is outside 0..4"),
        ({"deep_text_blocks": [3, 2]}, "deep_text_blocks"),
    ],
)
def test_a_wrong_value_says_where_it_is(change: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        BackboneConfig.from_dict(tomllib.loads(TINY) | change)


def test_a_patch_stem_needs_a_patch_size() -> None:
    with pytest.raises(UsageError, match="needs a positive patch_size"):
        VisionConfig(image_size=32, width=32, depth=1, heads=4, patch_size=None, position_grid=4)


def test_a_model_has_both_towers_in_one_joint_space() -> None:
    model = Clip(BackboneConfig.from_dict(tomllib.loads(TINY)))
    with torch.no_grad():
        image = model.image.project(model.image(torch.randn(1, 3, 32, 32)).tokens[:, 0])
        text = model.text.encode(torch.tensor([[98, 5, 99, 0]]))
    assert image.shape == text.shape == (1, 16)
    assert float(model.logit_scale.detach().exp()) == pytest.approx(1 / 0.07)
    assert math.isfinite(float((image @ text.T).detach()))


def config_of(stem: str, *, size: int, grid: int, patch: int | None) -> BackboneConfig:
    """A backbone with this stem and its own input."""
    vision = {"image_size": size, "position_grid": grid, "patch_size": patch, "stem": stem}
    shape = {"width": 32, "depth": 2, "heads": 2}
    return BackboneConfig.from_dict(
        {"name": "some", "joint_width": 16, "vision": {**vision, **shape}, "text": shape, "preprocess": {"size": size}}
    )


EMBEDDED_LIKE = config_of("efficientnet-lite0", size=224, grid=28, patch=None)
VIT_14 = config_of("patches", size=224, grid=16, patch=14)


@pytest.mark.parametrize(
    ("config", "input_px"), [(EMBEDDED_LIKE, 64), (EMBEDDED_LIKE, 1344), (VIT_14, 98), (VIT_14, 518)]
)
def test_another_input_changes_the_preprocessing_alone(config: BackboneConfig, input_px: int) -> None:
    found = at_input(config, input_px)
    assert found.preprocess == PreprocessConfig(size=input_px)
    assert at_input(found, 224) == config


@pytest.mark.parametrize(
    ("config", "input_px", "message"),
    [
        (
            EMBEDDED_LIKE,
            450,
            r"multiples of 32 px \(the coarsest stride of its stem\) from 64 to 1344; the nearest: 448 and 480",
        ),
        (EMBEDDED_LIKE, 232, "the nearest: 224 and 256"),  # whole patches of 8 px, but not whole strides
        (EMBEDDED_LIKE, 1376, "the nearest: 1344$"),
        (EMBEDDED_LIKE, 32, "the nearest: 64$"),
        (EMBEDDED_LIKE, 0, "the nearest: 64$"),
        (EMBEDDED_LIKE, -448, "the nearest: 64$"),
        (VIT_14, 512, r"multiples of 14 px \(its patch\) from 98 to 2352; the nearest: 504 and 518"),
    ],
)
def test_an_input_that_does_not_suit_names_its_neighbours(config: BackboneConfig, input_px: int, message: str) -> None:
    with pytest.raises(UsageError, match=f"an input of {input_px} px does not suit the backbone some: .*{message}"):
        at_input(config, input_px)


def test_a_backbones_own_input_is_taken_whatever_it_is() -> None:
    odd = config_of("efficientnet-lite0", size=40, grid=5, patch=None)
    assert at_input(odd, 40) == odd


def test_towers_at_another_input_share_their_weights() -> None:
    clip = Clip(BackboneConfig.from_dict(tomllib.loads(TINY)))
    other = clip.at_input(64)
    assert (clip.config.preprocess.size, other.config.preprocess.size) == (32, 64)
    assert other.image is clip.image
    assert other.fingerprint() == clip.fingerprint()
    assert clip.at_input(None) is clip.at_input(32) is clip
