"""The two towers together."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import math

import torch
from torch import nn

from blemish.backbones.config import Activation, BackboneConfig, at_input
from blemish.backbones.ensemble import ImageTowerEnsemble
from blemish.backbones.layers import Mlp, set_linear_precision
from blemish.backbones.text import TextTower
from blemish.backbones.vision import ImageTower, Tower

__all__ = ["Clip"]

FINGERPRINT_VALUES = 1024  # of each tensor, evenly spread: hashing all of ViT-L would take seconds


class Clip(nn.Module):
    """An image tower and a text tower that share one joint space; `logit_scale` is the log of 1 / temperature."""

    _fingerprint = ""  # of the weights that these were made from, where they were changed

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.config = config
        tower: type[Tower] = ImageTowerEnsemble if config.vision.members > 1 else ImageTower
        self.image = tower(config.vision, config.joint_width)
        self.text = TextTower(config.text, config.joint_width)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def at_input(self, input_px: int | None) -> Clip:
        """The same towers, weights shared, for images resized to input_px x input_px; itself where that is None or no change.

        Positions are interpolated. UsageError where the image tower does not take that size.
        """
        if input_px is None or input_px == self.config.preprocess.size:
            return self
        other = copy.copy(self)
        other.config = at_input(self.config, input_px)
        return other

    def with_activation(self, activation: Activation) -> Clip:
        """The same weights, shared, with another activation in both towers; itself where that is no change.

        Some releases compute OpenAI's QuickGELU weights with the exact GELU, and their prompts were trained so (AdaCLIP,
        APRIL-GAN).
        """
        config = self.config
        if config.vision.activation == config.text.activation == activation:
            return self
        weights = {id(tensor): tensor for tensor in (*self.parameters(), *self.buffers())}
        other = copy.deepcopy(self, weights)  # copies the modules and takes every tensor as it is
        for module in other.modules():
            if isinstance(module, Mlp):
                module.activation = activation
        vision = dataclasses.replace(config.vision, activation=activation)
        text = dataclasses.replace(config.text, activation=activation)
        other.image.config, other.text.config = vision, text
        other.config = dataclasses.replace(config, vision=vision, text=text)
        return other

    def with_block_precision(self, dtype: torch.dtype) -> Clip:
        """A copy whose image blocks hold and compute in `dtype` (`layers.set_linear_precision`), all else shared; itself where
        they do already.

        Its fingerprint stays that of the full weights, so that prompts trained with them fit.
        """
        if any(parameter.dtype == dtype for parameter in self.image.parameters() if dtype != torch.float32):
            return self
        other = copy.copy(self)
        other._modules = dict(self._modules)
        other.image = copy.deepcopy(self.image)
        set_linear_precision(other.image, dtype)
        other._fingerprint = self.fingerprint()
        return other

    def fingerprint(self) -> str:
        """16 hex digits that tell these weights from others: of every tensor its name, shape and evenly spread values.

        The values count in float16, so that a copy stored in that precision is the same backbone.
        """
        if self._fingerprint:
            return self._fingerprint
        digest = hashlib.sha256()
        for name, tensor in sorted(self.state_dict().items()):
            flat = tensor.detach().reshape(-1)
            step = max(1, len(flat) // FINGERPRINT_VALUES)
            digest.update(f"{name} {tuple(tensor.shape)}".encode())
            digest.update(flat[::step].to("cpu", torch.float16).numpy().tobytes())
        return digest.hexdigest()[:16]
