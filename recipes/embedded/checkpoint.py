"""Resumable training state, whole or absent, and refused by another recipe than the one that made it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from torch import nn

from blemish.errors import UsageError
from blemish.io.atomic import replace_file
from recipes.embedded.config import Recipe, TextRecipe


def save_checkpoint(
    path: Path,
    module: nn.Module,
    optimiser: torch.optim.Optimizer,
    *,
    step: int,
    seconds: float,
    recipe: Recipe | TextRecipe,
) -> None:
    state = {"module": module.state_dict(), "optimiser": optimiser.state_dict(), "step": step, "seconds": seconds}
    with replace_file(path) as temporary:
        torch.save({**state, "recipe": plain(recipe)}, temporary)


def load_checkpoint(
    path: Path, module: nn.Module, optimiser: torch.optim.Optimizer, *, recipe: Recipe | TextRecipe
) -> tuple[int, float]:
    """Restores module and optimiser; the steps done and the seconds they took, (0, 0.0) where there is no checkpoint."""
    if not path.exists():
        return 0, 0.0
    state = torch.load(path, map_location="cpu", weights_only=True)
    if state["recipe"] != plain(recipe):
        raise UsageError(f"{path}: made by another recipe; choose another --cache or remove it")
    module.load_state_dict(state["module"])
    optimiser.load_state_dict(state["optimiser"])
    return int(state["step"]), float(state["seconds"])


def log_losses(folder: Path, *, stage: str, step: int, seconds: float, losses: Mapping[str, float]) -> None:
    """A line of folder/log.jsonl; the losses are running means."""
    rounded = {name: round(value, 4) for name, value in losses.items()}
    with (folder / "log.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps({"stage": stage, "step": step, "seconds": round(seconds), **rounded}) + "\n")


def minutes_spent(checkpoints: Iterable[Path]) -> float:
    """How long the steps behind these checkpoints took, resumed runs included."""
    return sum(float(torch.load(path, map_location="cpu", weights_only=True)["seconds"]) for path in checkpoints) / 60


def plain(recipe: Recipe | TextRecipe) -> dict[str, object]:
    """The recipe as JSON would give it back."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(recipe).items()}
