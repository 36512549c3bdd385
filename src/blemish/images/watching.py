"""Files as they arrive in folders."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from blemish.errors import UsageError
from blemish.images.files import FoundImage, images_in, paged

__all__ = ["POLL_S", "watch_images"]

POLL_S = 0.5


def watch_images(
    folders: Iterable[str | Path],
    *,
    skip: Path | None = None,
    known: Iterable[str] = (),
    for_s: float | None = None,
    poll_s: float = POLL_S,
) -> Iterator[FoundImage]:
    """The images in folders (recursive) as they arrive, those that are there first, each path once; `known` ones are not given.

    Folders are looked through every `poll_s` seconds. A file is given when neither its size nor its time has changed between two
    looks, so that one which is still being copied is waited for. Ends when none has come for `for_s` seconds, and on Ctrl-C.
    UsageError where one of `folders` is none.
    """
    watched = [Path(folder).expanduser() for folder in folders]
    for folder in watched:
        if not folder.is_dir():
            raise UsageError(f"{folder}: --watch takes folders, and this is none")
    return _arrivals(watched, skip, set(known), for_s, poll_s)


def _arrivals(
    folders: Sequence[Path], skip: Path | None, given: set[str], for_s: float | None, poll_s: float
) -> Iterator[FoundImage]:
    before: dict[Path, tuple[int, int]] = {}
    last = time.monotonic()
    while True:
        states: dict[Path, tuple[int, int]] = {}
        for image in (image for folder in folders for image in images_in(folder, skip)):
            state = None if image.path.as_posix() in given else _state(image.path)
            if state is None:
                continue
            states[image.path] = state
            if before.get(image.path) == state:
                given.add(image.path.as_posix())
                yield from (page for page in paged(image) if page == image or page.path.as_posix() not in given)
                last = time.monotonic()
        before = states
        waiting = any(path.as_posix() not in given for path in states)
        if for_s is not None and not waiting and time.monotonic() - last >= for_s:
            return
        try:
            time.sleep(poll_s)
        except KeyboardInterrupt:
            return


def _state(path: Path) -> tuple[int, int] | None:
    """What changes while a file is written; None where it is gone again, or still empty."""
    try:
        status = path.stat()
    except OSError:
        return None
    return (status.st_size, status.st_mtime_ns) if status.st_size else None
