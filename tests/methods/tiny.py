"""A tiny random backbone for tests of methods: 8 x 8 patches, four blocks."""

from __future__ import annotations

import torch
from torch import Tensor

from blemish.backbones.config import BackboneConfig
from blemish.backbones.model import Clip

TINY = BackboneConfig.from_dict(
    {
        "name": "tiny",
        "joint_width": 24,
        "vision": {"image_size": 64, "width": 32, "depth": 4, "heads": 2, "patch_size": 8, "position_grid": 8},
        "text": {"width": 32, "depth": 4, "heads": 2},
    }
)


def tiny_backbone() -> Clip:
    torch.manual_seed(0)
    clip = Clip(TINY)
    torch.nn.init.normal_(clip.text.token_embedding.weight)
    return clip


def random_images(count: int = 3) -> Tensor:
    return torch.randn(count, 3, 64, 64, generator=torch.Generator().manual_seed(1))
