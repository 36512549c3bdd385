"""Image sides that learn together: those of a group share a trunk and the batch, each with sources of its own.

What one side must not see, so that it can be judged by it, the others may: a side's losses leave those images out, and a trunk
that learns, too, gets no gradient from images that any of its sides must not see.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn

from blemish.backbones.efficientnet import COMPARED, LocalMaps, LocalStem, likeness
from blemish.backbones.ensemble import ImageTowerEnsemble
from blemish.backbones.vision import Embedding, Interpolation
from blemish.errors import UnknownNameError, UsageError
from recipes.embedded.config import abreast

TRUNKS = ("frozen", "thawed")


@dataclass(frozen=True)
class Side:
    """One image side."""

    trunk: str  # of TRUNKS
    start: int  # the side of the beginning weights that it starts as
    without: tuple[str, ...] = ()  # sources that it must not see
    only: tuple[str, ...] = ()  # where not empty, all that it sees

    @classmethod
    def parse(cls, text: str) -> Side:
        """From "frozen:0", "frozen:0:-visa-capsules" (without) or "frozen:0:renders,photos" (only)."""
        trunk, number, *rest = text.split(":")
        names = [name for part in rest for name in part.split(",")]
        if trunk not in TRUNKS or not number.isdigit():
            raise argparse.ArgumentTypeError(f"{text!r} is no side; write for example frozen:0:-visa-capsules")
        without = tuple(name[1:] for name in names if name.startswith("-"))
        return cls(trunk, int(number), without, tuple(name for name in names if not name.startswith("-")))

    def check(self, sources: Sequence[str]) -> None:
        """Refuses names that are no source: a misspelt one would let the side see what judges it."""
        for name in (*self.without, *self.only):
            if name not in sources:
                raise UnknownNameError("source", name, sources)

    def sees(self, source: str) -> bool:
        """Whether it may learn from this source."""
        return source not in self.without and (not self.only or source in self.only)


class ThawedTower(ImageTowerEnsemble):
    """Image sides whose shared trunk learns, too."""

    detached: Tensor | None = None  # bool [B]: images that teach the trunk nothing

    def embed(self, images: Tensor, *, interpolation: Interpolation = "bicubic-antialias") -> Embedding:
        towers = self.towers
        maps = cast(LocalStem, towers[0].stem).trunk(images.contiguous(memory_format=torch.channels_last))
        if self.detached is not None:
            maps = [torch.where(self.detached[:, None, None, None], level.detach(), level) for level in maps]
        with torch.no_grad():
            unlike = tuple(likeness(maps[level]) for level in COMPARED)
        local = LocalMaps(tuple(maps), unlike)
        embeddings = [
            tower.embed_patches(cast(LocalStem, tower.stem).patches(local), interpolation=interpolation)
            for tower in towers
        ]
        tokens = torch.cat([embedding.tokens for embedding in embeddings], dim=-1)
        return Embedding(tokens=tokens, grid=embeddings[0].grid, trunk_maps=local.trunk)


@dataclass
class Group:
    """The sides with one trunk, what moves them and their averaged weights."""

    sides: tuple[Side, ...]
    tower: ImageTowerEnsemble
    averaged: ImageTowerEnsemble

    @property
    def trunk(self) -> str:
        return self.sides[0].trunk

    def parameters(self, rate: float, trunk_rate: float) -> list[dict[str, object]]:
        """For an optimiser: those of the sides, and those of a trunk that learns."""
        own: list[nn.Parameter] = []
        shared: list[nn.Parameter] = []
        for name, parameter in self.tower.named_parameters():
            if parameter.requires_grad:
                (shared if ".trunk." in name else own).append(parameter)
        groups: list[dict[str, object]] = [{"params": own, "lr": rate, "top": rate}]
        return [*groups, {"params": shared, "lr": trunk_rate, "top": trunk_rate}] if shared else groups

    @torch.no_grad()
    def move_average(self, decay: float) -> None:
        """Moves the averaged weights towards the present ones."""
        pairs = zip(self.averaged.parameters(), self.tower.parameters(), strict=True)
        mean, new = zip(*((a, b) for a, b in pairs if b.requires_grad), strict=True)
        torch._foreach_lerp_(list(mean), list(new), 1 - decay)


def groups_of(sides: Sequence[Side], start: Mapping[str, Tensor], device: torch.device) -> list[Group]:
    """The groups, each side as it starts; `start` as `bundle.start` gives it."""
    made = []
    for trunk in TRUNKS:
        own = tuple(side for side in sides if side.trunk == trunk)
        if not own:
            continue
        config = abreast(len(own))
        vision = replace(config.vision, members=len(own))
        tower = (ThawedTower if trunk == "thawed" else ImageTowerEnsemble)(vision, config.joint_width)
        tower.load_state_dict(beginning(own, start))
        tower.to(device).requires_grad_(True)
        cast(LocalStem, tower.towers[0].stem).trunk.requires_grad_(trunk == "thawed")
        made.append(Group(own, tower, copy.deepcopy(tower).requires_grad_(False)))
    return made


def beginning(sides: Sequence[Side], start: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state of a tower of these sides."""
    state: dict[str, Tensor] = {}
    prefix = "image.members."
    for number, side in enumerate(sides):
        for name, value in start.items():
            if name.startswith(f"{prefix}{side.start}."):
                state[f"members.{number}.{name.removeprefix(f'{prefix}{side.start}.')}"] = value.float()
        if not any(name.startswith(f"members.{number}.") for name in state):
            raise UsageError(f"side {side.start} is not in the weights to begin with; the first is side 0")
    trunk = {name.removeprefix("image."): value.float() for name, value in start.items() if ".trunk." in name}
    return {name: value for name, value in state.items() if ".trunk." not in name} | trunk
