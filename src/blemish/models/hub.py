"""Fetches one file of a known backbone from a Hugging Face hub, going on where an earlier try broke off.

huggingface-hub does the talking (endpoint, redirects, retries, progress); its own download into a cache is not used,
because since version 2 it throws away what it has when it breaks off. Nothing that identifies the user is sent.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from logging import ERROR
from pathlib import Path
from typing import Any, BinaryIO

from blemish._version import __version__
from blemish.backbones.catalog import CatalogEntry
from blemish.errors import MissingExtraError, ModelError, OutputError
from blemish.io.atomic import reason

__all__ = ["Download", "download", "sha256_of"]

METADATA_TIMEOUT_S = 10.0
LOCK_TIMEOUT_S = 2.0
TRIES = 4  # of a transfer that is cut; the hub library has its own beneath, which differ from version to version
SHA256 = re.compile(r"[0-9a-f]{64}")
HEADERS = {"user-agent": f"blemish/{__version__}"}  # instead of the hub's, which lists versions and packages


@dataclass(frozen=True)
class Download:
    """A file that was fetched and checked."""

    path: Path
    sha256: str
    from_catalog: bool  # whether the checksum was known before, rather than stated by the hub
    revision: str
    resumed_bytes: int  # what an earlier try had already fetched


def download(entry: CatalogEntry, folder: Path, *, endpoint: str | None = None, progress: bool = False) -> Download:
    """The weights of a known backbone in `folder`, complete and with the right checksum.

    A transfer that breaks off leaves its part there, and the next call goes on from it; a wrong checksum leaves
    nothing. Every way to fail is a ModelError of one line; no wait is unbounded.
    """
    try:
        import huggingface_hub  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("huggingface-hub", "hub", "pulling a model") from error
    from filelock import FileLock

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _quiet(progress=progress), FileLock(folder / ".lock", timeout=LOCK_TIMEOUT_S):
            file, metadata = _find(entry, endpoint)
            return _fetch(entry, folder / file, metadata)
    except TimeoutError as error:
        raise ModelError(f"{entry.name}: another pull of it is running") from error
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written ({reason(error)})") from error


def sha256_of(path: Path) -> str:
    """The checksum of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _find(entry: CatalogEntry, endpoint: str | None) -> tuple[str, Any]:
    """The first of the entry's files that the hub has, and what the hub says about it."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    for file in entry.hub_files:
        url = hf_hub_url(entry.hub_repository, file, endpoint=endpoint)
        try:
            return file, get_hf_file_metadata(url, token=False, timeout=METADATA_TIMEOUT_S, headers=HEADERS)
        except _network_errors() as error:
            status = _status(error)
            if status == 404:
                continue
            said = f"the hub answers with {status}" if status else f"the hub cannot be reached ({_short(error)})"
            raise ModelError(
                f"{entry.name}: {said}; try again later, or give a file: blemish models import PATH"
            ) from error
    files = " or ".join(entry.hub_files)
    raise ModelError(f"{entry.name}: the hub has no {files} in {entry.hub_repository} (404)")


def _fetch(entry: CatalogEntry, target: Path, metadata: Any) -> Download:
    known = entry.sha256.get(target.name)
    stated = metadata.etag if metadata.etag and SHA256.fullmatch(metadata.etag) else None
    expected = known or stated
    if expected is None:
        raise ModelError(f"{entry.name}: neither the catalog nor the hub states a sha256 of {target.name}; not pulled")
    if stated and stated != expected:
        raise ModelError(
            f"{entry.name}: {target.name}: expected sha256 {expected}, the hub offers {stated}; not pulled"
        )
    part = target.with_name(f"{target.name}.{expected[:16]}.part")
    if target.exists():  # a pull was killed after the transfer
        os.replace(target, part)  # noqa: PTH105
    resumed = _transfer(entry, part, metadata)
    found = sha256_of(part)
    if found != expected:
        part.unlink()
        raise ModelError(
            f"{entry.name}: {target.name} came with the wrong checksum: expected sha256 {expected}, found {found}; "
            "nothing was kept"
        )
    os.replace(part, target)  # noqa: PTH105  (also where `target` exists)
    return Download(target, expected, known is not None, metadata.commit_hash or "", resumed)


def _transfer(entry: CatalogEntry, part: Path, metadata: Any) -> int:
    """Appends to `part` what is missing; the number of bytes that were there before."""
    for other in part.parent.glob("*.part"):
        if other != part:  # of a file that the hub has replaced
            other.unlink()
    part.touch()
    before = part.stat().st_size
    if metadata.size is not None and before > metadata.size:
        before = 0
    with part.open("r+b") as file:
        file.truncate(before)
        got = before
        for tries_left in reversed(range(TRIES)):
            start = file.seek(got)
            try:
                _get(entry, file, start, metadata)
                break
            except _network_errors() as error:
                got = file.seek(0, os.SEEK_END)
                if got > start and tries_left and _status(error) is None:
                    continue  # the connection was cut
                total = "" if metadata.size is None else f" of {metadata.size / 1e6:.1f}"
                raise ModelError(
                    f"{entry.name}: the transfer broke off at {got / 1e6:.1f}{total} MB ({_short(error)}); "
                    "the same command goes on from there"
                ) from error
    return before


def _get(entry: CatalogEntry, file: BinaryIO, start: int, metadata: Any) -> None:
    from huggingface_hub.file_download import http_get

    http_get(
        metadata.location,
        file,
        resume_size=start,
        headers=dict(HEADERS),
        expected_size=metadata.size,
        displayed_filename=f"{entry.name} {Path(file.name).name.split('.')[0]}",
    )


def _status(error: BaseException) -> int | None:
    """The hub's answer, where it gave one."""
    return getattr(getattr(error, "response", None), "status_code", None)


def _network_errors() -> tuple[type[Exception], ...]:
    """What the hub's HTTP library raises: httpx2 or httpx in newer versions, requests (an OSError) in older ones."""
    names = [(module, "HTTPError") for module in ("httpx2", "httpx")]
    found = [getattr(sys.modules[module], name) for module, name in names if module in sys.modules]
    return (*found, OSError)


@contextmanager
def _quiet(*, progress: bool) -> Iterator[None]:
    """Keeps the hub's warnings (ours say it in one line), and unless asked for its bars, off the terminal."""
    from huggingface_hub.utils import logging
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    verbosity = logging.get_verbosity()
    hide = not progress and not are_progress_bars_disabled()
    logging.set_verbosity(ERROR)
    if hide:
        disable_progress_bars()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if hide:
            enable_progress_bars()


def _short(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].strip() or type(error).__name__
