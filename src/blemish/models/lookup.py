"""Finds models by name or path: the one in the package, then the store, then the file system."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blemish.backbones.catalog import EMBEDDED, catalog
from blemish.errors import ModelError, UnknownNameError, UsageError
from blemish.io.codec import to_dict
from blemish.io.json_files import read_json_if_there
from blemish.models.paths import (
    SOURCE_FILE,
    WEIGHTS,
    Kind,
    files_of,
    folder_of,
    installed,
    is_installed,
    is_name,
    package_models,
    size_of,
)

if TYPE_CHECKING:
    from blemish.backbones.model import Clip

__all__ = ["Model", "card", "find", "info", "list_models", "load_backbone", "stored_models"]

SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")


@dataclass(frozen=True)
class Model:
    """One line of `blemish models list`; `place` is None where the model is known but not on this machine."""

    name: str
    kind: Kind
    place: Path | None
    bytes: int
    origin: str
    licence: str

    @property
    def state(self) -> str:
        if self.name == EMBEDDED:
            return "missing" if self.place is None else "in the package"
        if self.place is not None and package_models() in self.place.parents:
            return "in the package"
        return "not pulled" if self.place is None else "installed"

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that Blemish wrote for it."""
        return () if self.place is None else files_of(self.place)


def load_backbone(name_or_path: str | Path) -> Clip:
    """The backbone of this name, or in this file or folder, frozen and in eval mode; see `find` for what can go wrong.

    Float32 safetensors are mapped, not read: their numbers come from the file when they are first used.
    """
    from blemish.backbones import weights

    return weights.load_backbone(find(name_or_path)).requires_grad_(False)


def card(name_or_path: str | Path) -> dict[str, Any]:
    """The model card (thresholds per method, what it was trained on); empty where the model has none."""
    place = find(name_or_path)
    return _card_of(place if place.is_dir() else place.parent)


def find(name_or_path: str | Path) -> Path:
    """The folder or file of a backbone: first the one in the package, then the store, then the file system.

    A known backbone that is not on this machine is a ModelError that says how to get it; a name that nothing has is an
    UnknownNameError.
    """
    name = str(name_or_path)
    if name == EMBEDDED:
        place = package_models() / EMBEDDED
        if not (place / WEIGHTS["backbone"]).is_file():
            raise ModelError(f"{place}: this installation lacks the embedded model; install blemish again")
        return place
    if is_name(name) and is_installed(folder_of(name, "backbone"), "backbone"):
        return folder_of(name, "backbone")
    path = Path(name_or_path).expanduser()
    if os.path.exists(path):  # noqa: PTH110  (Path.exists raises for names that no file can have)
        return path
    if name in catalog():
        raise ModelError(
            f"{name} is not on this machine: blemish models pull {name}, or blemish models import PATH --name {name}"
        )
    if is_name(name) and name in installed("prompts"):
        raise UsageError(f"{name!r} is a set of prompts, not a backbone")
    if not is_name(name) or path.suffix in SUFFIXES:
        raise ModelError(f"{path}: no such file or folder")
    raise UnknownNameError("backbone", name, (EMBEDDED, *catalog(), *installed("backbone")))


def list_models() -> list[Model]:
    """The embedded model, the known ones, and whatever else is in the store, in this order."""
    embedded = package_models() / EMBEDDED
    config = read_json_if_there(embedded / "config.json")
    present = (embedded / WEIGHTS["backbone"]).is_file()
    models = [
        Model(
            EMBEDDED,
            "backbone",
            embedded if present else None,
            size_of(embedded) if present else 0,
            str(config.get("source", "")),
            str(config.get("licence", "MIT")),
        )
    ]
    models += _shipped_for(EMBEDDED)
    there = installed("backbone")
    for name, entry in catalog().items():
        if name in there:
            models.append(_of_folder(name, "backbone", there.pop(name)))
        else:
            models.append(Model(name, "backbone", None, 0, entry.config.source, entry.config.licence))
        models += _shipped_for(name)
    models += [_of_folder(name, "backbone", folder) for name, folder in there.items()]
    return models + [_of_folder(name, "prompts", folder) for name, folder in installed("prompts").items()]


def stored_models() -> list[Model]:
    """The models and prompts in the store."""
    return [model for model in list_models() if model.state == "installed"]


def info(name_or_path: str | Path) -> dict[str, Any]:
    """What is known about a model as plain data: place, size, shape, source and checksum, licence, card."""
    name = str(name_or_path)
    listed = next((model for model in list_models() if model.name == name), None)
    if listed is not None and listed.place is None:
        if name == EMBEDDED:
            find(name)  # says what is wrong
        entry = catalog()[name]
        return {"name": name, "kind": "backbone", "state": listed.state} | to_dict(entry.config)
    if listed is not None and listed.place is not None:
        record = read_json_if_there(listed.place / SOURCE_FILE)
        details = (
            _prompt_shapes(listed.place)
            if listed.kind == "prompts"
            else read_json_if_there(listed.place / "config.json")
        )
        found = {"name": name, "kind": listed.kind, "state": listed.state, "place": str(listed.place)}
        kept = {"imported_from": record} if record else {}
        return {**found, "bytes": listed.bytes, **_without_name(details), **kept, "card": _card_of(listed.place)}
    from blemish.backbones.weights import read_weights

    weights = read_weights(find(name_or_path))
    return {
        "name": weights.config.name,
        "kind": "backbone",
        "state": "a file",
        "place": str(weights.path),
        "bytes": size_of(weights.path),
        "format": weights.kind,
        "assumed": list(weights.assumptions),
        **_without_name(to_dict(weights.config)),
    }


def _card_of(folder: Path) -> dict[str, Any]:
    return read_json_if_there(folder / "card.json")


def _of_folder(name: str, kind: Kind, folder: Path) -> Model:
    record, config = read_json_if_there(folder / SOURCE_FILE), read_json_if_there(folder / "config.json")
    origin = str(config.get("source") or record.get("file", ""))
    size = sum(size_of(file) for file in files_of(folder))
    return Model(name, kind, folder, size, origin, str(config.get("licence", "")))


def _shipped_for(backbone: str) -> list[Model]:
    """The prompts that ship for a backbone."""
    return [_shipped(file.parent) for file in sorted((package_models() / backbone).glob(f"*/{WEIGHTS['prompts']}"))]


def _shipped(folder: Path) -> Model:
    """Prompts that ship, in a folder of their backbone's name."""
    card = _card_of(folder)
    origin = str(card.get("command") or card.get("trained_by", ""))
    licence = str(card.get("licence", "MIT")).partition(",")[0]
    return Model(
        f"{folder.parent.name}/{folder.name}", "prompts", folder, size_of(folder), f"trained by {origin}", licence
    )


def _prompt_shapes(folder: Path) -> dict[str, Any]:
    """Names and shapes from a safetensors header."""
    with (folder / WEIGHTS["prompts"]).open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return {"tensors": {name: entry["shape"] for name, entry in header.items() if name != "__metadata__"}}


def _without_name(data: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in data.items() if key != "name"}
