"""An ensemble of image towers that were trained apart and share a trunk, a text tower and its joint space.

Their mean in the joint space errs less than they do on average (Lakshminarayanan et al., Deep Ensembles, NeurIPS 2017). To the
caller it is one tower: its channels are the members' channels side by side. W is the width of all members together, D the joint
width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import cast

import torch
from torch import Tensor, nn

from blemish.backbones.config import VisionConfig
from blemish.backbones.efficientnet import EfficientNetLite0, LocalStem
from blemish.backbones.vision import Embedding, ImageTower, Interpolation, Result, Tower

__all__ = ["ImageTowerEnsemble"]


class ImageTowerEnsemble(Tower):
    """`config.members` image towers that share one frozen trunk."""

    def __init__(self, config: VisionConfig, joint_width: int) -> None:
        super().__init__()
        self.config = config
        self.members = nn.ModuleList(ImageTower(config.member, joint_width) for _ in range(config.members))
        for member in self.towers[1:]:
            del member.stem.trunk  # that of the first serves all

    @property
    def towers(self) -> list[ImageTower]:
        return list(cast(Iterable[ImageTower], self.members))

    def embed(self, images: Tensor, *, interpolation: Interpolation = "bicubic-antialias") -> Embedding:
        towers = self.towers
        towers[0].check_images(images)
        local = cast(LocalStem, towers[0].stem).local_maps(images)  # the trunk runs once
        embeddings = [
            tower.embed_patches(cast(LocalStem, tower.stem).patches(local), interpolation=interpolation)
            for tower in towers
        ]
        tokens = torch.cat([embedding.tokens for embedding in embeddings], dim=-1)
        return Embedding(tokens=tokens, grid=embeddings[0].grid, trunk_maps=local.trunk)

    def at_block(self, index: int, step: Callable[..., Result], *streams: Tensor) -> Result:
        parts = zip(*(stream.chunk(self.config.members, dim=-1) for stream in streams), strict=True)
        results = [step(tower.blocks[index], *own) for tower, own in zip(self.towers, parts, strict=True)]
        if isinstance(results[0], Tensor):
            return cast(Result, torch.cat(cast("list[Tensor]", results), dim=-1))
        by_stream = zip(*cast("list[tuple[Tensor, ...]]", results), strict=True)
        return cast(Result, tuple(torch.cat(own, dim=-1) for own in by_stream))

    def project(self, tokens: Tensor, *, norm: bool = True) -> Tensor:
        parts = tokens.chunk(self.config.members, dim=-1)
        projected = [tower.project(own, norm=norm) for tower, own in zip(self.towers, parts, strict=True)]
        return sum(projected[1:], projected[0]) / len(projected)

    def last_norm(self, tokens: Tensor) -> Tensor:
        parts = tokens.chunk(self.config.members, dim=-1)
        return torch.cat([tower.last_norm(own) for tower, own in zip(self.towers, parts, strict=True)], dim=-1)

    @property
    def trunk(self) -> EfficientNetLite0 | None:
        return self.towers[0].trunk

    def linear_projection(self) -> tuple[Tensor, Tensor]:
        weights, biases = zip(*(tower.linear_projection() for tower in self.towers), strict=True)
        return torch.cat(weights) / self.config.members, torch.stack(biases).mean(0)
