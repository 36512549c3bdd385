"""The two towers together."""

from __future__ import annotations

import math

import torch
from torch import nn

from blemish.clip.config import BackboneConfig
from blemish.clip.text import TextTower
from blemish.clip.vision import ImageTower

__all__ = ["Clip"]


class Clip(nn.Module):
    """An image tower and a text tower that share one joint space; `logit_scale` is the log of 1 / temperature."""

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.config = config
        self.image = ImageTower(config.vision, config.joint_width)
        self.text = TextTower(config.text, config.joint_width)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
