"""Trained prompts on disk: `prompts.safetensors` and a `card.json` that says whose they are and how they came about."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blemish._version import __version__
from blemish.errors import ModelError, UnknownNameError
from blemish.io.atomic import replace_file, write_text
from blemish.io.codec import to_dict
from blemish.io.json_files import read_json_if_there
from blemish.models.paths import WEIGHTS, folder_of, installed, is_installed, is_name, package_models
from blemish.models.transfer import sha256_of

if TYPE_CHECKING:
    from torch import Tensor

    from blemish.methods.base import Method

__all__ = [
    "CARD",
    "CARD_SCHEMA",
    "Prompts",
    "find_prompts",
    "read_prompts",
    "save_prompts",
    "shipped_prompts",
    "write_prompts",
]

CARD = "card.json"
CARD_SCHEMA = 1


@dataclass(frozen=True)
class Prompts:
    """Trained parts of a method. `options` are the method's as they were trained; `backbone` and `fingerprint` tell on what
    ("" where the file did not say); `card` is all that is known."""

    method: str
    options: dict[str, Any]
    backbone: str
    fingerprint: str
    state: dict[str, Tensor]
    card: dict[str, Any]
    place: Path


def write_prompts(folder: Path, method: Method, card: Mapping[str, Any]) -> None:
    """Puts the method's trained parts into a folder. `card` is what the writer adds to what the method itself tells:
    the data, recipe and metrics of a training, thresholds."""
    clip = method.backbone
    save_prompts(
        folder,
        method.trained_parts(),
        method=method.name,
        options=to_dict(method.config),
        card={"backbone": {"name": clip.config.name, "fingerprint": clip.fingerprint()}, **card},
    )


def save_prompts(
    folder: Path, parts: Mapping[str, Tensor], *, method: str, options: Mapping[str, Any], card: Mapping[str, Any]
) -> None:
    """Puts trained parts into a folder with a card that says of which method, with which options, and all of `card`."""
    from safetensors.torch import save_file

    state = {name: value.detach().cpu().contiguous().clone() for name, value in parts.items()}
    full = {"schema": CARD_SCHEMA, "method": method, "options": dict(options), "blemish": __version__, **card}
    with replace_file(folder / WEIGHTS["prompts"]) as temporary:
        save_file(state, temporary)
    write_text(folder / CARD, json.dumps(full, indent=2, ensure_ascii=False) + "\n")


def read_prompts(place: Path) -> Prompts:
    """The prompts in a folder, or beside a `prompts.safetensors`; ModelError says what is missing or damaged."""
    from blemish.backbones.checkpoints import read_checkpoint

    folder = place if place.is_dir() else place.parent
    card = read_json_if_there(folder / CARD)
    if not card or not isinstance(card.get("method"), str):
        raise ModelError(f"{folder / CARD}: expected the card of trained prompts, found none")
    if card.get("schema") != CARD_SCHEMA:
        raise ModelError(
            f"{folder / CARD}: written by another version (schema {card.get('schema')}, not {CARD_SCHEMA})"
        )
    if card.get("sha256") not in (None, sha256_of(folder / WEIGHTS["prompts"])):
        raise ModelError(
            f"{folder / WEIGHTS['prompts']}: not the file that its {CARD} describes (sha256 {card['sha256']})"
        )
    backbone = card.get("backbone") or {}
    return Prompts(
        method=card["method"],
        options=dict(card.get("options") or {}),
        backbone=str(backbone.get("name", "")),
        fingerprint=str(backbone.get("fingerprint", "")),
        state=read_checkpoint(folder / WEIGHTS["prompts"]).tensors,
        card=card,
        place=folder,
    )


def find_prompts(name_or_path: str | Path) -> Path:
    """The folder of prompts: a name in the store, or a path to the folder or its weights file."""
    name = str(name_or_path)
    if is_name(name) and is_installed(folder_of(name, "prompts"), "prompts"):
        return folder_of(name, "prompts")
    backbone, _, method = name.partition("/")  # as `blemish models list` names those that ship
    if is_name(method) and (shipped := shipped_prompts(backbone, method)) is not None:
        return shipped
    path = Path(name_or_path).expanduser()
    if path.is_dir() and (path / WEIGHTS["prompts"]).is_file():
        return path
    if path.is_file() and path.name == WEIGHTS["prompts"]:
        return path.parent
    if path.exists():
        raise ModelError(
            f"{path}: expected a folder with {WEIGHTS['prompts']} and {CARD}; official files: blemish models import"
        )
    if not is_name(name):
        raise ModelError(f"{path}: no such file or folder")
    raise UnknownNameError("prompts", name, tuple(installed("prompts")))


def shipped_prompts(backbone: str, method: str) -> Path | None:
    """The folder of prompts that ship inside the package for this backbone and method; None where there are none."""
    folder = package_models() / backbone / method
    return folder if is_name(backbone) and (folder / WEIGHTS["prompts"]).is_file() else None
