"""Reads the prompts that the authors of FAPrompt and AnomalyCLIP publish, as tensors under their names.

Three kinds of file are in circulation: FAPrompt's (five shared tokens, ten prompts of two own tokens), its first upload's (one
own token each, trained without the CLS loss) and AnomalyCLIP's (one prompt a state, no prior), which many later methods use.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from blemish.errors import ModelError

__all__ = ["generation", "is_official", "trained_parts_of"]

OFFICIAL_PATCHES = 10  # M is a number in the authors' code; the file only tells M times D
DEEP = "compound_prompts_text."
PSI = {"hidden": "patch_meta_net.linear1", "out": "patch_meta_net.linear2"}
NEEDED = ("ctx_pos", "ctx_neg")
ANOMALYCLIP = {"prior": False, "share_normal_tokens": False, "image_score": "cls", "smoothing": 4 / 14}


def is_official(tensors: Mapping[str, Tensor]) -> bool:
    """Whether these are prompts as the authors' code saves them, with or without the prefix `prompt_learner.`"""
    return all(name in _plain(tensors) for name in NEEDED)


def trained_parts_of(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Options of `FAPromptConfig` and the trained parts under our names, float32, from an official state dict.

    Frozen buffers and the projections that the authors' code never uses are left behind. ModelError says what does not fit.
    """
    state = _plain(tensors)
    missing = [name for name in NEEDED if name not in state]
    if missing:
        raise ModelError(
            f"expected FAPrompt or AnomalyCLIP prompts with {' and '.join(NEEDED)}, found none of {missing}"
        )
    normal, abnormal = state["ctx_pos"].float(), state["ctx_neg"].float()  # [1, 1, E, W], [1, K, E', W]
    if normal.ndim != 4 or abnormal.ndim != 4 or normal.shape[:2] != (1, 1) or abnormal.shape[0] != 1:
        shapes = f"{list(normal.shape)} and {list(abnormal.shape)}"
        raise ModelError(
            f"expected ctx_pos [1, 1, tokens, width] and ctx_neg [1, prompts, tokens, width], found {shapes}"
        )
    deep = [state[f"{DEEP}{index}"].float() for index in range(sum(name.startswith(DEEP) for name in state))]
    parts = {"normal_tokens": normal[0, 0], "abnormal_tokens": abnormal[0]}
    options: dict[str, Any] = {
        "abnormality_prompts": abnormal.shape[1],
        "normal_tokens": normal.shape[2],
        "abnormal_tokens": abnormal.shape[2],
        "deep_tokens": len(deep[0]) if deep else 0,
        "round_deep_tokens": True,
        "selection": "released",
    }
    if deep:
        parts["deep_tokens"] = torch.stack(deep)
        options["deep_blocks"] = (2, 1 + len(deep))
    if f"{PSI['hidden']}.weight" not in state:
        return options | ANOMALYCLIP, parts
    hidden, inputs = state[f"{PSI['hidden']}.weight"].shape
    if inputs % OFFICIAL_PATCHES:
        raise ModelError(f"expected a prior of {OFFICIAL_PATCHES} patches, found {inputs} inputs")
    options |= {
        "patches": OFFICIAL_PATCHES,
        "hidden_share": hidden / inputs,
        "image_cross_entropy": options["abnormal_tokens"] > 1,  # both changed on the same day
    }
    for ours, theirs in PSI.items():
        for part in ("weight", "bias"):
            parts[f"psi.{ours}.{part}"] = state[f"{theirs}.{part}"].float()
    return options, parts


def generation(options: Mapping[str, Any]) -> str:
    """Which of the three kinds of file these options came from, in words."""
    if not options.get("prior", True):
        return "AnomalyCLIP prompts"
    if options["abnormal_tokens"] == 1:
        return "FAPrompt prompts of the first upload (one abnormal token)"
    return f"FAPrompt prompts ({options['abnormal_tokens']} abnormal tokens)"


def _plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix("prompt_learner."): tensor for name, tensor in tensors.items()}
