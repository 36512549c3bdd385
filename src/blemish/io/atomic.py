"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from blemish.errors import OutputError

__all__ = ["make_folder", "reason", "replace_file", "write_text"]


@contextmanager
def replace_file(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` to write to; it takes the place of `path` when the block ends well.

    Missing folders are made. What the system refuses becomes an OutputError that names `path`.
    """
    temporary = path.with_name(f".{path.name[:80]}.{uuid.uuid4().hex[:12]}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)  # noqa: PTH105  (atomic on every system, also where `path` exists)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({reason(error)})") from error
    finally:
        with suppress(OSError):  # gone after the rename; never there where the folder could not be made
            temporary.unlink()


def write_text(path: Path, text: str) -> None:
    """Put `text` at `path` in UTF-8 with line feeds on every system, replacing what was there.

    Names of files that are no text keep their bytes as `\\udc..`, which JSON reads back.
    """
    with replace_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace", newline="\n")


def make_folder(path: Path) -> None:
    """Make the folder `path` and check that files can be written in it; an OutputError says why not."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f".blemish-{uuid.uuid4().hex[:12]}.tmp"
        probe.touch(exist_ok=False)
        probe.unlink()
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({reason(error)}); choose another folder with --out") from error


def reason(error: OSError) -> str:
    """What the system said, in lower case, without its number and without the path."""
    return (error.strerror or str(error) or type(error).__name__).lower()
