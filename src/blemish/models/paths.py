"""Where models and caches live, and what is there. docs/models.md describes the layout."""

from __future__ import annotations

import os
import re
import shutil
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from blemish.backbones.catalog import catalog
from blemish.errors import OutputError, UsageError
from blemish.io.atomic import reason

__all__ = [
    "FOLDERS",
    "GRAPHS",
    "HOME_VARIABLE",
    "PULLS",
    "SOURCE_FILE",
    "WEIGHTS",
    "Kind",
    "Leftover",
    "check_name",
    "files_of",
    "folder_of",
    "home",
    "installed",
    "is_installed",
    "is_name",
    "leftovers",
    "new_folder",
    "package_models",
    "remove",
    "size_of",
]

Kind = Literal["backbone", "prompts"]

HOME_VARIABLE = "BLEMISH_HOME"
FOLDERS: Mapping[Kind, str] = {"backbone": "models", "prompts": "prompts"}
WEIGHTS: Mapping[Kind, str] = {"backbone": "model.safetensors", "prompts": "prompts.safetensors"}
SOURCE_FILE = "source.json"  # where a model came from; its presence says that the folder is ours
PULLS = "pulls"
GRAPHS = "graphs"  # image sides that engines exported, see engines.graphs
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,99}")
WINDOWS_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


@dataclass(frozen=True)
class Leftover:
    """Files that can be fetched or made again: unfinished pulls, exported graphs, remains of broken imports."""

    what: str
    place: Path
    files: tuple[Path, ...]

    @property
    def bytes(self) -> int:
        return sum(size_of(file) for file in self.files)


def home() -> Path:
    """The folder of models and caches: $BLEMISH_HOME, else the usual place for a program's data on this system."""
    chosen = os.environ.get(HOME_VARIABLE)
    if chosen:
        return Path(chosen).expanduser().absolute()
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA")
        return (Path(local) if local else Path.home() / "AppData" / "Local") / "blemish"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "blemish"
    data = os.environ.get("XDG_DATA_HOME", "")
    return (Path(data) if Path(data).is_absolute() else Path.home() / ".local" / "share") / "blemish"


def package_models() -> Path:
    """The folder of the models that ship inside the package."""
    return Path(__file__).parents[1] / "models"


def folder_of(name: str, kind: Kind) -> Path:
    """Where a model of this name lies, or would lie."""
    return home() / FOLDERS[kind] / name


def is_name(text: str) -> bool:
    """Whether models may be called so: it must be a file name everywhere, and not look like a path."""
    return NAME.fullmatch(text) is not None and not WINDOWS_DEVICES.fullmatch(text) and not text.endswith(".")


def check_name(name: str) -> None:
    """Raises UsageError where models may not be called so."""
    if not is_name(name):
        raise UsageError(f"{name!r} cannot be a model's name: letters, digits and ._@+- only; choose one with --name")


def installed(kind: Kind) -> dict[str, Path]:
    """The folders of the models in the store, by name."""
    place = home() / FOLDERS[kind]
    if not place.is_dir():
        return {}
    folders = sorted(folder for folder in place.iterdir() if is_name(folder.name))
    return {folder.name: folder for folder in folders if is_installed(folder, kind)}


def is_installed(folder: Path, kind: Kind) -> bool:
    """Whether the folder holds a model that was put there whole."""
    return (folder / SOURCE_FILE).is_file() and (folder / WEIGHTS[kind]).is_file()


@contextmanager
def new_folder(target: Path, *, overwrite: bool) -> Iterator[Path]:
    """A temporary folder beside `target` that takes its place when the block ends well; OutputError where it cannot."""
    temporary = target.with_name(f".{target.name[:60]}.{uuid.uuid4().hex[:12]}.tmp")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        if overwrite and target.exists():
            old = target.with_name(f".{target.name[:60]}.{uuid.uuid4().hex[:12]}.old")
            target.rename(old)
            temporary.rename(target)
            shutil.rmtree(old, ignore_errors=True)
        else:
            temporary.rename(target)
    except OSError as error:
        raise _not_writable(target, error) from error
    except OutputError as error:
        cause = error.__cause__
        raise (_not_writable(target, cause) if isinstance(cause, OSError) else error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def leftovers() -> list[Leftover]:
    """What can be deleted without losing anything: unfinished pulls, exported graphs and remains of broken imports."""
    found = [Leftover("unfinished pulls", home() / PULLS, _unfinished_pulls())]
    graphs = [
        file for kind in ("encode*", "*.json", "compiled-*/*") for file in _files(home() / GRAPHS, f"[0-9a-f]*/{kind}")
    ]
    found.append(Leftover("exported graphs", home() / GRAPHS, tuple(dict.fromkeys(graphs))))
    for folder in FOLDERS.values():
        remains = [file for ending in ("tmp", "old") for file in _files(home() / folder, f".*.{ending}/*")]
        found.append(Leftover("broken imports", home() / folder, tuple(remains)))
    return [leftover for leftover in found if leftover.files]


def remove(files: tuple[Path, ...]) -> None:
    """Deletes these files, and their folders where nothing else is in them; OutputError names what stays."""
    for file in files:
        try:
            file.unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(f"{file}: cannot be deleted ({reason(error)}); is a program using it?") from error
    for folder in {file.parent for file in files}:
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def files_of(folder: Path) -> tuple[Path, ...]:
    """The files of one model in the store: only those that Blemish writes there."""
    names = (*WEIGHTS.values(), "config.json", "card.json", SOURCE_FILE)
    return tuple(folder / name for name in names if (folder / name).is_file())


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)


def _unfinished_pulls() -> tuple[Path, ...]:
    """What pulls leave behind; by name, as the home may be a folder that holds other things too."""
    found: list[Path] = []
    for entry in catalog().values():
        for file in _files(home() / PULLS / entry.name, "*"):
            if file.suffix == ".part" or file.name in (".lock", *entry.hub_files, entry.archive.rpartition("/")[2]):
                found.append(file)
    return tuple(found)


def _files(folder: Path, pattern: str) -> tuple[Path, ...]:
    return tuple(sorted(file for file in folder.glob(pattern) if file.is_file())) if folder.is_dir() else ()


def _not_writable(target: Path, error: OSError) -> OutputError:
    return OutputError(f"{target}: cannot be written ({reason(error)}); {HOME_VARIABLE} says where models live")
