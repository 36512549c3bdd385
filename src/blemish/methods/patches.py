"""Patch features of the value-value path, and the maps that patches are compared by with those of other images.

B batch, N patches of a grid h x w, C channels, D joint width.
"""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from blemish.backbones import fast
from blemish.backbones.efficientnet import COMPARED
from blemish.backbones.model import Clip
from blemish.backbones.vision import Interpolation, VisionFeatures
from blemish.methods.base import Features

__all__ = ["Levels", "reference_maps", "value_value_features"]

Levels = Literal["last", "backbone"]  # of the features: the last block alone, or all of the backbone's


def value_value_features(
    backbone: Clip,
    images: Tensor,
    *,
    all_levels: bool = True,
    cls_norm: bool = True,
    interpolation: Interpolation = "bicubic-antialias",
    compare: bool = False,
) -> Features:
    """CLS and the patches of the value-value path in the joint space, normalised, [B, D] and L times [B, N, D].

    A backbone without value-value blocks gives the patches of the ordinary path.

    Args:
        backbone: Whose image tower sees the images.
        images: [B, 3, S, S], normalised.
        all_levels: Every level of the backbone, else the last one alone.
        cls_norm: Whether CLS passes the tower's last layer norm.
        interpolation: Of the positions.
        compare: Whether the features hold reference maps, too.
    """
    config, tower = backbone.config, backbone.image
    depth, needs_patches = config.value_value_depth, compare and tower.trunk is None
    earlier = [level for level in config.levels if level < config.vision.depth]  # the last one is there anyway
    seen = fast.image_features(
        tower,
        tower.embed(images, interpolation=interpolation),
        levels=earlier if all_levels or needs_patches else (),
        value_value_depth=depth,
        patches=depth == 0 or needs_patches,
        ordinary_levels=depth == 0 or needs_patches,
    )
    levels, last = (seen.value_value_levels, seen.value_value) if depth else (seen.levels, seen.tokens)
    assert last is not None
    streams = [*(levels[level] for level in earlier if all_levels), last]
    return Features(
        global_feature=F.normalize(tower.project(seen.tokens[:, 0], norm=cls_norm), dim=-1),
        levels=tuple(F.normalize(tower.project(stream[:, 1:]), dim=-1) for stream in streams),
        grid=seen.grid,
        reference_maps=reference_maps(seen, config.levels) if compare else (),
    )


def reference_maps(seen: VisionFeatures, levels: tuple[int, ...], *, inserted: int = 0) -> tuple[Tensor, ...]:
    """What patches are compared by, maps [B, C, h, w] in float32, from what a tower's pass has given anyway.

    A trunk's maps at strides 8 and 16, where there is a trunk; else each level's tokens at unit length, less the first
    `inserted` ones after CLS.
    """
    if seen.trunk_maps:
        return tuple(seen.trunk_maps[level].float().contiguous() for level in COMPARED)
    tokens = [
        F.normalize(seen.levels.get(level, seen.tokens)[:, 1 + inserted :].float(), dim=-1) for level in sorted(levels)
    ]
    return tuple(each.transpose(1, 2).reshape(each.shape[0], -1, *seen.grid) for each in tokens)
