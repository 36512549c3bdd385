"""Resumable training state: written beside itself and renamed, so that a kill leaves the last one whole."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn


def save_checkpoint(path: Path, module: nn.Module, optimiser: torch.optim.Optimizer, step: int) -> None:
    temporary = path.with_suffix(".tmp")
    torch.save({"module": module.state_dict(), "optimiser": optimiser.state_dict(), "step": step}, temporary)
    temporary.replace(path)


def load_checkpoint(path: Path, module: nn.Module, optimiser: torch.optim.Optimizer) -> int:
    """Restores module and optimiser; returns the number of steps done, 0 where there is no checkpoint."""
    if not path.exists():
        return 0
    state = torch.load(path, map_location="cpu", weights_only=True)
    module.load_state_dict(state["module"])
    optimiser.load_state_dict(state["optimiser"])
    return int(state["step"])
