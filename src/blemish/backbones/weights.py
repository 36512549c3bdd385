"""Backbones from files and into files: every known format becomes a `Clip` in our names, computed in float32.

What a file does not say itself is looked up in the configuration beside it; what that does not say follows OpenAI's
rules (heads = width / 64, QuickGELU), and the assumption is reported.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from blemish.backbones.checkpoints import Checkpoint, read_checkpoint
from blemish.backbones.config import BackboneConfig
from blemish.backbones.hints import OWN_CONFIG, Hints, read_hints
from blemish.backbones.model import Clip
from blemish.backbones.state_names import Naming, to_our_names
from blemish.errors import ModelError, UsageError
from blemish.io.atomic import replace_file, write_text
from blemish.io.codec import to_dict

__all__ = [
    "MODEL_FILE",
    "Weights",
    "build_clip",
    "check_fit",
    "find_model_file",
    "load_backbone",
    "read_state",
    "read_weights",
    "save_backbone",
    "weights_of",
    "write_weights",
]

MODEL_FILE = "model.safetensors"
USUAL_FILES = (MODEL_FILE, "open_clip_model.safetensors", "open_clip_pytorch_model.bin", "pytorch_model.bin")
SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")
HEAD_WIDTH = 64  # OpenAI's rule


@dataclass(frozen=True)
class Weights:
    """What a file holds: the shape of the backbone and its parameters, in our names and as stored."""

    path: Path
    config: BackboneConfig
    state: dict[str, Tensor]
    kind: str  # "OpenAI TorchScript", "Hugging Face safetensors" …
    assumptions: tuple[str, ...]  # what neither the file nor its configuration says


def load_backbone(path: str | Path, *, config: BackboneConfig | None = None) -> Clip:
    """The backbone in a file, or in a folder with one, in eval mode and float32.

    Its shape is `config`, else the config.json beside it, else what the weights show. Safetensors in float32 are mapped
    and read when used. A file that is not a backbone, or does not fit its shape, raises ModelError.
    """
    return build_clip(read_weights(path, config=config))


def read_state(path: str | Path) -> dict[str, Tensor]:
    """The parameters in a model file of any known format, in our names, as stored; their shapes are not checked."""
    return _in_our_names(read_checkpoint(find_model_file(Path(path))))[1]


def read_weights(path: str | Path, *, config: BackboneConfig | None = None) -> Weights:
    """What is in a model file (or in the folder that holds it), in our names and with its shape."""
    return weights_of(read_checkpoint(find_model_file(Path(path))), config=config)


def weights_of(checkpoint: Checkpoint, *, config: BackboneConfig | None = None) -> Weights:
    """As `read_weights`, of a file that has been read; its path says where configurations are looked for."""
    path = checkpoint.path
    naming, state = _in_our_names(checkpoint)
    assumptions: tuple[str, ...] = ()
    if config is None and (path.parent / OWN_CONFIG).is_file():
        config = _own_config(path.parent / OWN_CONFIG)
    if config is None:
        config, assumptions = _infer(path, state, read_hints(path, naming), check_ours=naming == "blemish")
        if checkpoint.container == "torchscript":  # OpenAI's own files, whose rules these are
            assumptions = ()
    kind = f"{_origin(checkpoint, naming)} {checkpoint.container}"
    return Weights(path, config, state, kind, assumptions)


def build_clip(weights: Weights) -> Clip:
    """The model with these weights, in eval mode and float32; ModelError where they do not fit its shape."""
    clip = _without_memory(weights.config)
    _check_shapes(weights, clip)
    state = {name: tensor.float().contiguous() for name, tensor in weights.state.items()}
    clip.load_state_dict(state, assign=True)  # keeps each parameter's requires_grad
    return clip.eval()


def check_fit(weights: Weights) -> None:
    """Raises ModelError where the weights do not fit their shape, as `build_clip` does, but without the model."""
    _check_shapes(weights, _without_memory(weights.config))


def _without_memory(config: BackboneConfig) -> Clip:
    """The model with shapes only, whose parameters are to be replaced."""
    with torch.device("meta"):
        return Clip(config)


def _check_shapes(weights: Weights, clip: Clip) -> None:
    path, state, expected = weights.path, weights.state, clip.state_dict()
    missing = [name for name in expected if name not in state]
    if missing:
        raise ModelError(f"{path}: expected {len(expected)} parameters, found none named {_listed(missing)}")
    for name, parameter in expected.items():
        if state[name].shape != parameter.shape:
            raise ModelError(f"{path}: {name}: expected shape {list(parameter.shape)}, found {list(state[name].shape)}")
        if not state[name].is_floating_point():
            raise ModelError(f"{path}: {name}: expected floating-point numbers, found {state[name].dtype}")
    unexpected = sorted(set(state) - set(expected))
    if unexpected:
        raise ModelError(f"{path}: expected CLIP's {len(expected)} parameters, found also {_listed(unexpected)}")


def save_backbone(clip: Clip, folder: str | Path, *, dtype: torch.dtype | None = None) -> None:
    """Writes model.safetensors and config.json into `folder`, each whole or not at all; `dtype` None keeps each type."""
    state = {name: tensor.detach().to(dtype=dtype) for name, tensor in clip.state_dict().items()}
    write_weights(state, clip.config, Path(folder))


def write_weights(state: Mapping[str, Tensor], config: BackboneConfig, folder: Path) -> None:
    """Writes parameters in our names and their shape as model.safetensors and config.json."""
    tensors: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in state.items():
        tensors[name] = tensor.to("cpu").contiguous()
        if tensors[name].data_ptr() in seen:  # safetensors does not store one memory under two names
            tensors[name] = tensors[name].clone()
        seen.add(tensors[name].data_ptr())
    with replace_file(folder / MODEL_FILE) as temporary:
        save_file(tensors, temporary)
    write_text(folder / OWN_CONFIG, json.dumps(to_dict(config), indent=2) + "\n")


def find_model_file(path: Path) -> Path:
    """The model file that a path means: itself, or in a folder the usual one, or the only one there."""
    if not path.is_dir():
        return path
    for name in USUAL_FILES:
        if (path / name).is_file():
            return path / name
    candidates = sorted(file for file in path.iterdir() if file.suffix in SUFFIXES and file.is_file())
    if len(candidates) != 1:
        found = _listed([file.name for file in candidates]) if candidates else "none"
        raise ModelError(f"{path}: expected one model file ({', '.join(SUFFIXES)}) in the folder, found {found}")
    return candidates[0]


def _in_our_names(checkpoint: Checkpoint) -> tuple[Naming, dict[str, Tensor]]:
    try:
        return to_our_names(checkpoint.tensors)
    except ModelError as error:
        raise ModelError(f"{checkpoint.path}: {error}") from error


def _origin(checkpoint: Checkpoint, naming: Naming) -> str:
    if naming == "openai":
        return "OpenAI" if checkpoint.container == "torchscript" else "open_clip"
    return {"blemish": "Blemish", "huggingface": "Hugging Face"}[naming]


def _own_config(path: Path) -> BackboneConfig | None:
    """The configuration where it is one of ours; other projects write other things into files of this name."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: expected a configuration in JSON, found something else ({error})") from error
    if not isinstance(data, dict) or "joint_width" not in data:
        return None
    try:
        return BackboneConfig.from_dict(data)
    except UsageError as error:
        raise ModelError(f"{path}: {error}") from error


