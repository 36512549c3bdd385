"""A hot folder: images are taken when they have come to rest, once each, also over restarts.

The system's notices say when to look through the folder. Where other machines write on it, as on network shares, there are
none: then it is looked through again and again.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from blemish.images import watch_images
from blemish.images.pages import split_page
from blemish.serve.intake import Upload
from blemish.serve.sources.base import LineSource
from blemish.serve.sources.notices import Notices

__all__ = ["HotFolder"]

GONE_S = 5.0  # after which a folder that is not there is looked for again
LOOK_S = 10.0  # how often it is looked through without a notice, for one may be lost


class HotFolder(LineSource):
    """The images that arrive in a folder. The files stay where they are."""

    _notices: Notices | None = None

    def close(self) -> None:
        self._closing.set()
        if self._notices is not None:
            self._notices.close()
        super().close()

    def _work(self) -> None:
        folder = Path(self.config.path or "")
        while not folder.is_dir():
            self.problem = f"{folder}: the folder is not there"
            if self._closing.wait(GONE_S):
                return
        self.problem = None
        self._notices = notices = Notices(folder)

        def wait(poll_s: float, is_waiting: bool) -> None:
            if is_waiting or not notices.is_alive:
                self._closing.wait(poll_s)
            else:
                notices.wait(LOOK_S)

        try:
            for image in watch_images([folder], rest_s=self.config.settle_s, stop=self._closing, wait=wait):
                path, page = split_page(image.path)
                if page is None or page == 1:  # of a file with several images the first is inspected
                    self._take_file(folder, Path(path))
        finally:
            notices.close()

    def _take_file(self, folder: Path, path: Path) -> None:
        try:
            state = path.stat()
            name = path.relative_to(folder).as_posix()
            with path.open("rb") as stream:
                self._take(Upload(name, stream, self._key(name, state.st_size, state.st_mtime_ns)), wait=True)
        except OSError as error:  # it was moved away meanwhile
            self.problem = f"{path.name}: {error}"

    def _key(self, name: str, size: int, changed_ns: int) -> str:
        """What tells a file from all others, and from itself when it was written again."""
        facts = f"{name}\0{size}\0{changed_ns}".encode("utf-8", "surrogateescape")
        return f"folder:{self.config.name[:40]}:{hashlib.sha256(facts).hexdigest()[:40]}"
