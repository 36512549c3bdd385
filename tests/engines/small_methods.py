"""A small random method of each kind of backbone, for engines."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from blemish import methods
from blemish.backbones.model import Clip
from blemish.methods.base import Method
from checkpoint_files import tiny_config

SHAPES: dict[str, Any] = {
    "vision": {"image_size": 32, "width": 48, "depth": 3, "heads": 6, "patch_size": 8, "position_grid": 4},
    "text": {"width": 16, "depth": 2, "heads": 2, "vocabulary_size": 49408},
    "preprocess": {"size": 32},
    "value_value_depth": 2,
    "deep_text_blocks": (2, 2),
    "levels": (2, 3),
}
TRUNK = SHAPES | {"vision": SHAPES["vision"] | {"stem": "efficientnet-lite0", "members": 2, "heads": 6}}
OPTIONS: dict[str, dict[str, Any]] = {"faprompt": {"patches": 4}}


def small_method(name: str = "ensemble", *, trunk: bool = False, input_px: int | None = None) -> Method:
    torch.manual_seed(1)
    clip = Clip(tiny_config(**(TRUNK if trunk else SHAPES))).eval().at_input(input_px)
    return methods.build(name, clip, OPTIONS.get(name)).eval()


def some_images(count: int = 6, *, side: int = 32, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(count, 3, side, side)).astype(np.float32)
