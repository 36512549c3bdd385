"""Puts models into the store: from a file of any known format, or from a hub."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from blemish._version import __version__
from blemish.backbones.catalog import EMBEDDED, CatalogEntry, catalog, entry_of_file
from blemish.errors import MissingExtraError, ModelError, OutputError, UnknownNameError, UsageError
from blemish.io.atomic import write_text
from blemish.io.json_files import read_json_if_there
from blemish.methods import METHODS, method_class
from blemish.models.archives import download_archive
from blemish.models.hub import NoAnswerError, download
from blemish.models.lookup import find
from blemish.models.paths import (
    PULLS,
    SOURCE_FILE,
    WEIGHTS,
    Kind,
    check_name,
    folder_of,
    home,
    is_installed,
    new_folder,
    remove,
)
from blemish.models.prompts import CARD, read_prompts, save_prompts
from blemish.models.transfer import Download, sha256_of

if TYPE_CHECKING:
    from blemish.backbones.checkpoints import Checkpoint
    from blemish.backbones.config import BackboneConfig
    from blemish.backbones.weights import Weights
    from blemish.methods.base import Release

__all__ = ["Imported", "PullSource", "import_model", "pull"]

PullSource = Literal["hub", "archive"]

PROMPTS_PREFIX = "prompt_learner."  # what published methods call the module of their trained prompts
SHOWN = ("joint_width", "vision", "text")  # what two configurations of the same shape agree in


@dataclass(frozen=True)
class Imported:
    """A model that is now in the store under `name`; `notes` are lines worth telling the user."""

    name: str
    kind: Kind
    place: Path
    notes: tuple[str, ...] = ()


def import_model(
    path: str | Path, *, name: str | None = None, kind: Kind | None = None, overwrite: bool = False
) -> Imported:
    """The model in a file or folder, converted into the store; nothing in the file is executed.

    `kind` decides what it is where the file leaves it open. Without a `name` it is that of the catalog for a known
    backbone, else the file's (or its folder's). A name that is taken by something else needs `overwrite`.
    """
    from blemish.backbones.checkpoints import read_checkpoint
    from blemish.backbones.weights import find_model_file

    if name is not None:
        check_name(name)
    path = Path(path).expanduser()
    checkpoint = read_checkpoint(find_model_file(path))
    kind = kind or _recognise(checkpoint)
    record = {"file": checkpoint.path.name, "sha256": sha256_of(checkpoint.path)}
    if kind == "prompts":
        return _import_prompts(checkpoint, record, name=name, overwrite=overwrite)
    return _import_backbone(checkpoint, record, name=name, overwrite=overwrite)


def pull(
    name: str,
    *,
    source: PullSource | None = None,
    endpoint: str | None = None,
    overwrite: bool = False,
    progress: bool = False,
) -> Imported:
    """A known backbone, fetched, checked against its sha256 and put into the store.

    What is already there is not fetched again, unless with `overwrite`. A transfer that breaks off goes on where it was when it
    is called again.

    Args:
        name: A name of the catalog.
        source: The "hub", or the "archive" that the authors publish. None tries the hub, and where that cannot be reached, lacks
            the file, or its library is not installed, the archive, where there is one.
        endpoint: Another server of that source (the hub where none is named) than the usual one; then no other is asked.
        overwrite: Whether a model of that name is replaced.
        progress: Whether a bar is drawn.
    """
    if name == EMBEDDED:
        return Imported(name, "backbone", find(name), ("it is part of the package; there is nothing to pull",))
    if name not in catalog():
        raise UnknownNameError("backbone to pull", name, catalog())
    entry, place = catalog()[name], folder_of(name, "backbone")
    if is_installed(place, "backbone") and not overwrite:
        return Imported(name, "backbone", place, ("it was there already",))
    fetched, notes = _fetched(entry, source=source, endpoint=endpoint, progress=progress)
    stated = (
        "as the catalog says" if fetched.from_catalog else "as the hub states; the catalog holds none for this file"
    )
    record = {"file": fetched.path.name, "sha256": fetched.sha256}
    if fetched.address:
        record |= {"address": fetched.address}
    else:
        record |= {"repository": entry.hub_repository, "revision": fetched.revision}
    notes += (f"{fetched.path.name}: sha256 {fetched.sha256}, {stated}",)
    if fetched.resumed_bytes:
        notes += (f"went on from {fetched.resumed_bytes / 1e6:.1f} MB of an earlier try",)
    try:
        imported = _import_download(fetched.path, record, name)
    finally:
        with suppress(OutputError):  # where it is still mapped (Windows), `blemish cache` shows and clears it
            remove((fetched.path, fetched.path.with_name(".lock")))
    return replace(imported, notes=notes)


def _fetched(
    entry: CatalogEntry, *, source: PullSource | None, endpoint: str | None, progress: bool
) -> tuple[Download, tuple[str, ...]]:
    """The file from its source, and a line on why it is the second one."""
    folder = home() / PULLS / entry.name
    if source == "archive":
        return download_archive(entry, folder, endpoint=endpoint, progress=progress), ()
    try:
        return download(entry, folder, endpoint=endpoint, progress=progress), ()
    except (NoAnswerError, MissingExtraError) as error:
        if source == "hub" or endpoint is not None or not entry.archive:
            raise
        try:
            return download_archive(entry, folder, progress=progress), (f"{error}; took the authors' archive instead",)
        except ModelError as second:
            raise ModelError(f"{error}; from its authors' archive: {second}") from second


def _import_download(path: Path, record: dict[str, Any], name: str) -> Imported:
    from blemish.backbones.checkpoints import read_checkpoint

    return _import_backbone(read_checkpoint(path), record, name=name, overwrite=True)


def _recognise(checkpoint: Checkpoint) -> Kind:
    from blemish.backbones.state_names import find_naming

    backbone = find_naming(checkpoint.tensors) is not None
    prompts = (
        checkpoint.path.name == WEIGHTS["prompts"]
        or any(name.startswith(PROMPTS_PREFIX) for name in checkpoint.tensors)
        or (not backbone and _is_release(checkpoint))
    )
    if backbone and prompts:
        raise UsageError(f"{checkpoint.path}: holds a backbone and prompts; say which with --as backbone or prompts")
    if not backbone and not prompts:
        found = ", ".join(sorted(checkpoint.tensors)[:2]) or "nothing"
        raise ModelError(
            f"{checkpoint.path}: expected a CLIP backbone or prompts, found neither in {len(checkpoint.tensors)} tensors "
            f"({found} …); --as backbone or prompts decides"
        )
    return "backbone" if backbone else "prompts"


def _import_backbone(checkpoint: Checkpoint, record: dict[str, Any], *, name: str | None, overwrite: bool) -> Imported:
    from blemish.backbones.weights import check_fit, weights_of, write_weights

    weights = weights_of(_without_prompts(checkpoint))
    entry = _known(weights, record["sha256"], name)
    name = name or (entry.name if entry else weights.config.name)
    check_name(name)
    if name == EMBEDDED or (name in catalog() and (entry is None or entry.name != name)):
        raise UsageError(f"{checkpoint.path}: the name {name!r} belongs to another model; choose one with --name")
    config = _with_source(entry.config if entry else weights.config, record)
    weights = replace(weights, config=replace(config, name=name))
    check_fit(weights)
    record |= {"format": weights.kind, "assumed": list(weights.assumptions) if entry is None else []}
    place = folder_of(name, "backbone")
    if not _must_write(place, "backbone", record, overwrite=overwrite):
        return Imported(name, "backbone", place, ("it was there already",))
    own_card = read_json_if_there(checkpoint.path.parent / "card.json") if weights.kind.startswith("Blemish") else {}
    # float32 can be mapped when it is loaded; float16 has to be converted each time, which takes ten times as long
    state = {key: value.float() for key, value in weights.state.items()}
    with new_folder(place, overwrite=overwrite) as folder:
        write_weights(state, weights.config, folder)
        if own_card:
            write_text(folder / "card.json", json.dumps(own_card, indent=2) + "\n")
        _write_record(folder, "backbone", record)
    return Imported(name, "backbone", place, _notes(weights, entry, record))


def _notes(weights: Weights, entry: CatalogEntry | None, record: dict[str, Any]) -> tuple[str, ...]:
    """How the file was recognised, and what is not certain about that."""
    notes = [f"recognised as {weights.kind}"]
    if record["assumed"]:
        notes.append(f"assumed, as nothing beside the file says otherwise: {', '.join(record['assumed'])}")
    if entry is not None and record["sha256"] in entry.sha256.values():
        notes[0] += f", {entry.config.source} by its checksum"
    elif entry is not None and record["file"] in entry.sha256:
        notes.append(f"taken for {entry.config.source} by its shape; mind that the published {record['file']} differs")
    elif entry is not None:
        notes.append(f"taken for {entry.config.source} by its name and shape; the catalog has no checksum of this file")
    return tuple(notes)


def _import_prompts(checkpoint: Checkpoint, record: dict[str, Any], *, name: str | None, overwrite: bool) -> Imported:
    own_card = checkpoint.path.with_name(CARD)
    if checkpoint.path.name == WEIGHTS["prompts"] and own_card.is_file():
        found = read_prompts(checkpoint.path)
        method, options, parts, card = found.method, found.options, found.state, found.card
        notes = [f"prompts of {method}, written by Blemish"]
        name = name or checkpoint.path.parent.name
    else:
        method, release = _released(checkpoint)
        options, parts, card = release.options, release.parts, {}
        notes = [f"recognised as {release.description}; on which backbone they were trained the file does not say"]
    name = name or checkpoint.path.stem
    check_name(name)
    place = folder_of(name, "prompts")
    notes.append(f"use them with --prompts {name}")
    if not _must_write(place, "prompts", record, overwrite=overwrite):
        return Imported(name, "prompts", place, ("it was there already", *notes))
    with new_folder(place, overwrite=overwrite) as folder:
        save_prompts(folder, parts, method=method, options=options, card=card)
        _write_record(folder, "prompts", record | {"format": checkpoint.container})
    return Imported(name, "prompts", place, tuple(notes))


def _is_release(checkpoint: Checkpoint) -> bool:
    """Whether some method's authors' code wrote this checkpoint, be it whole or damaged."""
    try:
        return any(method_class(method).from_release(checkpoint.tensors) is not None for method in METHODS)
    except ModelError:
        return True


def _released(checkpoint: Checkpoint) -> tuple[str, Release]:
    """The method whose authors' code wrote this checkpoint, and what it holds."""
    try:
        for method in METHODS:
            if (release := method_class(method).from_release(checkpoint.tensors)) is not None:
                return method, release
    except ModelError as error:
        raise ModelError(f"{checkpoint.path}: {error}") from error
    found = ", ".join(f"{name} {list(value.shape)}" for name, value in sorted(checkpoint.tensors.items())[:2])
    raise ModelError(
        f"{checkpoint.path}: expected trained prompts as the authors of a method publish them "
        f"({', '.join(METHODS)}), found {found or 'no tensors'}"
    )


