"""The embedded backbone's patch embedding: local features of a small convolutional trunk, each patch compared with its image.

A transformer from scratch needs more pictures than two processor cores can show it. A trunk that already knows edges and
textures (EfficientNet-Lite0, ImageNet weights, frozen) does not. An anomaly differs from the rest of its image, so each patch is
compared with the image's mean and spread, and with the patches that look most like it (as MuSc does between images, Li et al.,
ICLR 2024). What comes out has the width of the transformer that follows, one vector a patch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import lru_cache, reduce
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blemish.backbones.layers import Conv2d
from blemish.backbones.processor import FusedActivation, convolved, is_traced, pointwise

__all__ = ["COMPARED", "EfficientNetLite0", "LocalMaps", "LocalStem"]

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
COMPARED = (1, 2)  # trunk levels whose patches are compared, within the image and with others: strides 8 and 16
_MOST_REFERENCES = 784  # that a patch is compared with; of a larger grid every second one, every third, ...
_OWN = 1  # patches around a patch that do not count as others
_SOFTNESS = 0.1  # of the mean over the most alike patches


class _SameConv(nn.Module):
    """A convolution padded as TensorFlow does ("SAME"): with an even input and stride 2, more on the right and below."""

    def __init__(self, inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.convolution = Conv2d(inputs, outputs, kernel, stride=stride, groups=groups, bias=True)
        self.kernel = kernel
        self.stride = stride

    def forward(self, x: Tensor, *, activation: FusedActivation = "none") -> Tensor:
        if self.kernel == 1:
            return pointwise(self.convolution, x, activation=activation)
        down, right = (self._total_padding(side) for side in x.shape[-2:])
        before, after = (down // 2, right // 2), (down - down // 2, right - right // 2)
        return convolved(self.convolution, x, before=before, after=after, activation=activation)

    def _total_padding(self, side: int) -> int:
        steps = -(-int(side) // self.stride)
        return max((steps - 1) * self.stride + self.kernel - int(side), 0)


class _InvertedResidual(nn.Module):
    def __init__(self, inputs: int, outputs: int, *, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.expand = _SameConv(inputs, hidden, 1) if expansion != 1 else None
        self.depthwise = _SameConv(hidden, hidden, kernel, stride=stride, groups=hidden)
        self.reduce = _SameConv(hidden, outputs, 1)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.expand is None else self.expand(x, activation="relu6")
        y = self.reduce(self.depthwise(y, activation="relu6"))
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
        x = self.stem(images, activation="relu6")  # [B, 32, H/2, W/2]
        maps = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in self.taps:
                maps.append(x)
        return maps


class LocalMaps(NamedTuple):
    """What no training moves in a `LocalStem`."""

    trunk: tuple[Tensor, ...]  # the trunk's maps [B, C, h, w], at strides 4, 8, 16, 32
    likeness: tuple[Tensor, ...]  # how unlike the rest of its image each patch is, [B, 3, h, w], of two of them


class LocalStem(nn.Module):
    """Patch features of an image, one for each 8×8 pixels: [B, 3, H, W] -> [B, width, H/8, W/8].

    The trunk is frozen and computes no gradient; everything after it is trained with the backbone.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.trunk = EfficientNetLite0().requires_grad_(False)
        self.level_norms = nn.ModuleList(nn.LayerNorm(channels) for channels in EfficientNetLite0.channels)
        self.level_projections = nn.ModuleList(Conv2d(c, width, 1) for c in EfficientNetLite0.channels)
        self.likeness = Conv2d(3 * len(COMPARED), width, 1, bias=False)
        self.mix = nn.Sequential(
            nn.GELU(), Conv2d(width, width, 3, padding=1, groups=width), Conv2d(width, width, 1), nn.GELU()
        )
        self.own = Conv2d(width, width, 1)
        self.relative = Conv2d(width, width, 1, bias=False)
        self.whole = Conv2d(width, width, 1, bias=False)
        self.surround = nn.Sequential(
            nn.GELU(),
            Conv2d(width, width, 3, padding=2, dilation=2, groups=width),
            Conv2d(width, width, 1),
            nn.GELU(),
            Conv2d(width, width, 1),
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.patches(self.local_maps(images))

    @torch.no_grad()
    def local_maps(self, images: Tensor) -> LocalMaps:
        """The frozen part for images [B, 3, H, W]."""
        images = images.contiguous(memory_format=torch.channels_last)  # a third faster on processors
        if images.device.type == "cpu" and not is_traced():  # so many at once that a thread's maps stay in its cache
            parts = zip(*map(self.trunk, torch.split(images, torch.get_num_threads())), strict=True)
            maps = [torch.cat(level) for level in parts]
        else:
            maps = self.trunk(images)
        return LocalMaps(tuple(maps), tuple(likeness(maps[level]) for level in COMPARED))

    def patches(self, local: LocalMaps) -> Tensor:
        """The patch features [B, width, H/8, W/8]."""
        grid = local.trunk[1].shape[-2:]
        projections = cast(Iterable[Conv2d], self.level_projections)
        levels = zip(local.trunk, self.level_norms, projections, strict=True)
        parts = [_projected(_normalise(norm, level), project, grid) for level, norm, project in levels]
        x = reduce(torch.add, parts)
        x = x + self.likeness(torch.cat([_on_grid(level, grid) for level in local.likeness], 1).to(x.dtype))
        x = _through(self.mix, x)  # [B, W, h, w]
        mean = x.mean((2, 3), keepdim=True)
        centred = x - mean
        spread = (centred.square().mean((2, 3), keepdim=True) + 1e-4).sqrt()  # quicker than torch's own variance
        relative = pointwise(self.relative, centred / spread)
        return _through(self.surround, pointwise(self.own, x) + relative + self.whole(mean))


def likeness(level: Tensor) -> Tensor:
    """How unlike every other patch of its image each patch of a map [B, C, h, w] is: [B, 3, h, w], 0 alike to 2 opposite.

    One minus the cosine to the most alike patch, the soft mean over the most alike ones, and the mean over all; features are
    standardised over the image first. The patch itself and those next to it count as opposite.
    """
    batch, _, rows, columns = level.shape
    with torch.autocast(level.device.type, enabled=False):
        x = level.float()
        x = x - x.mean((2, 3), keepdim=True)
        x = x / (x.square().mean((2, 3), keepdim=True).sqrt() + 1e-3)
        x = F.normalize(x, dim=1)
        step = max(1, math.ceil(math.sqrt(rows * columns / _MOST_REFERENCES)))
        others = x[:, :, ::step, ::step].flatten(2)  # [B, C, R]
        cosines = x.flatten(2).transpose(1, 2) @ others  # [B, N, R]
        next_to = _next_to if is_traced() else _next_to_kept
        cosines.masked_fill_(next_to(rows, columns, step, level.device), -1.0)
        nearest, everywhere = cosines.amax(2), cosines.mean(2)
        crowd = 1 + _SOFTNESS * cosines.sub_(1).div_(_SOFTNESS).exp_().mean(2).log()  # in place: large and read no more
        return (1 - torch.stack([nearest, crowd, everywhere], 1)).reshape(batch, 3, rows, columns)


def _next_to(rows: int, columns: int, step: int, device: torch.device) -> Tensor:
    """Which patches [N] and references [R] of a grid are next to each other, bool [N, R]."""
    y, x = torch.arange(rows, device=device), torch.arange(columns, device=device)
    near_y = (y[:, None] - y[None, ::step]).abs() <= _OWN  # [rows, reference rows]
    near_x = (x[:, None] - x[None, ::step]).abs() <= _OWN
    return (near_y[:, None, :, None] & near_x[None, :, None, :]).reshape(rows * columns, -1)


_next_to_kept = lru_cache(maxsize=4)(_next_to)


def _through(layers: nn.Sequential, x: Tensor) -> Tensor:
    for layer in layers:
        x = pointwise(layer, x) if isinstance(layer, Conv2d) and layer.kernel_size == (1, 1) else layer(x)
    return x


def _normalise(norm: nn.Module, level: Tensor) -> Tensor:
    return norm(level.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)  # over channels, at each patch


def _projected(level: Tensor, project: nn.Conv2d, grid: torch.Size) -> Tensor:
    """The projection on the grid: the order does not matter to the result, so the smaller map is projected."""
    if level.shape[-1] > grid[-1]:
        return pointwise(project, _on_grid(level, grid))
    return _on_grid(pointwise(project, level), grid)


def _on_grid(level: Tensor, grid: torch.Size) -> Tensor:
    if level.shape[-2:] == grid:
        return level
    return F.interpolate(level, grid, mode="bilinear", align_corners=False)
