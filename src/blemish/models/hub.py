"""Fetches one file of a known backbone from a Hugging Face hub.

huggingface-hub does the talking (endpoint, redirects, retries, progress); its own download into a cache is not used,
because since version 2 it throws away what it has when it breaks off. Nothing that identifies the user is sent.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from logging import ERROR
from pathlib import Path
from typing import Any, BinaryIO

from blemish.backbones.catalog import CatalogEntry
from blemish.errors import MissingExtraError, ModelError
from blemish.models.transfer import (
    HEADERS,
    Download,
    InterruptedTransferError,
    Offer,
    locked,
    short_reason,
    transfer,
)

__all__ = ["NoAnswerError", "download"]

METADATA_TIMEOUT_S = 10.0
SHA256 = re.compile(r"[0-9a-f]{64}")


class NoAnswerError(ModelError):
    """The hub cannot be reached, or has no such file; nothing was fetched."""


def download(entry: CatalogEntry, folder: Path, *, endpoint: str | None = None, progress: bool = False) -> Download:
    """The weights of a known backbone in `folder`, complete and with the right checksum; see `transfer`.

    No wait is unbounded.

    Args:
        entry: The backbone.
        folder: Where the file, and the part of an unfinished one, lie.
        endpoint: Another hub than the usual one.
        progress: Whether a bar is drawn.

    Raises:
        NoAnswerError: The hub cannot be reached or has no such file.
        ModelError: Every other failure, in one line.
    """
    try:
        import huggingface_hub  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("huggingface-hub", "hub", "pulling a model") from error
    with _quiet(progress=progress), locked(entry.name, folder):
        file, metadata = _find(entry, endpoint)
        return transfer(_offer(entry, file, metadata), folder)


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
            said = f"the hub answers with {status}" if status else f"the hub cannot be reached ({short_reason(error)})"
            raise NoAnswerError(
                f"{entry.name}: {said}; try again later, or give a file: blemish models import PATH"
            ) from error
    files = " or ".join(entry.hub_files)
    raise NoAnswerError(f"{entry.name}: the hub has no {files} in {entry.hub_repository} (404)")


def _offer(entry: CatalogEntry, file: str, metadata: Any) -> Offer:
    known = entry.sha256.get(file)
    stated = metadata.etag if metadata.etag and SHA256.fullmatch(metadata.etag) else None
    expected = known or stated
    if expected is None:
        raise ModelError(f"{entry.name}: neither the catalog nor the hub states a sha256 of {file}; not pulled")
    if stated and stated != expected:
        raise ModelError(f"{entry.name}: {file}: expected sha256 {expected}, the hub offers {stated}; not pulled")

    def get(into: BinaryIO, start: int) -> None:
        from huggingface_hub.file_download import http_get

        try:
            http_get(
                metadata.location,
                into,
                resume_size=start,
                headers=dict(HEADERS),
                expected_size=metadata.size,
                displayed_filename=f"{entry.name} {file.split('.', maxsplit=1)[0]}",
            )
        except _network_errors() as error:
            raise InterruptedTransferError(short_reason(error), refused=_status(error) is not None) from error

    return Offer(
        model=entry.name,
        file=file,
        sha256=expected,
        from_catalog=known is not None,
        size=metadata.size,
        get=get,
        revision=metadata.commit_hash or "",
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