def _infer(
    path: Path, state: Mapping[str, Tensor], hints: Hints, *, check_ours: bool
) -> tuple[BackboneConfig, tuple[str, ...]]:
    """The shape that the weights show, and what had to be assumed."""
    if check_ours and "image.stem.weight" not in state:
        raise ModelError(f"{path}: expected {OWN_CONFIG} beside it, which says what its stem is; found none")
    see = _Shapes(path, state)
    positions, width = see("image.position_embedding", 2)
    grid = math.isqrt(max(positions - 1, 0))
    if grid < 1 or grid * grid != positions - 1:
        raise ModelError(f"{path}: expected positions of a square grid and CLS, found {positions} positions")
    patch_size = see("image.stem.weight", 4)[3]
    context_length, text_width = see("text.position_embedding", 2)
    activation = hints.activation or "quick_gelu"
    towers: dict[str, dict[str, Any]] = {
        "vision": {
            "image_size": grid * patch_size,
            "width": width,
            "depth": see.depth("image"),
            "heads": hints.vision_heads or max(1, width // HEAD_WIDTH),
            "patch_size": patch_size,
            "position_grid": grid,
            "mlp_ratio": see("image.blocks.0.mlp.fc_in.weight", 2)[0] / width,
            "activation": activation,
        },
        "text": {
            "width": text_width,
            "depth": see.depth("text"),
            "heads": hints.text_heads or max(1, text_width // HEAD_WIDTH),
            "context_length": context_length,
            "vocabulary_size": see("text.token_embedding.weight", 2)[0],
            "mlp_ratio": see("text.blocks.0.mlp.fc_in.weight", 2)[0] / text_width,
            "activation": activation,
        },
    }
    preprocess: dict[str, Any] = {"size": grid * patch_size}
    preprocess |= {} if hints.mean is None else {"mean": hints.mean}
    preprocess |= {} if hints.std is None else {"std": hints.std}
    data = {"name": _name_of(path), "joint_width": see("image.projection", 2)[1], "preprocess": preprocess, **towers}
    try:
        config = BackboneConfig.from_dict(data)
    except UsageError as error:
        raise ModelError(f"{path}: {error}") from error
    assumptions: tuple[str, ...] = () if hints.vision_heads and hints.text_heads else ("heads = width / 64",)
    if hints.activation is None:
        assumptions += ("QuickGELU",)
    return config, assumptions


class _Shapes:
    """Shapes by name, with an error that says what is missing."""

    def __init__(self, path: Path, state: Mapping[str, Tensor]) -> None:
        self.path = path
        self.state = state

    def __call__(self, name: str, dimensions: int) -> tuple[int, ...]:
        if name not in self.state:
            raise ModelError(f"{self.path}: expected CLIP's parameter {name!r}, found none of that name")
        shape = tuple(self.state[name].shape)
        if len(shape) != dimensions or not all(shape):
            raise ModelError(f"{self.path}: {name}: expected {dimensions} dimensions, found shape {list(shape)}")
        return shape

    def depth(self, tower: str) -> int:
        start = f"{tower}.blocks."
        numbers = {name.removeprefix(start).partition(".")[0] for name in self.state if name.startswith(start)}
        return len(numbers)


def _name_of(path: Path) -> str:
    return path.parent.name if path.name in USUAL_FILES and path.parent.name else path.stem


def _listed(names: list[str]) -> str:
    return f"{names[0]!r}" + (f" and {len(names) - 1} more" if len(names) > 1 else "")
