"""Opens model files: safetensors, TorchScript archives and saved state dicts. Nothing in them is executed."""

from __future__ import annotations

import json
import pickle
import re
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from blemish.backbones.torchscript import is_torchscript, read_torchscript
from blemish.errors import ModelError

__all__ = ["Checkpoint", "read_checkpoint"]

Container = Literal["safetensors", "torchscript", "state dict"]
HEADER_LIMIT = 100 * 2**20  # bytes; the format's own limit of a safetensors header
DEPTH_LIMIT = 8  # of dictionaries within dictionaries
LFS_POINTER = b"version https://git-lfs"
EXPECTED = "expected a model file (safetensors, or .pt/.pth/.bin of PyTorch)"
FOREIGN = {  # first bytes: what it is
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"GIF8": "a GIF image",
    b"II*\x00": "a TIFF image",
    b"MM\x00*": "a TIFF image",
    b"RIFF": "a RIFF file, such as a WebP image",
    b"\x1f\x8b": "a gzip archive",
    b"\x89HDF": "an HDF5 file",
    b"GGUF": "a GGUF file",
    LFS_POINTER: "a Git LFS pointer, which stands for the file; fetch the file itself with `git lfs pull`",
}


@dataclass(frozen=True)
class Checkpoint:
    """The tensors of one file; those of nested dictionaries have dotted names. Safetensors stay mapped to the file."""

    path: Path
    container: Container
    tensors: dict[str, Tensor]


def read_checkpoint(path: Path) -> Checkpoint:
    """The tensors of a model file of any known kind, as stored; ModelError says what it is instead."""
    with _as_model_errors(path):
        with path.open("rb") as file:
            start = file.read(4096)
        if zipfile.is_zipfile(path) and start[:2] == b"PK":
            with zipfile.ZipFile(path) as archive:
                if not any(name.endswith("/data.pkl") for name in archive.namelist()):
                    raise ModelError(f"{path}: {EXPECTED}, found a zip archive without one")
                script = is_torchscript(archive)
            if script:
                return Checkpoint(path, "torchscript", read_torchscript(path))
            return Checkpoint(path, "state dict", _read_state_dict(path))
        if start[8:9] == b"{":
            _check_length(path)
            return Checkpoint(path, "safetensors", load_file(path))
        if start[:1] == b"\x80":  # PyTorch's format before 1.6
            return Checkpoint(path, "state dict", _read_state_dict(path))
        raise ModelError(f"{path}: {_describe(start)}")


@contextmanager
def _as_model_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise ModelError(f"{path}: no such file") from error
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({(error.strerror or str(error)).lower()})") from error
    except (SafetensorError, zipfile.BadZipFile, EOFError) as error:
        raise ModelError(f"{path}: {EXPECTED}, found a damaged one ({_first_line(error)}); fetch it again") from error


def _read_state_dict(path: Path) -> dict[str, Tensor]:
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        asked = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = f"asks for {asked[1]}" if asked else "is damaged, or asks for more than tensors"
        raise ModelError(
            f"{path}: {what}; only tensors are read from a model file, so it is refused; where you trust it, save its tensors "
            "alone and import those"
        ) from error
    except (RuntimeError, ValueError, KeyError, IndexError, TypeError, AttributeError, EOFError) as error:
        raise ModelError(f"{path}: {EXPECTED}, found a damaged one ({_first_line(error)}); fetch it again") from error
    if isinstance(loaded, Mapping) and isinstance(loaded.get("state_dict"), Mapping):
        loaded = loaded["state_dict"]  # a training checkpoint: the rest is the optimiser and counters
    if not isinstance(loaded, Mapping):
        raise ModelError(f"{path}: expected a dictionary of tensors, found {type(loaded).__name__}")
    tensors: dict[str, Tensor] = {}
    _collect(loaded, "", tensors, DEPTH_LIMIT)
    return tensors


def _collect(values: Mapping[Any, Any], prefix: str, tensors: dict[str, Tensor], depth: int) -> None:
    for name, value in values.items():
        if isinstance(value, Tensor):
            tensors[f"{prefix}{name}"] = value.detach()
        elif isinstance(value, Mapping) and depth:
            _collect(value, f"{prefix}{name}.", tensors, depth - 1)


def _check_length(path: Path) -> None:
    """Compares the file's length with what its safetensors header promises, for a message with numbers."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > HEADER_LIMIT:
            raise ModelError(f"{path}: {EXPECTED}, found a file of an unknown kind")
        header = file.read(length)
    if len(header) < length:
        raise ModelError(
            f"{path}: the file is cut short: expected at least {8 + length} bytes, found {size}; fetch it again"
        )
    try:
        entries = json.loads(header)
        ends = [int(entry["data_offsets"][1]) for name, entry in entries.items() if name != "__metadata__"]
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise ModelError(f"{path}: {EXPECTED}, found a damaged safetensors header; fetch it again") from error
    expected = 8 + length + max(ends, default=0)
    if expected > size:
        raise ModelError(f"{path}: the file is cut short: expected {expected} bytes, found {size}; fetch it again")


def _describe(start: bytes) -> str:
    if not start:
        return f"{EXPECTED}, found an empty file"
    if start[:4] == b"PK\x03\x04":
        return f"{EXPECTED}, found an archive that is cut short; fetch it again"
    known = next((name for magic, name in FOREIGN.items() if start.startswith(magic)), None)
    return f"{EXPECTED}, found {known or _text_kind(start) or 'a file of an unknown kind'}"


def _text_kind(start: bytes) -> str | None:
    try:
        text = start.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(start) - 3:  # a character that is cut at the end is still text
            return None
        text = start[: error.start].decode("utf-8")
    if "\x00" in text:
        return None
    return "a web page" if text.lstrip()[:1] == "<" else "a text file"


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
