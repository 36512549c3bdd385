"""Image features on disk: what a frozen tower gave for an image is computed once, and mapped from its file ever after.

`features/KEY/ab/abcdef….safetensors` under the store's home, one file an image, named by the image's content. KEY stands for
everything else that decides the features: backbone, preprocessing, what the method reads of it, and the precision they are
kept in; `key.json` beside them says it in words. An entry is written whole or not at all, and trusted only after its checksum
has been read. B batch, N patches, C channels.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from blemish.errors import ModelError, OutputError, UnknownNameError
from blemish.io.atomic import make_folder, replace_file, write_text
from blemish.io.codec import to_dict
from blemish.io.json_files import read_json_if_there
from blemish.models.paths import HOME_VARIABLE, home

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from blemish.methods.base import Features, Method

__all__ = ["CacheDtype", "FeatureStore", "StoredFeatures", "feature_store", "stored_features"]

CacheDtype = Literal["float16", "bfloat16", "float32"]
FOLDER = "features"
KEY_FILE = "key.json"
GLOBAL = "whole"  # the global feature's name in an entry
FORMAT = 1  # of an entry; goes up when an old one can no longer be read
HEADER_BYTES = 1024  # more than the header of an entry takes
SPARE_BYTES = 256 * 2**20  # stay free on the disk whatever is cached


@dataclass(frozen=True)
class StoredFeatures:
    """The features of one key: `what` in words, their folder, and every file that belongs to it."""

    what: str
    place: Path
    files: tuple[Path, ...]

    @property
    def bytes(self) -> int:
        return sum(file.stat().st_size for file in self.files)


class FeatureStore:
    """The features of one key in a folder, kept in `dtype`. Every method may be called from several threads at once."""

    def __init__(self, folder: Path, *, dtype: CacheDtype) -> None:
        import torch

        if dtype not in get_args(CacheDtype):
            raise UnknownNameError("precision of kept features", dtype, get_args(CacheDtype))
        self.folder = folder
        self.dtype: torch.dtype = getattr(torch, dtype)

    def path(self, digest: str) -> Path:
        return self.folder / digest[:2] / f"{digest}.safetensors"

    def size_px(self, digest: str) -> tuple[int, int] | None:
        """Width and height of the picture whose features are kept under `digest`; None where there is no whole entry.

        Reads the entry once from end to end: a torn one, or one that a power cut filled with zeros, counts as none.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self.path(digest), "pt") as entry:
                facts: Mapping[str, str] = entry.metadata() or {}
                names = sorted(entry.keys())
                if facts.get("format") != str(FORMAT) or not names:
                    return None
                if facts.get("crc32") != str(_checksum([entry.get_tensor(name) for name in names])):
                    return None
                width, height = facts["size_px"].split("x")
                return int(width), int(height)
        except (SafetensorError, OSError, KeyError, ValueError):
            return None

    def write(self, digest: str, features: Features, *, row: int, size_px: tuple[int, int]) -> None:
        """Keeps the features of one image: row `row` of a batch, of a picture of this width and height.

        OutputError where the system refuses, as on a full disk; no part of an entry stays behind.
        """
        from safetensors.torch import save

        tensors = {GLOBAL: features.global_feature} | {
            f"level-{i:02d}": level for i, level in enumerate(features.levels)
        }
        kept = {name: value[row].detach().to("cpu", self.dtype).contiguous() for name, value in tensors.items()}
        facts = {
            "format": str(FORMAT),
            "grid": f"{features.grid[0]}x{features.grid[1]}",
            "size_px": f"{size_px[0]}x{size_px[1]}",
            "crc32": str(_checksum([kept[name] for name in sorted(kept)])),
        }
        try:
            # not safetensors' own writing of files, which reports a full disk as damaged data
            with replace_file(self.path(digest)) as temporary, temporary.open("wb") as file:
                file.write(save(kept, facts))
                file.flush()
                os.fsync(file.fileno())  # else a power cut may leave the name with nothing behind it
        except OutputError as error:
            raise OutputError(
                f"{error}; what is cached so far is kept: make room, or move the store with {HOME_VARIABLE}, "
                "and run the same command again"
            ) from error

    def read(self, digests: Sequence[str]) -> Features:
        """The features of images as one batch in float32 on the CPU; ModelError where an entry is gone.

        Files are mapped and copied row by row, so that memory holds one batch and nothing else.
        """
        import torch
        from safetensors import SafetensorError, safe_open

        from blemish.methods.base import Features

        batch: dict[str, Tensor] = {}
        grid = (0, 0)
        for row, digest in enumerate(digests):
            try:
                with safe_open(self.path(digest), "pt") as entry:
                    rows, columns = entry.metadata()["grid"].split("x")
                    grid = int(rows), int(columns)
                    for name in sorted(entry.keys()):
                        kept = entry.get_tensor(name)
                        if row == 0:
                            batch[name] = torch.empty(len(digests), *kept.shape)
                        batch[name][row] = kept
            except (SafetensorError, OSError, KeyError, RuntimeError) as error:
                raise ModelError(
                    f"{self.path(digest)}: these cached features are gone or damaged; run the same command again"
                ) from error
        return Features(
            global_feature=batch.pop(GLOBAL), levels=tuple(batch[name] for name in sorted(batch)), grid=grid
        )

    def entry_bytes(self, features: Features) -> int:
        """What an image with features of these shapes takes on the disk, at most."""
        numbers = sum(tensor[0].numel() for tensor in (features.global_feature, *features.levels))
        return numbers * self.dtype.itemsize + HEADER_BYTES

    def reserve(self, count: int, *, bytes_each: int) -> str:
        """A sentence on the room that `count` more entries take; OutputError where the disk has less than that."""
        needed, free = count * bytes_each, shutil.disk_usage(self.folder).free
        words = f"{count} images x {bytes_each / 1e6:.2f} MB = {needed / 1e9:.2f} GB in {self.folder}"
        if needed + SPARE_BYTES > free:
            raise OutputError(
                f"features to cache: {words}, but {free / 1e9:.2f} GB are free; make room (blemish cache clear), move the "
                f"store with {HOME_VARIABLE}, or do without with --cache-dtype none"
            )
        return f"features to cache: {words} ({free / 1e9:.1f} GB free)"


