"""CLIP's image tower: any input size, any levels, value-value attention, a method's own tokens between the blocks.

B batch, N patches, W tower width, D joint width.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blemish.backbones.config import VisionConfig
from blemish.backbones.efficientnet import EfficientNetLite0, LocalStem
from blemish.backbones.layers import BeforeBlock, Block, Conv2d, build_blocks, random_parameter
from blemish.errors import UnknownNameError, UsageError

__all__ = [
    "Embedding",
    "ImageTower",
    "Interpolation",
    "Tower",
    "VisionFeatures",
    "build_stem",
    "interpolate_positions",
]

Interpolation = Literal["bicubic-antialias", "bicubic", "bilinear"]
INTERPOLATIONS: dict[str, tuple[str, bool]] = {  # name: (mode, antialias)
    "bicubic-antialias": ("bicubic", True),  # open_clip, DAPO
    "bicubic": ("bicubic", False),  # transformers
    "bilinear": ("bilinear", False),  # AnomalyCLIP, FAPrompt
}
Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class Embedding:
    """What the first block of an image tower gets."""

    tokens: Tensor  # [B, 1 + N, W], CLS first
    grid: tuple[int, int]  # rows and columns of patches, N = rows * columns
    trunk_maps: tuple[Tensor, ...] = ()  # [B, C, h, w] at strides 4, 8, 16, 32, where the stem has a trunk


@dataclass(frozen=True, kw_only=True)
class VisionFeatures:
    """What an image tower gives: residual streams before the last layer norm, CLS first."""

    tokens: Tensor  # [B, 1 + N, W] after the last block; [B, 1, W] (CLS) where patches were not asked for
    grid: tuple[int, int]  # rows and columns of patches, N = rows * columns
    levels: dict[int, Tensor] = field(default_factory=dict)  # block (1-based) -> [B, 1 + N, W]
    value_value: Tensor | None = None  # [B, 1 + N, W] after the last block of the value-value path
    value_value_levels: dict[int, Tensor] = field(default_factory=dict)  # block (1-based) -> [B, 1 + N, W]
    trunk_maps: tuple[Tensor, ...] = ()  # those of the embedding


class Tower(nn.Module, ABC):
    """What the methods know of an image tower, be it one or several side by side. W is its width."""

    config: VisionConfig

    def forward(
        self,
        images: Tensor,
        *,
        levels: Sequence[int] = (),
        value_value_depth: int = 0,
        before_block: BeforeBlock | None = None,
        interpolation: Interpolation = "bicubic-antialias",
    ) -> VisionFeatures:
        """The features of images, before the last layer norm (see `project`); `fast.image_features` gives the same, faster.

        Args:
            images: [B, 3, H, W], normalised.
            levels: Blocks, 1-based, whose output is returned, too.
            value_value_depth: So many last blocks also run the value-value path (AnomalyCLIP, FAPrompt); before them it
                equals the ordinary one.
            before_block: Called with each block's index and stream: where a method puts tokens of its own.
            interpolation: Of the positions, where the grid is not the stored one.
        """
        self.check(levels, value_value_depth)
        embedding = self.embed(images, interpolation=interpolation)
        x, v = embedding.tokens, None
        kept: dict[int, Tensor] = {}
        kept_value_value: dict[int, Tensor] = {}
        for index in range(self.config.depth):
            if before_block is not None:
                x = before_block(index, x)
            if index >= self.config.depth - value_value_depth:
                v = (x if v is None else v) + self.at_block(index, Block.value_value, x)
            x = self.at_block(index, Block.__call__, x)
            if index + 1 in levels:
                kept[index + 1], kept_value_value[index + 1] = x, x if v is None else v
        return VisionFeatures(
            tokens=x,
            grid=embedding.grid,
            levels=kept,
            value_value=v,
            value_value_levels=kept_value_value if value_value_depth else {},
            trunk_maps=embedding.trunk_maps,
        )

    @abstractmethod
    def embed(self, images: Tensor, *, interpolation: Interpolation = "bicubic-antialias") -> Embedding:
        """What the first block gets of images [B, 3, H, W]."""

    @abstractmethod
    def at_block(self, index: int, step: Callable[..., Result], *streams: Tensor) -> Result:
        """What `step`, a function of a block and streams [B, n, W], makes of these; a tensor, or a tuple of them."""

    @abstractmethod
    def project(self, tokens: Tensor, *, norm: bool = True) -> Tensor:
        """Tokens [..., W] in the joint space [..., D], not normalised; FAPrompt takes CLS without the layer `norm`."""

    @abstractmethod
    def last_norm(self, tokens: Tensor) -> Tensor:
        """Tokens [..., W] after the last layer norm, not projected."""

    @abstractmethod
    def linear_projection(self) -> tuple[Tensor, Tensor]:
        """Weight [W, D] and bias [D] of what `project` does up to the layer norm's division."""

    @property
    def towers(self) -> Sequence[Tower]:
        """The towers side by side that this one consists of, each with its share of the width; itself where it is one."""
        return [self]

    @property
    @abstractmethod
    def trunk(self) -> EfficientNetLite0 | None:
        """The convolutional network that the patches come from; None where they are cut from the image itself."""

    def check(self, levels: Sequence[int], value_value_depth: int) -> None:
        """UsageError where the tower has no such levels or no such value-value path."""
        depth = self.config.depth
        if any(not 1 <= level <= depth for level in levels):
            raise UsageError(f"levels {list(levels)} are outside 1..{depth}")
        if not 0 <= value_value_depth <= depth:
            raise UsageError(f"value_value_depth {value_value_depth} is outside 0..{depth}")


