"""The data folder: images and maps as files that no request can name, and what is free on the disk.

images/2026-11-26/ab/ab12….png    maps/2026-11-26/ab/ab12….npz    profiles/    vocabularies/    blemish.sqlite3
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import IO

from blemish.errors import OutputError, UsageError
from blemish.images import SUFFIXES
from blemish.io.atomic import make_folder, reason, replace_file, write_text
from blemish.serve.clock import day_of

__all__ = ["DataFolder"]

IMAGES, MAPS, VOCABULARIES, PROFILES, EXPORTS = "images", "maps", "vocabularies", "profiles", "exports"
LOCK_FILE = "blemish.lock"


class DataFolder:
    """The folder of one service, held by this process alone until `close`.

    Raises:
        OutputError: It cannot be made or written.
        UsageError: Another service has it.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser().resolve()
        try:
            make_folder(self.path)
        except OutputError as error:
            raise OutputError(str(error).replace("--out", "--data")) from error
        self._lock = _locked(self.path / LOCK_FILE)
        for name in (IMAGES, MAPS, VOCABULARIES, PROFILES):
            make_folder(self.path / name)

    def close(self) -> None:
        """Lets another service have the folder."""
        self._lock.close()

    @property
    def free_bytes(self) -> int:
        """What is free on its disk."""
        return shutil.disk_usage(self.path).free

    def new_image(self, image_id: str, name: str, *, created_ms: int) -> str:
        """Where the image of an inspection goes, below the folder; of the name it was given only a known suffix stays."""
        suffix = PurePosixPath(name.replace("\\", "/")).suffix.lower()
        return _place(IMAGES, image_id, suffix if suffix in SUFFIXES else "", created_ms)

    def maps_of(self, image_id: str, *, created_ms: int) -> str:
        """Where the maps of an inspection go, below the folder."""
        return _place(MAPS, image_id, ".npz", created_ms)

    def write(self, place: str, data: bytes | IO[bytes]) -> int:
        """Puts a file at a place below the folder, on the disk when it returns; its bytes. OutputError where it cannot."""
        path = self.path_of(place)
        with replace_file(path) as temporary, temporary.open("wb") as stream:
            if isinstance(data, bytes):
                stream.write(data)
            else:
                shutil.copyfileobj(data, stream)
            stream.flush()
            with suppress(OSError):  # a file system without it
                os.fsync(stream.fileno())
        return path.stat().st_size

    def write_vocabulary(self, text: str) -> str:
        """The path of a vocabulary file with this text: the same text is the same file."""
        path = self.path / VOCABULARIES / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.toml"
        if not path.is_file():
            write_text(path, text)
        return str(path)

    def path_of(self, place: str) -> Path:
        """The path of a place that the database names; UsageError where that lies outside the folder."""
        path = (self.path / place).resolve()
        if not path.is_relative_to(self.path) or path == self.path:
            raise UsageError(f"{place}: lies outside the data folder")
        return path

    def remove(self, *places: str | None) -> None:
        """Removes files, where they are there."""
        for place in places:
            if place is not None:
                with suppress(OSError):
                    self.path_of(place).unlink()

    def files(self) -> Iterator[tuple[str, int, float]]:
        """The place, the bytes and the time of change of every image and map."""
        for name in (IMAGES, MAPS):
            for folder, _, files in os.walk(self.path / name):
                for file in files:
                    path = Path(folder, file)
                    with suppress(OSError):
                        state = path.stat()
                        yield path.relative_to(self.path).as_posix(), state.st_size, state.st_mtime


def _place(kind: str, image_id: str, suffix: str, created_ms: int) -> str:
    return f"{kind}/{day_of(created_ms)}/{image_id[:2]}/{image_id}{suffix}"


def _locked(path: Path) -> IO[str]:
    """The file, open and locked until it is closed or its process ends; nothing is held where the system has no such locks."""
    try:
        stream = path.open("a", encoding="utf-8")
    except OSError as error:
        raise OutputError(
            f"{path.parent}: cannot be written ({reason(error)}); choose another folder with --data"
        ) from error
    try:
        import fcntl

        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:
        pass
    except OSError as error:
        stream.close()
        raise UsageError(
            f"{path.parent}: another blemish serve has this data folder; stop it, or choose another one"
        ) from error
    return stream