def feature_store(method: Method, *, dtype: CacheDtype, root: Path | None = None) -> FeatureStore:
    """The store of what this method's `encode_frozen` gives on its backbone, under `root` (the store's home by default).

    Its folder is made; OutputError where it cannot be.
    """
    clip = method.backbone
    key = {
        "format": FORMAT,
        "backbone": {"name": clip.config.name, "fingerprint": clip.fingerprint()},
        "preprocess": to_dict(clip.config.preprocess),
        "method": method.name,
        "encode": method.frozen_key(),
        "dtype": dtype,
    }
    deciding = {**key, "backbone": clip.fingerprint(), "method": None}  # names do not change a number
    digest = hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()[:16]
    store = FeatureStore((root or home() / FOLDER) / digest, dtype=dtype)
    make_folder(store.folder)
    if not (store.folder / KEY_FILE).is_file():
        write_text(store.folder / KEY_FILE, json.dumps(key, indent=2) + "\n")
    return store


def stored_features() -> list[StoredFeatures]:
    """The kept features, key by key; remains of writing that a kill cut short are among the files."""
    found = []
    for folder in sorted((home() / FOLDER).glob("*/")) if (home() / FOLDER).is_dir() else []:
        entries = [file for pattern in ("??/*.safetensors", "??/.*.tmp", ".*.tmp") for file in folder.glob(pattern)]
        key = folder / KEY_FILE
        files = tuple(sorted(entries)) + ((key,) if key.is_file() else ())
        if files:
            found.append(StoredFeatures(_in_words(read_json_if_there(key), len(entries)), folder, files))
    return found


def _in_words(key: Mapping[str, Any], count: int) -> str:
    backbone, preprocess = key.get("backbone") or {}, key.get("preprocess") or {}
    return (
        f"features of {count} images ({backbone.get('name', 'unknown backbone')} at {preprocess.get('size', '?')} px, "
        f"{key.get('method', 'unknown method')}, {key.get('dtype', '?')})"
    )


def _checksum(tensors: Sequence[Tensor]) -> int:
    """CRC-32 of the tensors' bytes; `crc32` lets other threads run meanwhile."""
    import torch

    crc = 0
    for tensor in tensors:
        crc = zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data, crc)
    return crc