def _known(weights: Weights, sha256: str, name: str | None) -> CatalogEntry | None:
    """The catalog's entry for these weights: by their checksum, by the name that was asked for, or by what they are
    called where they also have that entry's shape."""
    entry = entry_of_file(sha256) or catalog().get(name or "")
    if entry is not None:
        difference = _difference(entry.config, weights.config)
        if difference:
            raise ModelError(f"{weights.path}: expected {entry.name}, {difference}; choose another --name")
        return entry
    for candidate in catalog().values():
        called = {candidate.name, candidate.hub_repository.rpartition("/")[2]}
        called |= {Path(file).stem for file in candidate.sha256}
        if weights.config.name in called and not _difference(candidate.config, weights.config):
            return candidate
    return None


def _difference(expected: BackboneConfig, found: BackboneConfig) -> str:
    """The first part of the shape in which two backbones differ, in words; empty where they agree."""
    for part in SHOWN:
        ours, theirs = getattr(expected, part), getattr(found, part)
        if ours == theirs:
            continue
        if isinstance(ours, int):
            return f"with {part} {ours}, found {theirs}"
        key = next(key for key in vars(ours) if getattr(ours, key) != getattr(theirs, key))
        return f"with {part} {key} {getattr(ours, key)}, found {getattr(theirs, key)}"
    return ""


def _without_prompts(checkpoint: Checkpoint) -> Checkpoint:
    kept = {name: value for name, value in checkpoint.tensors.items() if not name.startswith(PROMPTS_PREFIX)}
    return replace(checkpoint, tensors=kept)


def _with_source(config: BackboneConfig, record: dict[str, Any]) -> BackboneConfig:
    return config if config.source else replace(config, source=f"imported from {record['file']}")


def _must_write(place: Path, kind: Kind, record: dict[str, Any], *, overwrite: bool) -> bool:
    """False where the very same file was imported before; UsageError where the name is taken by another."""
    if overwrite or not place.exists():
        return True
    if is_installed(place, kind) and read_json_if_there(place / SOURCE_FILE).get("sha256") == record["sha256"]:
        return False
    raise UsageError(f"{place}: the name is taken; choose another with --name, or replace it with --overwrite")


def _write_record(folder: Path, kind: Kind, record: dict[str, Any]) -> None:
    stamp = {"imported": datetime.now(UTC).isoformat(timespec="seconds"), "blemish": __version__}
    write_text(folder / SOURCE_FILE, json.dumps({"kind": kind, **record, **stamp}, indent=2) + "\n")
