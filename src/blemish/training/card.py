"""What a training tells about itself: the part that must be equal to go on with it, and the card of its prompts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import torch

from blemish.data.samples import DataSet
from blemish.io.codec import to_dict
from blemish.io.provenance import commit, utc_now, versions
from blemish.methods.base import Method
from blemish.training.examples import Examples
from blemish.training.recipe import Recipe

__all__ = ["describe_data", "differences", "identity", "in_short", "provenance"]

MAY_GROW = "recipe.epochs"  # nothing in an epoch depends on how many follow


def identity(method: Method, recipe: Recipe, device: torch.device) -> dict[str, Any]:
    """What decides the result besides the data, as plain data."""
    clip = method.backbone
    return {
        "method": method.name,
        "options": to_dict(method.config),
        "recipe": to_dict(recipe),
        "backbone": clip.fingerprint(),
        "preprocess": to_dict(clip.config.preprocess),
        "device": device.type,
    }


def describe_data(data: DataSet, examples: Examples) -> dict[str, Any]:
    """A data set as a card names it; its digest changes with any image or mask."""
    splits = sorted({sample.split for sample in examples.samples})
    return {
        "name": data.name,
        "variant": data.variant,
        "licence": data.licence,
        "split": "+".join(splits),
        **examples.counts(),
        "unreadable": [str(error) for error in examples.unreadable],
        "digest": examples.identity(),
    }


def in_short(described: Mapping[str, Any]) -> dict[str, Any]:
    """As much of a described data set as tells it from others."""
    return {key: described[key] for key in ("name", "variant", "images", "digest")}


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What stands in the way of going on with an earlier training, a sentence each."""
    old, new = dict(_flat(before)), dict(_flat(now))
    said = []
    for key in dict.fromkeys([*old, *new]):
        was, wanted = old.get(key), new.get(key)
        if was == wanted or (key == MAY_GROW and was is not None and wanted is not None and was < wanted):
            continue
        said.append(f"{key} was {_shown(was)}, not {_shown(wanted)}")
    return said


def provenance(recipe: Recipe, device: torch.device, *, command: str) -> dict[str, Any]:
    """How a training is done, with what, and by which source, as a card says it."""
    return {
        "recipe": asdict(recipe),
        "device": str(device),
        "command": command,
        "commit": commit(),
        "versions": versions(),
        "written": utc_now(),
    }


def _flat(data: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in data.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _shown(value: Any) -> str:
    return "not set" if value is None else str(value)
