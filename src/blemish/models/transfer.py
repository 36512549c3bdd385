"""A checked transfer of one file that goes on where an earlier try broke off, whatever server the file comes from."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from blemish._version import __version__
from blemish.errors import ModelError, OutputError
from blemish.io.atomic import reason

__all__ = [
    "HEADERS",
    "Download",
    "InterruptedTransferError",
    "Offer",
    "locked",
    "sha256_of",
    "short_reason",
    "transfer",
]

TRIES = 4  # of a transfer that is cut
LOCK_TIMEOUT_S = 2.0
HEADERS = {"user-agent": f"blemish/{__version__}"}  # nothing that identifies the user


@dataclass(frozen=True)
class Download:
    """A file that was fetched and checked."""

    path: Path
    sha256: str
    from_catalog: bool  # whether the checksum was known before, rather than stated by the server
    revision: str
    resumed_bytes: int  # what an earlier try had already fetched
    address: str = ""  # where it came from, where that is not a hub's repository


@dataclass(frozen=True)
class Offer:
    """A file that a server has."""

    model: str  # for messages
    file: str
    sha256: str
    from_catalog: bool
    size: int | None  # bytes, where the server says
    get: Callable[
        [BinaryIO, int], None
    ]  # appends what follows the given byte; InterruptedTransferError where it breaks off
    revision: str = ""
    address: str = ""


class InterruptedTransferError(Exception):
    """A transfer broke off; `refused` where the server answered, so that trying again at once is no use."""

    def __init__(self, why: str, *, refused: bool = False) -> None:
        super().__init__(why)
        self.refused = refused


@contextmanager
def locked(model: str, folder: Path) -> Iterator[None]:
    """Keeps other pulls of the model out of the folder; ModelError where one is running."""
    from filelock import FileLock

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock", timeout=LOCK_TIMEOUT_S):
            yield
    except TimeoutError as error:
        raise ModelError(f"{model}: another pull of it is running") from error
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written ({reason(error)})") from error


def transfer(offer: Offer, folder: Path) -> Download:
    """The offered file in `folder`, complete and with the right checksum.

    A transfer that breaks off leaves its part there, and the next call goes on from it.

    Raises:
        ModelError: It broke off, or came with the wrong checksum, which leaves nothing.
    """
    target = folder / offer.file
    part = target.with_name(f"{target.name}.{offer.sha256[:16]}.part")
    if target.exists():  # a pull was killed after the transfer
        os.replace(target, part)  # noqa: PTH105
    resumed = _append(offer, part)
    found = sha256_of(part)
    if found != offer.sha256:
        part.unlink()
        raise ModelError(
            f"{offer.model}: {target.name} came with the wrong checksum: expected sha256 {offer.sha256}, found {found}; "
            "nothing was kept"
        )
    os.replace(part, target)  # noqa: PTH105  (also where `target` exists)
    return Download(target, offer.sha256, offer.from_catalog, offer.revision, resumed, offer.address)


def sha256_of(path: Path) -> str:
    """The checksum of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def short_reason(error: BaseException) -> str:
    """The first line of what an error says."""
    return (str(error).splitlines() or [type(error).__name__])[0].strip() or type(error).__name__


def _append(offer: Offer, part: Path) -> int:
    """Appends to `part` what is missing; the number of bytes that were there before."""
    for other in part.parent.glob(f"{offer.file}.*.part"):
        if other != part:  # of a file that the server has replaced
            other.unlink()
    part.touch()
    before = part.stat().st_size
    if offer.size is not None and before > offer.size:
        before = 0
    with part.open("r+b") as file:
        file.truncate(before)
        got = before
        for tries_left in reversed(range(TRIES)):
            start = file.seek(got)
            try:
                offer.get(file, start)
                break
            except InterruptedTransferError as error:
                got = file.seek(0, os.SEEK_END)
                if got > start and tries_left and not error.refused:
                    continue  # the connection was cut
                total = "" if offer.size is None else f" of {offer.size / 1e6:.1f}"
                raise ModelError(
                    f"{offer.model}: the transfer broke off at {got / 1e6:.1f}{total} MB ({error}); "
                    "the same command goes on from there"
                ) from error
    return before
