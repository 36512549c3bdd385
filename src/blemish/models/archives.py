"""Fetches a known backbone as its authors publish it: one archive, whose address carries its sha256.

The second source of a pull, where the hub or its library is missing; the standard library does the talking.
"""

from __future__ import annotations

import http.client
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, BinaryIO
from urllib.error import HTTPError
from urllib.parse import urlsplit, urlunsplit
from urllib.request import Request, urlopen

from blemish.backbones.catalog import CatalogEntry
from blemish.errors import ModelError
from blemish.models.transfer import (
    HEADERS,
    Download,
    InterruptedTransferError,
    Offer,
    locked,
    short_reason,
    transfer,
)

__all__ = ["download_archive"]

TIMEOUT_S = 20.0  # without a byte
CHUNK = 2**20

Advance = Callable[[int, int | None], None]  # is told the bytes that are there, and their total once it is known


def download_archive(
    entry: CatalogEntry, folder: Path, *, endpoint: str | None = None, progress: bool = False
) -> Download:
    """The archive of a known backbone in `folder`, complete and with the checksum that the catalog has; see `transfer`.

    Args:
        entry: The backbone.
        folder: Where the file, and the part of an unfinished one, lie.
        endpoint: Another server than the authors', with the same paths.
        progress: Whether a bar is drawn on a terminal.

    Raises:
        ModelError: There is no archive of it, the server cannot be reached, or the transfer fails: one line.
    """
    if not entry.archive:
        raise ModelError(f"{entry.name}: its authors publish no archive that the catalog knows; pull it from the hub")
    address = _at(endpoint, entry.archive)
    file = Path(urlsplit(address).path).name
    with locked(entry.name, folder), _bar(f"{entry.name} {file}", drawn=progress) as advance:

        def get(into: BinaryIO, start: int) -> None:
            try:
                _append(address, into, start, advance)
            except HTTPError as error:
                error.close()
                raise InterruptedTransferError(f"the server answers with {error.code}", refused=True) from error
            except (OSError, http.client.HTTPException) as error:
                raise InterruptedTransferError(short_reason(error)) from error

        offer = Offer(
            model=entry.name,
            file=file,
            sha256=entry.sha256[file],
            from_catalog=True,
            size=None,
            get=get,
            address=address,
        )
        return transfer(offer, folder)


def _append(address: str, into: BinaryIO, start: int, advance: Advance) -> None:
    """Appends the archive from byte `start` on; a server that ignores the range sends all of it anew."""
    headers = HEADERS | ({"Range": f"bytes={start}-"} if start else {})
    try:
        response = urlopen(Request(address, headers=headers), timeout=TIMEOUT_S)
    except HTTPError as error:
        if start and error.code == 416:  # nothing follows: it is all there
            error.close()
            return
        raise
    with response:
        if start and response.status != http.client.PARTIAL_CONTENT:
            start = into.seek(0)
            into.truncate(0)
        length = response.headers.get("Content-Length")
        total = None if length is None else start + int(length)
        advance(start, total)
        _copy(response, into, advance)
    if total is not None and into.tell() < total:
        raise ConnectionError("the connection was cut")


def _copy(response: IO[bytes], into: BinaryIO, advance: Advance) -> None:
    while chunk := response.read(CHUNK):
        into.write(chunk)
        advance(into.tell(), None)


@contextmanager
def _bar(what: str, *, drawn: bool) -> Iterator[Advance]:
    """A bar of megabytes on stderr where that is a terminal, else nothing."""
    if not (drawn and sys.stderr.isatty()):
        yield lambda *_: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)

        def advance(done: int, total: int | None) -> None:
            if total is not None:
                bar.update(task, total=total)
            bar.update(task, completed=done)

        yield advance


def _at(endpoint: str | None, address: str) -> str:
    """The address on another server."""
    if endpoint is None:
        return address
    other, path = urlsplit(endpoint), urlsplit(address).path
    return urlunsplit((other.scheme, other.netloc, other.path.rstrip("/") + path, "", ""))