class ImageTower(Tower):
    """A vision transformer whose features are asked for by arguments; everything in it can be differentiated."""

    def __init__(self, config: VisionConfig, joint_width: int) -> None:
        super().__init__()
        self.config = config
        self._positions: dict[tuple[Hashable, ...], Tensor] = {}  # of the last grid, see `positions`
        width = config.width
        self.stem = build_stem(config)
        self.class_embedding = random_parameter(width, std=width**-0.5)
        self.position_embedding = random_parameter(1 + config.position_grid**2, width, std=width**-0.5)
        self.ln_pre = nn.LayerNorm(width)
        self.blocks = build_blocks(
            width, config.depth, config.heads, mlp_ratio=config.mlp_ratio, activation=config.activation
        )
        self.ln_post = nn.LayerNorm(width)
        self.projection = random_parameter(width, joint_width, std=width**-0.5)

    def embed(self, images: Tensor, *, interpolation: Interpolation = "bicubic-antialias") -> Embedding:
        self.check_images(images)
        if not isinstance(self.stem, LocalStem):
            return self.embed_patches(self.stem(images), interpolation=interpolation)
        local = self.stem.local_maps(images)
        return replace(
            self.embed_patches(self.stem.patches(local), interpolation=interpolation), trunk_maps=local.trunk
        )

    def embed_patches(self, x: Tensor, *, interpolation: Interpolation) -> Embedding:
        """As `embed`, from what the stem made of the images, [B, W, h, w]."""
        grid = (int(x.shape[2]), int(x.shape[3]))  # numbers, in a trace, too
        x = x.flatten(2).transpose(1, 2)  # [B, W, h, w] -> [B, N, W]
        cls = self.class_embedding.to(x.dtype).expand(x.shape[0], 1, -1)
        x = torch.cat([cls, x], dim=1)  # [B, 1+N, W]
        x = x + self.positions(grid, interpolation=interpolation)
        return Embedding(tokens=self.ln_pre(x), grid=grid)

    def positions(self, grid: tuple[int, int], *, interpolation: Interpolation) -> Tensor:
        """The position embeddings [1 + h*w, W] of a grid (h, w); without gradients computed once for each grid.

        So an export holds them as numbers, and not the interpolation, which the formats do not know.
        """
        stored = self.position_embedding
        if torch.is_grad_enabled() or torch.compiler.is_compiling():
            return interpolate_positions(stored, grid, interpolation=interpolation)
        changes = 0 if stored.is_inference() else stored._version  # weights made in inference mode never change
        key = (grid, interpolation, stored.device, stored.data_ptr(), changes)
        if key not in self._positions:
            with torch.inference_mode(False), torch.no_grad():
                self._positions = {key: interpolate_positions(stored, grid, interpolation=interpolation)}
        return self._positions[key]

    def at_block(self, index: int, step: Callable[..., Result], *streams: Tensor) -> Result:
        return step(self.blocks[index], *streams)

    def project(self, tokens: Tensor, *, norm: bool = True) -> Tensor:
        if norm:
            tokens = self.ln_post(tokens)
        return tokens @ self.projection

    def last_norm(self, tokens: Tensor) -> Tensor:
        return self.ln_post(tokens)

    @property
    def trunk(self) -> EfficientNetLite0 | None:
        return cast("EfficientNetLite0 | None", getattr(self.stem, "trunk", None))

    def check_images(self, images: Tensor) -> None:
        """UsageError where the tower does not take images of this shape."""
        patch = self.config.patch_size
        if images.ndim != 4 or images.shape[1] != 3:
            raise UsageError(f"the image tower takes images of shape [B, 3, H, W], not {list(images.shape)}")
        if self.config.stem == "patches" and patch and (images.shape[2] % patch or images.shape[3] % patch):
            raise UsageError(
                f"image size {images.shape[3]}x{images.shape[2]} is not a multiple of the patch size {patch}"
            )

    @torch.no_grad()
    def linear_projection(self) -> tuple[Tensor, Tensor]:
        weighted = self.ln_post.weight[:, None] * self.projection
        return weighted - weighted.mean(0), self.ln_post.bias @ self.projection  # the norm subtracts each token's mean


def build_stem(config: VisionConfig) -> nn.Module:
    """The module that maps normalised images [B, 3, H, W] to [B, W, h, w]."""
    if config.stem == "efficientnet-lite0":
        return LocalStem(config.width)
    if config.stem == "patches":
        assert config.patch_size is not None
        return Conv2d(3, config.width, config.patch_size, stride=config.patch_size, bias=False)
    raise UnknownNameError("stem", config.stem, ("patches", "efficientnet-lite0"))


def interpolate_positions(stored: Tensor, grid: tuple[int, int], *, interpolation: Interpolation) -> Tensor:
    """Position embeddings [1 + h*w, W] for a grid (h, w) from stored ones [1 + g*g, W]; CLS keeps its own."""
    if interpolation not in INTERPOLATIONS:
        raise UnknownNameError("interpolation", interpolation, INTERPOLATIONS)
    side = math.isqrt(stored.shape[0] - 1)
    if grid == (side, side):
        return stored
    mode, antialias = INTERPOLATIONS[interpolation]
    square = stored[1:].float().T.reshape(1, -1, side, side)  # [g*g, W] -> [1, W, g, g]
    resized = F.interpolate(square, size=grid, mode=mode, align_corners=False, antialias=antialias)
    return torch.cat([stored[:1], resized[0].flatten(1).T.to(stored.dtype)])  # [1, W, h, w] -> [1 + h*w, W]
