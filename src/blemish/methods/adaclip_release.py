"""Reads the checkpoints of AdaCLIP's authors: a flat dictionary of tensors, which says neither product nor clusters."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from blemish.errors import ModelError
from blemish.methods.base import Release

__all__ = ["read_release"]

PREFIX = "clip_model."
IMAGE_TOKENS, TEXT_TOKENS = "visual_prompter.static_prompts", "text_prompter.static_prompts"
TO_IMAGE_TOKENS, TO_TEXT_TOKENS = "dynamic_visual_prompt_generator.head", "dynamic_text_prompt_generator.head"
PATCH_LAYERS, IMAGE_LAYER = "patch_token_layer.head", "cls_token_layer.head"
NUMBERED = re.compile(
    rf"({'|'.join((IMAGE_TOKENS, TEXT_TOKENS, TO_IMAGE_TOKENS, TO_TEXT_TOKENS, PATCH_LAYERS, IMAGE_LAYER))})"
    r"\.(\d+)(?:\.(weight|bias))?"
)


def read_release(state: Mapping[str, Tensor]) -> Release | None:
    """Options and trained parts, float32; None where it is no checkpoint of AdaCLIP, ModelError where it lacks a part."""
    plain = {name.removeprefix(PREFIX): tensor.float() for name, tensor in state.items()}
    if not plain or not all(NUMBERED.fullmatch(name) for name in plain):
        return None
    parts: dict[str, Tensor] = {}
    for index in range(_count(plain, PATCH_LAYERS)):
        for part in ("weight", "bias"):
            parts[f"patch_layers.{index}.{part}"] = _needed(plain, f"{PATCH_LAYERS}.{index}.{part}")
    for part in ("weight", "bias"):
        parts[f"image_layer.{part}"] = _needed(plain, f"{IMAGE_LAYER}.0.{part}")
    for ours, theirs, first in (("image_tokens", IMAGE_TOKENS, 0), ("text_tokens", TEXT_TOKENS, 1)):
        if count := _count(plain, theirs):
            parts[ours] = _stacked([_needed(plain, f"{theirs}.{index}") for index in range(count)][first:], theirs)
    for ours, theirs in (("to_image_tokens", TO_IMAGE_TOKENS), ("to_text_tokens", TO_TEXT_TOKENS)):
        count = _count(plain, theirs)
        for part in ("weight", "bias") if count else ():
            layers = [_needed(plain, f"{theirs}.{index}.{part}") for index in range(count)]
            parts[f"{ours}.{part}"] = _stacked(layers, theirs).flatten(0, 1)
    options = _options(plain, parts)
    return Release(f"AdaCLIP tokens and projections ({options['kinds']} tokens)", options, parts)


def _options(plain: Mapping[str, Tensor], parts: Mapping[str, Tensor]) -> dict[str, Any]:
    static = {name: name in parts for name in ("image_tokens", "text_tokens")}
    dynamic = {name: f"{name}.weight" in parts for name in ("to_image_tokens", "to_text_tokens")}
    in_image, in_text = (
        (static["image_tokens"] or dynamic["to_image_tokens"]),
        (static["text_tokens"] or dynamic["to_text_tokens"]),
    )
    if not (in_image or in_text) or "patch_layers.0.weight" not in parts:
        raise ModelError("the checkpoint of AdaCLIP lacks its tokens or its projections")
    counts = [_count(plain, TO_IMAGE_TOKENS), _count(plain, TO_TEXT_TOKENS)]
    tokens = max(counts) or next(
        len(plain[f"{name}.0"]) for name in (IMAGE_TOKENS, TEXT_TOKENS) if f"{name}.0" in plain
    )
    blocks = max(_count(plain, IMAGE_TOKENS), _count(plain, TEXT_TOKENS))
    options: dict[str, Any] = {
        "tokens": tokens,
        "kinds": "both"
        if any(static.values()) and any(dynamic.values())
        else "static"
        if any(static.values())
        else "dynamic",
        "branches": "both" if in_image and in_text else "image" if in_image else "text",
        "round_tokens": True,
    }
    return options | ({"blocks": blocks} if blocks else {})


def _count(plain: Mapping[str, Tensor], prefix: str) -> int:
    found = {match[2] for name in plain if (match := NUMBERED.fullmatch(name)) and match[1] == prefix}
    return len(found)


def _needed(plain: Mapping[str, Tensor], name: str) -> Tensor:
    if name not in plain:
        raise ModelError(f"the checkpoint of AdaCLIP lacks {PREFIX}{name}")
    return plain[name]


def _stacked(tensors: list[Tensor], name: str) -> Tensor:
    if any(tensor.shape != tensors[0].shape for tensor in tensors):
        raise ModelError(f"expected {PREFIX}{name}.* of one shape, found several")
    return torch.stack(tensors)
