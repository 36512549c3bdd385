"""Where a training stands, on disk: parameters, the moments of the optimiser and the place in the epoch, in one whole file."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from blemish.errors import ModelError
from blemish.io.atomic import replace_file
from blemish.methods.base import Method

__all__ = ["STATE_FILE", "TrainingProgress", "load_state", "save_state"]

STATE_FILE = "state.safetensors"
MOMENTS = ("step", "exp_avg", "exp_avg_sq", "momentum_buffer")  # of Adam and AdamW; of SGD


@dataclass
class TrainingProgress:
    """How far a training is. `epochs` are finished, `batches` of the next one done, `steps` in all.

    sums are the epoch's losses so far, added up by name; seconds the time spent on it; log_bytes how long the log was;
    loss_scale the scaler's state (fp16); history one record for each finished epoch.
    """

    epochs: int = 0
    batches: int = 0
    steps: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    log_bytes: int = 0
    loss_scale: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)


def save_state(folder: Path, method: Method, optimiser: torch.optim.Optimizer, progress: TrainingProgress) -> None:
    """Puts the state into its folder in place of the one before; OutputError where the system refuses."""
    from safetensors.torch import save

    tensors: dict[str, Tensor] = {}
    for name, parameter in method.trained_parts().items():
        tensors[f"parameter/{name}"] = parameter.detach().cpu().contiguous()
        for moment, value in optimiser.state.get(parameter, {}).items():
            if value is not None:
                tensors[f"moment/{moment}/{name}"] = value.detach().cpu().contiguous()
    with replace_file(folder / STATE_FILE) as temporary, temporary.open("wb") as file:
        file.write(save(tensors, {"progress": json.dumps(asdict(progress))}))
        file.flush()
        os.fsync(file.fileno())


def load_state(folder: Path, method: Method, optimiser: torch.optim.Optimizer) -> TrainingProgress:
    """Brings parameters and moments back and says where the training stands; ModelError where the file is damaged."""
    from safetensors import SafetensorError, safe_open

    path = folder / STATE_FILE
    try:
        with safe_open(path, "pt") as file:
            progress = TrainingProgress(**json.loads(file.metadata()["progress"]))
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118  (no mapping)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"{path}: the state of this training is damaged; the prompts of its finished epochs are not. "
            "Start it anew with --overwrite, or elsewhere with another --out"
        ) from error
    prefix = "parameter/"
    method.load_trained(
        {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    )
    for name, parameter in method.trained_parts().items():
        moments = {moment: tensors.get(f"moment/{moment}/{name}") for moment in MOMENTS}
        moved = {
            moment: value if moment == "step" else value.to(parameter.device)
            for moment, value in moments.items()
            if value is not None
        }
        if moved:  # none for a part that never had a gradient
            optimiser.state[parameter] = moved
    return progress
