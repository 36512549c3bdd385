"""What CLIP's parameters are called by OpenAI, open_clip and Hugging Face, and here."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal

import torch
from torch import Tensor

from blemish.errors import ModelError

__all__ = ["Naming", "find_naming", "to_our_names"]

Naming = Literal["blemish", "openai", "huggingface"]

LANDMARKS: dict[str, Naming] = {  # one parameter that only this naming has
    "image.class_embedding": "blemish",
    "image.members.0.class_embedding": "blemish",
    "visual.class_embedding": "openai",
    "vision_model.embeddings.class_embedding": "huggingface",
}
WRAPPERS = ("", "module.", "model.", "clip.")  # DataParallel and trainers put these in front of every name
NOT_WEIGHTS = ("input_resolution", "context_length", "vocab_size", "attn_mask", "position_ids")  # last part of a name

OPENAI = (
    ("transformer.resblocks.", "blocks."),
    ("attn.in_proj_", "attention.in_projection."),
    ("attn.out_proj", "attention.out_projection"),
    ("mlp.c_fc", "mlp.fc_in"),
    ("mlp.c_proj", "mlp.fc_out"),
    ("positional_embedding", "position_embedding"),
    ("text_projection", "projection"),
    ("conv1.", "stem."),
)
HUGGINGFACE = (
    ("encoder.layers.", "blocks."),
    ("layer_norm", "ln_"),
    ("self_attn.in_proj", "attention.in_projection"),
    ("self_attn.out_proj", "attention.out_projection"),
    ("mlp.fc1", "mlp.fc_in"),
    ("mlp.fc2", "mlp.fc_out"),
    ("embeddings.class_embedding", "class_embedding"),
    ("embeddings.patch_embedding", "stem"),
    ("embeddings.position_embedding.weight", "position_embedding"),
    ("embeddings.token_embedding", "token_embedding"),
    ("pre_layrnorm", "ln_pre"),
    ("post_layernorm", "ln_post"),
    ("final_ln_", "ln_final"),
)


def find_naming(names: Iterable[str]) -> tuple[Naming, str] | None:
    """Whose names these are, and what stands in front of each; None where they are not CLIP's vision transformer."""
    names = set(names)
    for landmark, naming in LANDMARKS.items():
        for wrapper in WRAPPERS:
            if wrapper + landmark in names:
                return naming, wrapper
    return None


def to_our_names(state: dict[str, Tensor]) -> tuple[Naming, dict[str, Tensor]]:
    """The naming that was found, and the state in the names (and layouts) of `blemish.backbones.model.Clip`.

    A name that does not belong stays in it as it was, for the caller to report; ModelError where nothing belongs.
    """
    found = find_naming(state)
    if found is None:
        raise ModelError(_not_clip(list(state)))
    naming, wrapper = found
    inner = {
        name.removeprefix(wrapper): tensor
        for name, tensor in state.items()
        if name.rpartition(".")[2] not in NOT_WEIGHTS
    }
    convert: dict[Naming, Callable[[dict[str, Tensor]], dict[str, Tensor]]] = {
        "blemish": dict,
        "openai": _from_openai,
        "huggingface": _from_huggingface,
    }
    ours = convert[naming](inner)
    if ours.get("logit_scale") is not None and ours["logit_scale"].numel() == 1:
        ours["logit_scale"] = ours["logit_scale"].reshape(())
    return naming, ours


def _from_openai(state: dict[str, Tensor]) -> dict[str, Tensor]:
    ours = {}
    for name, tensor in state.items():
        if name.startswith("visual."):
            renamed = "image." + _replaced(name.removeprefix("visual."), OPENAI)
            ours["image.projection" if renamed == "image.proj" else renamed] = tensor
        elif name.startswith(
            ("transformer.", "token_embedding.", "ln_final.", "positional_embedding", "text_projection")
        ):
            ours["text." + _replaced(name, OPENAI)] = tensor
        else:
            ours[name] = tensor
    return ours


def _from_huggingface(state: dict[str, Tensor]) -> dict[str, Tensor]:
    ours = {}
    for name, tensor in _fused(state).items():
        part, _, rest = name.partition(".")
        tower = {"vision_model": "image", "text_model": "text"}.get(part)
        if tower is not None:
            ours[f"{tower}.{_replaced(rest, HUGGINGFACE)}"] = tensor
        elif name in ("visual_projection.weight", "text_projection.weight"):
            ours[f"{'image' if name.startswith('visual') else 'text'}.projection"] = tensor.T
        else:
            ours[name] = tensor
    return ours


def _fused(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Query, key and value of each block as one projection, as `self_attn.in_proj`."""
    fused = dict(state)
    for name in state:
        parts = [name.replace(".q_proj.", f".{letter}_proj.") for letter in "qkv"]
        if ".q_proj." in name and all(part in state for part in parts):
            stacked = torch.cat([fused.pop(part) for part in parts])
            fused[name.replace(".q_proj.", ".in_proj.")] = stacked
    return fused


def _replaced(name: str, table: tuple[tuple[str, str], ...]) -> str:
    for theirs, ours in table:
        name = name.replace(theirs, ours)
    return name


def _not_clip(names: list[str]) -> str:
    expected = "expected CLIP weights (a vision transformer in the names of OpenAI, open_clip, Hugging Face or Blemish)"
    if any(name.startswith("visual.layer1.") for name in names):
        return f"{expected}, found a CLIP with a ResNet, which has no patch tokens"
    examples = ", ".join(repr(name) for name in sorted(names)[:2])
    return f"{expected}, found {len(names)} other tensors" + (f" such as {examples}" if examples else "")
