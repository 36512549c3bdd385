"""The embedded backbone's patch embedding: local features of a small convolutional trunk, each place seen against its image.

A transformer from scratch needs more pictures than two processor cores can show it. A trunk that already knows edges and
textures (EfficientNet-Lite0, ImageNet weights, frozen) does not, and comparing each place with the mean and spread of its own
image is what makes an oddity odd. What comes out has the width of the transformer that follows, one vector a place.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["EfficientNetLite0", "LocalStem"]

# Tan & Le 2019 (EfficientNet), the "Lite0" variant: no squeeze-and-excitation, ReLU6 everywhere.
# (blocks, kernel, stride, expansion, channels out)
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
_STEM_CHANNELS = 32


class _SameConv(nn.Module):
    """A convolution padded as TensorFlow does ("SAME"): with an even input and stride 2, more on the right and below."""

    def __init__(self, inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(inputs, outputs, kernel, stride=stride, groups=groups, bias=True)
        self.kernel = kernel
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        if self.kernel == 1:
            return self.convolution(x)
        if self.stride == 1:
            half = self.kernel // 2
            return F.conv2d(
                x, self.convolution.weight, self.convolution.bias, padding=half, groups=self.convolution.groups
            )
        down, right = (self._total_padding(side) for side in x.shape[-2:])
        return self.convolution(F.pad(x, (right // 2, right - right // 2, down // 2, down - down // 2)))

    def _total_padding(self, side: int) -> int:
        steps = -(-side // self.stride)
        return max((steps - 1) * self.stride + self.kernel - side, 0)


class _InvertedResidual(nn.Module):
    def __init__(self, inputs: int, outputs: int, *, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.expand = _SameConv(inputs, hidden, 1) if expansion != 1 else None
        self.depthwise = _SameConv(hidden, hidden, kernel, stride=stride, groups=hidden)
        self.reduce = _SameConv(hidden, outputs, 1)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.expand is None else F.relu6(self.expand(x))
        y = self.reduce(F.relu6(self.depthwise(y)))
        return x + y if self.residual else y


class EfficientNetLite0(nn.Module):
    """Feature maps of EfficientNet-Lite0 at strides 4, 8, 16 and 32, batch normalisation folded into the convolutions.

    `forward` takes images [B, 3, H, W] as (pixel * 255 - 127) / 128 and returns maps of `channels` = (24, 40, 112, 320).
    """

    channels = (24, 40, 112, 320)

    def __init__(self) -> None:
        super().__init__()
        self.stem = _SameConv(3, _STEM_CHANNELS, 3, stride=2)
        blocks: list[nn.Module] = []
        taps: list[int] = []
        inputs = _STEM_CHANNELS
        for repeats, kernel, stride, expansion, outputs in _STAGES:
            for index in range(repeats):
                blocks.append(
                    _InvertedResidual(
                        inputs, outputs, kernel=kernel, stride=stride if index == 0 else 1, expansion=expansion
                    )
                )
                inputs = outputs
            if outputs in self.channels:
                taps.append(len(blocks) - 1)
        self.blocks = nn.ModuleList(blocks)
        self.taps = tuple(taps)

    def forward(self, images: Tensor) -> list[Tensor]:
        x = F.relu6(self.stem(images))  # [B, 32, H/2, W/2]
        maps = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in self.taps:
                maps.append(x)
        return maps


class LocalStem(nn.Module):
    """Places of an image as vectors, one for each 8×8 pixels: [B, 3, H, W] -> [B, width, H/8, W/8].

    The trunk is frozen and computes no gradient; everything after it is trained with the backbone.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.trunk = EfficientNetLite0().requires_grad_(False)
        self.level_norms = nn.ModuleList(nn.LayerNorm(channels) for channels in EfficientNetLite0.channels)
        self.level_projections = nn.ModuleList(nn.Conv2d(c, width, 1) for c in EfficientNetLite0.channels)
        self.mix = nn.Sequential(
            nn.GELU(), nn.Conv2d(width, width, 3, padding=1, groups=width), nn.Conv2d(width, width, 1), nn.GELU()
        )
        self.own = nn.Conv2d(width, width, 1)
        self.relative = nn.Conv2d(width, width, 1, bias=False)
        self.whole = nn.Conv2d(width, width, 1, bias=False)
        self.surround = nn.Sequential(
            nn.GELU(),
            nn.Conv2d(width, width, 3, padding=2, dilation=2, groups=width),
            nn.Conv2d(width, width, 1),
            nn.GELU(),
            nn.Conv2d(width, width, 1),
        )

    def forward(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            maps = self.trunk(images)
        places = maps[1].shape[-2:]
        levels = zip(maps, self.level_norms, self.level_projections, strict=True)
        x = torch.stack([_at(places, project(_normalise(norm, level))) for level, norm, project in levels]).sum(0)
        x = self.mix(x)  # [B, W, h, w]
        mean = x.mean((2, 3), keepdim=True)
        spread = (x.var((2, 3), keepdim=True, correction=0) + 1e-4).sqrt()
        return self.surround(self.own(x) + self.relative((x - mean) / spread) + self.whole(mean))


def _normalise(norm: nn.Module, level: Tensor) -> Tensor:
    return norm(level.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)  # over channels, at each place


def _at(places: torch.Size, level: Tensor) -> Tensor:
    if level.shape[-2:] == places:
        return level
    return F.interpolate(level, places, mode="bilinear", align_corners=False)
