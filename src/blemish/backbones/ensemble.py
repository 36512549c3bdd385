"""Several image towers side by side, trained apart: they look at the same image and answer together.

Towers that agree on what they were trained with differ on what they never saw, and their mean errs less than they do on average
(Lakshminarayanan et al., Deep Ensembles, NeurIPS 2017). Here they share a text tower and its joint space, where the mean is.

To whoever calls, it is one tower: its tokens hold the members' side by side, a channel of one never meeting one of another.
B batch, N patches, K members, W width of all, D joint width.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from blemish.backbones.config import VisionConfig
from blemish.backbones.efficientnet import EfficientNetLite0, LocalStem
from blemish.backbones.vision import ImageTower, Interpolation, Tower, VisionFeatures, check_asked

__all__ = ["ImageTowerEnsemble"]


class ImageTowerEnsemble(Tower):
    """`config.members` image towers that share one frozen trunk."""

    def __init__(self, config: VisionConfig, joint_width: int) -> None:
        super().__init__()
        self.config = config
        self.members = nn.ModuleList(ImageTower(config.member, joint_width) for _ in range(config.members))
        for member in self._towers[1:]:
            del member.stem.trunk  # that of the first serves all

    @property
    def _towers(self) -> list[ImageTower]:
        return list(cast(Iterable[ImageTower], self.members))

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
        count = self.config.members
        tokens = [None] * count if layer_tokens is None else layer_tokens.chunk(count, dim=-1)
        seen = [
            tower.continuing(
                stream,
                grid,
                levels=levels,
                value_value_depth=value_value_depth,
                layer_tokens=own,
                carry=carry,
                patches=patches,
            )
            for tower, stream, own in zip(self._towers, x.chunk(count, dim=-1), tokens, strict=True)
        ]
        return VisionFeatures(
            tokens=torch.cat([one.tokens for one in seen], dim=-1),
            grid=grid,
            levels={level: torch.cat([one.levels[level] for one in seen], dim=-1) for level in seen[0].levels},
            value_value=_together([one.value_value for one in seen]),
            value_value_levels={
                level: torch.cat([one.value_value_levels[level] for one in seen], dim=-1)
                for level in seen[0].value_value_levels
            },
        )

    def embed(
        self, images: Tensor, *, interpolation: Interpolation = "bicubic-antialias"
    ) -> tuple[Tensor, tuple[int, int]]:
        self._towers[0].check_images(images)
        stems = [cast(LocalStem, tower.stem) for tower in self._towers]
        seen = stems[0].see(images)  # the trunk sees them once
        begun = [
            tower.begin(stem.places(*seen), interpolation=interpolation)
            for tower, stem in zip(self._towers, stems, strict=True)
        ]
        return torch.cat([stream for stream, _ in begun], dim=-1), begun[0][1]

    def project(self, tokens: Tensor, *, norm: bool = True) -> Tensor:
        parts = tokens.chunk(self.config.members, dim=-1)
        projected = [tower.project(own, norm=norm) for tower, own in zip(self._towers, parts, strict=True)]
        return torch.stack(projected).mean(0)

    def last_norm(self, tokens: Tensor) -> Tensor:
        parts = tokens.chunk(self.config.members, dim=-1)
        return torch.cat([tower.last_norm(own) for tower, own in zip(self._towers, parts, strict=True)], dim=-1)

    @property
    def trunk(self) -> EfficientNetLite0 | None:
        return self._towers[0].trunk

    def linear_projection(self) -> tuple[Tensor, Tensor]:
        weights, biases = zip(*(tower.linear_projection() for tower in self._towers), strict=True)
        return torch.cat(weights) / self.config.members, torch.stack(biases).mean(0)


def _together(streams: Sequence[Tensor | None]) -> Tensor | None:
    known = [stream for stream in streams if stream is not None]
    return torch.cat(known, dim=-1) if known else None
