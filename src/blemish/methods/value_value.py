"""Patch features of the value-value path and the image's global feature, as AnomalyCLIP and the methods after it read an image.

Zhou et al.: "AnomalyCLIP", ICLR 2024, arXiv 2310.18961 (there called DPAM). B batch, N patches, D joint width.
"""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from blemish.backbones.model import Clip
from blemish.backbones.vision import Interpolation
from blemish.methods.base import Features

__all__ = ["Levels", "value_value_features"]

Levels = Literal["last", "backbone"]


def value_value_features(
    clip: Clip, images: Tensor, *, levels: Levels, cls_norm: bool, interpolation: Interpolation
) -> Features:
    """CLS and the value-value patch features in the joint space, each of length 1.

    Args:
        clip: The backbone; where it has no value-value blocks, the patches come from its ordinary path.
        images: Normalised, [B, 3, S, S].
        levels: The last block alone, or all of the backbone's levels.
        cls_norm: Whether CLS passes the tower's last layer norm, as CLIP was trained and AnomalyCLIP's release leaves out.
        interpolation: Of the image tower's positions.
    """
    tower, shape = clip.image, clip.config
    earlier = [level for level in shape.levels if level < shape.vision.depth] if levels == "backbone" else []
    depth = shape.value_value_depth
    seen = tower(images, levels=earlier, value_value_depth=depth, patches=depth == 0, interpolation=interpolation)
    if seen.value_value is None:
        streams = [*seen.levels.values(), seen.tokens]
    else:
        streams = [*seen.value_value_levels.values(), seen.value_value]
    return Features(
        global_feature=F.normalize(tower.project(seen.tokens[:, 0], norm=cls_norm), dim=-1),
        levels=tuple(F.normalize(tower.project(stream[:, 1:]), dim=-1) for stream in streams),
        grid=seen.grid,
    )
