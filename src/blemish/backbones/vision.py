"""CLIP's image tower: any input size, any levels, value-value attention, learnable tokens per layer.

B batch, N patches, W tower width, D joint width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blemish.backbones.config import VisionConfig
from blemish.backbones.layers import Block, build_blocks, place_tokens
from blemish.errors import UnknownNameError, UsageError

if TYPE_CHECKING:
    from blemish.backbones.efficientnet import EfficientNetLite0

__all__ = ["ImageTower", "Interpolation", "Tower", "VisionFeatures", "build_stem", "interpolate_positions"]

Interpolation = Literal["bicubic-antialias", "bicubic", "bilinear"]
INTERPOLATIONS: dict[str, tuple[str, bool]] = {  # name: (mode, antialias)
    "bicubic-antialias": ("bicubic", True),  # open_clip, DAPO
    "bicubic": ("bicubic", False),  # transformers
    "bilinear": ("bilinear", False),  # AnomalyCLIP, FAPrompt
}


@dataclass(frozen=True, kw_only=True)
class VisionFeatures:
    """What an image tower saw: residual streams before the last layer norm, CLS first, layer tokens left out."""

    tokens: Tensor  # [B, 1+N, W] after the last block; [B, 1, W] (CLS) where patches were not asked for
    grid: tuple[int, int]  # rows and columns of patches, N = rows * columns
    levels: dict[int, Tensor] = field(default_factory=dict)  # block (1-based) -> [B, 1+N, W]
    value_value: Tensor | None = None  # [B, 1+N, W] after the last block of the value-value path
    value_value_levels: dict[int, Tensor] = field(default_factory=dict)  # block (1-based) -> [B, 1+N, W]


class Tower(nn.Module, ABC):
    """What the methods know of an image tower, be it one or several side by side. W is its width."""

    config: VisionConfig

    def forward(
        self,
        images: Tensor,
        *,
        levels: Sequence[int] = (),
        value_value_depth: int = 0,
        layer_tokens: Tensor | None = None,
        carry: float = 0.0,
        interpolation: Interpolation = "bicubic-antialias",
        patches: bool = True,
    ) -> VisionFeatures:
        """The features of normalised images [B, 3, H, W], before the last layer norm (see `project`).

        `levels` are blocks, 1-based. The last `value_value_depth` blocks also run the value-value path (AnomalyCLIP,
        FAPrompt); before them it equals the ordinary one. `layer_tokens` [d, n, W], or [d, B, n, W] where each image has
        its own (AdaCLIP), stand behind CLS: those of layer 0 are inserted, block i < d sees
        carry * previous + (1 - carry) * its own, later blocks take them as they are (DAPO has carry 0.01). Without
        `patches`, the last block computes of the ordinary path only CLS.
        """
        check_asked(self.config, levels, value_value_depth, layer_tokens)  # before the stem's work
        return self.continuing(
            *self.embed(images, interpolation=interpolation),
            levels=levels,
            value_value_depth=value_value_depth,
            layer_tokens=layer_tokens,
            carry=carry,
            patches=patches,
        )

    @abstractmethod
    def embed(
        self, images: Tensor, *, interpolation: Interpolation = "bicubic-antialias"
    ) -> tuple[Tensor, tuple[int, int]]:
        """The first residual stream [B, 1+N, W] of images [B, 3, H, W], and the grid (rows, columns) of its patches."""

    @abstractmethod
    def continuing(
        self,
        x: Tensor,
        grid: tuple[int, int],
        *,
        levels: Sequence[int] = (),
        value_value_depth: int = 0,
        layer_tokens: Tensor | None = None,
        carry: float = 0.0,
        patches: bool = True,
    ) -> VisionFeatures:
        """What `forward` gives, from what `embed` gave: a residual stream [B, 1+N, W] and its grid."""

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
    @abstractmethod
    def trunk(self) -> EfficientNetLite0 | None:
        """The convolutional network that the patches come from; None where they are cut from the image itself."""


class ImageTower(Tower):
    """A vision transformer whose features are asked for by arguments; everything in it can be differentiated."""

    def __init__(self, config: VisionConfig, joint_width: int) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.stem = build_stem(config)
        self.class_embedding = nn.Parameter(width**-0.5 * torch.randn(width))
        self.position_embedding = nn.Parameter(width**-0.5 * torch.randn(1 + config.position_grid**2, width))
        self.ln_pre = nn.LayerNorm(width)
        self.blocks = build_blocks(
            width, config.depth, config.heads, mlp_ratio=config.mlp_ratio, activation=config.activation
        )
        self.ln_post = nn.LayerNorm(width)
        self.projection = nn.Parameter(width**-0.5 * torch.randn(width, joint_width))

    def continuing(
        self,
        x: Tensor,
        grid: tuple[int, int],
        *,
        levels: Sequence[int] = (),
        value_value_depth: int = 0,
        layer_tokens: Tensor | None = None,
        carry: float = 0.0,
        patches: bool = True,
    ) -> VisionFeatures:
        check_asked(self.config, levels, value_value_depth, layer_tokens)
        inserted = 0 if layer_tokens is None else layer_tokens.shape[-2]
        first_value_value = self.config.depth - value_value_depth
        v: Tensor | None = None
        kept: dict[int, Tensor] = {}
        kept_value_value: dict[int, Tensor] = {}

        for index, block in enumerate(cast(Iterable[Block], self.blocks)):
            if layer_tokens is not None and index < len(layer_tokens):
                fresh = layer_tokens[index].to(x.dtype).expand(len(x), -1, -1)  # [n, W] or [B, n, W] -> [B, n, W]
                x = place_tokens(x, fresh, insert=index == 0, carry=carry)
            if value_value_depth and index == first_value_value:
                v = x
            last = index + 1 == self.config.depth
            if last and not patches and self.config.depth not in levels:
                x, v = block.first_token(x, v)
            elif v is not None:
                x, v = block.dual(x, v)
            else:
                x = block(x)
            if index + 1 in levels:
                kept[index + 1] = _without_inserted(x, inserted)
                if value_value_depth:
                    kept_value_value[index + 1] = _without_inserted(x if v is None else v, inserted)

        return VisionFeatures(
            tokens=_without_inserted(x, inserted) if patches else x[:, :1],
            grid=grid,
            levels=kept,
            value_value=None if v is None else _without_inserted(v, inserted),
            value_value_levels=kept_value_value,
        )

    def embed(
        self, images: Tensor, *, interpolation: Interpolation = "bicubic-antialias"
    ) -> tuple[Tensor, tuple[int, int]]:
        self.check_images(images)
        return self.begin(self.stem(images), interpolation=interpolation)

    def begin(self, x: Tensor, *, interpolation: Interpolation) -> tuple[Tensor, tuple[int, int]]:
        """As `embed`, from what the stem made of the images, [B, W, h, w]."""
        grid = (x.shape[2], x.shape[3])
        x = x.flatten(2).transpose(1, 2)  # [B, W, h, w] -> [B, N, W]
        cls = self.class_embedding.to(x.dtype).expand(len(x), 1, -1)
        x = torch.cat([cls, x], dim=1)  # [B, 1+N, W]
        x = x + interpolate_positions(self.position_embedding, grid, interpolation=interpolation)
        return self.ln_pre(x), grid

    def project(self, tokens: Tensor, *, norm: bool = True) -> Tensor:
        if norm:
            tokens = self.ln_post(tokens)
        return tokens @ self.projection

    def last_norm(self, tokens: Tensor) -> Tensor:
        return self.ln_post(tokens)

    @property
    def trunk(self) -> EfficientNetLite0 | None:
        return getattr(self.stem, "trunk", None)

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


def check_asked(
    config: VisionConfig, levels: Sequence[int], value_value_depth: int, layer_tokens: Tensor | None
) -> None:
    """UsageError where a tower of this shape has no such levels, value-value path or places for tokens."""
    depth, width = config.depth, config.width
    if any(not 1 <= level <= depth for level in levels):
        raise UsageError(f"levels {list(levels)} are outside 1..{depth}")
    if not 0 <= value_value_depth <= depth:
        raise UsageError(f"value_value_depth {value_value_depth} is outside 0..{depth}")
    if layer_tokens is not None and (
        layer_tokens.ndim not in (3, 4) or not 1 <= len(layer_tokens) <= depth or layer_tokens.shape[-1] != width
    ):
        raise UsageError(f"layer_tokens must be of shape [1..{depth}, (B,) n, {width}], not {list(layer_tokens.shape)}")


def build_stem(config: VisionConfig) -> nn.Module:
    """The module that maps normalised images [B, 3, H, W] to [B, W, h, w]."""
    if config.stem == "efficientnet-lite0":
        from blemish.backbones.efficientnet import LocalStem

        return LocalStem(config.width)
    if config.stem == "patches":
        assert config.patch_size is not None
        return nn.Conv2d(3, config.width, config.patch_size, stride=config.patch_size, bias=False)
    raise UnknownNameError("stem", config.stem, ("patches", "efficientnet-lite0"))


def interpolate_positions(stored: Tensor, grid: tuple[int, int], *, interpolation: Interpolation) -> Tensor:
    """Position embeddings [1 + h*w, W] for a grid (h, w) from stored ones [1 + g*g, W]; CLS keeps its own."""
    if interpolation not in INTERPOLATIONS:
        raise UnknownNameError("interpolation", interpolation, INTERPOLATIONS)
    side = round((len(stored) - 1) ** 0.5)
    if grid == (side, side):
        return stored
    mode, antialias = INTERPOLATIONS[interpolation]
    square = stored[1:].float().T.reshape(1, -1, side, side)  # [g*g, W] -> [1, W, g, g]
    resized = F.interpolate(square, size=grid, mode=mode, align_corners=False, antialias=antialias)
    return torch.cat([stored[:1], resized[0].flatten(1).T.to(stored.dtype)])  # [1, W, h, w] -> [1 + h*w, W]


def _without_inserted(x: Tensor, inserted: int) -> Tensor:
    return torch.cat([x[:, :1], x[:, 1 + inserted :]], dim=1) if inserted else x
