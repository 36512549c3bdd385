"""Files as they arrive in folders."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from blemish.errors import ImageError, UsageError
from blemish.images.files import FoundImage, Search, paged
from blemish.images.pages import split_page

__all__ = ["POLL_S", "REST_S", "Arrivals", "watch_images"]

POLL_S = 0.5
REST_S = 1.0  # how long a file's size and time stay as they are before it is taken
RETRY_S = 10.0  # after which a file that could not be read, and has not changed, is given for the last time

State = tuple[int, int]  # size in bytes, time of the last change in nanoseconds


@dataclass
class _File:
    """What is known of one file."""

    state: State
    since: float  # when it was first seen like this
    given: State | None = None  # how it was when it was last given
    failed: float | None = None  # when it could not be read
    is_last: bool = False  # whether it is not given again unless it changes


def watch_images(
    folders: Iterable[str | Path],
    *,
    skip: Path | None = None,
    known: Iterable[str] = (),
    for_s: float | None = None,
    rest_s: float = REST_S,
    poll_s: float = POLL_S,
    stop: threading.Event | None = None,
    wait: Callable[[float, bool], None] | None = None,
) -> Arrivals:
    """The images in folders (recursive) as they arrive, those that are there first; `known` ones only when they change.

    Folders are looked through every `poll_s` seconds. A file is given when its size and time have stayed the same for `rest_s`
    seconds, so that one which is still being copied is waited for, and again when it was written again. It ends when none has
    come for `for_s` seconds, when `stop` is set, and on Ctrl-C. UsageError where one of `folders` is none.

    `wait(poll_s, whether a file is still being written)` may stand in for the pause between two looks, and return earlier.
    """
    watched = [Path(folder).expanduser() for folder in folders]
    for folder in watched:
        if not folder.is_dir():
            raise UsageError(f"{folder}: --watch takes folders, and this is none")
    return Arrivals(
        watched, skip=skip, known=set(known), for_s=for_s, rest_s=rest_s, poll_s=poll_s, stop=stop, wait=wait
    )


class Arrivals(Iterator[FoundImage]):
    """The images that `watch_images` gives, one after the other.

    Whoever reads them says with `failed` which could not be read: those are given again when they change, and once more
    when they have not for a while, or at the end.
    """

    def __init__(
        self,
        folders: Sequence[Path],
        *,
        skip: Path | None,
        known: set[str],
        for_s: float | None,
        rest_s: float,
        poll_s: float,
        stop: threading.Event | None = None,
        wait: Callable[[float, bool], None] | None = None,
    ) -> None:
        self._folders, self._skip, self._known = folders, skip, known
        self._for_s, self._rest_s, self._poll_s = for_s, rest_s, poll_s
        self._stop, self._wait = stop, wait
        self._files: dict[Path, _File] = {}
        self._search = Search(skip)
        self._given = self._run()

    def __iter__(self) -> Arrivals:
        return self

    def __next__(self) -> FoundImage:
        return next(self._given)

    @property
    def left_out(self) -> dict[str, int]:
        """How many files the last look passed over, by suffix."""
        return dict(self._search.left_out)

    @property
    def unlisted(self) -> tuple[ImageError, ...]:
        """The folders that the last look could not look into."""
        return tuple(self._search.unlisted.values())

    def failed(self, path: Path) -> bool:
        """Takes note that a file could not be read; whether it will be given again, so that this is not final."""
        file = self._files.get(Path(split_page(path)[0]))
        if file is None or file.is_last:
            return False
        file.failed = time.monotonic()
        return True

    def _run(self) -> Iterator[FoundImage]:
        last = time.monotonic()
        try:
            while True:
                for image, file in self._look():
                    if self._is_due(image, file):
                        yield from self._give(image, file)
                        last = time.monotonic()
                if self._for_s is not None and not self._is_waiting() and time.monotonic() - last >= self._for_s:
                    break
                if self._pause():
                    return
        except KeyboardInterrupt:  # the way to end it
            pass
        for image, file in self._look():
            if file.failed is not None:
                file.is_last = True
                yield from self._give(image, file)

    def _pause(self) -> bool:
        """Waits until the next look; whether it was stopped meanwhile."""
        if self._wait is not None:
            self._wait(self._poll_s, self._is_waiting())
            return self._stop is not None and self._stop.is_set()
        if self._stop is not None:
            return self._stop.wait(self._poll_s)
        time.sleep(self._poll_s)
        return False

    def _look(self) -> list[tuple[FoundImage, _File]]:
        """The images that are there, with what is known of them after this look."""
        self._search = Search(self._skip)
        now = time.monotonic()
        there: dict[Path, _File] = {}
        found: list[tuple[FoundImage, _File]] = []
        for image in (image for folder in self._folders for image in self._in(folder)):
            state = _state(image.path)
            if state is None or image.path in there:
                continue
            file = self._files.get(image.path) or _File(state, now, state if self._is_known(image) else None)
            if file.state != state:
                file.state, file.since, file.is_last = state, now, False
            there[image.path] = file
            found.append((image, file))
        self._files = there
        return found

    def _in(self, folder: Path) -> list[FoundImage]:
        """The images in a folder; none where it is gone, for a drive may come back."""
        try:
            return self._search.folder(folder)
        except UsageError:
            name = folder.as_posix()
            self._search.unlisted[name] = ImageError(name, "the folder cannot be listed")
            return []

    def _is_known(self, image: FoundImage) -> bool:
        name = image.path.as_posix()
        return name in self._known or f"{name}#1" in self._known

    def _is_due(self, image: FoundImage, file: _File) -> bool:
        """Whether a file is to be given now: it rests, and is new, has changed, or could not be read for the last time yet."""
        now = time.monotonic()
        if _state(image.path) != file.state or now - file.since < self._rest_s:
            return False
        if file.given != file.state:
            return True
        if file.failed is not None and now - file.failed >= RETRY_S:
            file.is_last = True
            return True
        return False

    def _give(self, image: FoundImage, file: _File) -> Iterator[FoundImage]:
        file.given, file.failed = file.state, None
        yield from paged(image)

    def _is_waiting(self) -> bool:
        """Whether a file is still being written."""
        return any(file.given != file.state for file in self._files.values())


def _state(path: Path) -> State | None:
    """What changes while a file is written; None where it is gone again, or still empty."""
    try:
        status = path.stat()
    except OSError:
        return None
    return (status.st_size, status.st_mtime_ns) if status.st_size else None
