"""Notices of the system that something in a folder has changed, where it sends any."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

__all__ = ["Notices", "is_local"]

logger = logging.getLogger(__name__)

# File systems on which other machines write, of which the system then says nothing.
REMOTE = (
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "smbfs",
    "9p",
    "ceph",
    "glusterfs",
    "fuse",
    "virtiofs",
    "vboxsf",
    "drvfs",
    "afs",
)
MOUNTS = Path("/proc/self/mountinfo")
TOGETHER_MS = 50  # changes that come as close as this are one notice
CLOSING_MS = 500  # how soon the thread sees that it is to end


class Notices:
    """Watches a folder by watchfiles, in a thread. `is_alive` is False where there are none: then look again and again.

    Args:
        folder: what is watched, with all below it.
    """

    def __init__(self, folder: Path) -> None:
        self.is_alive = is_local(folder)
        self._folder = folder
        self._changed = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="blemish-notices", daemon=True)
        if self.is_alive:
            self._thread.start()

    def wait(self, limit_s: float) -> None:
        """Returns when something has changed since the last call, when it is closed, and after so many seconds."""
        self._changed.wait(limit_s)
        self._changed.clear()

    def close(self) -> None:
        """Ends the watch, and whoever waits."""
        self._closing.set()
        self._changed.set()

    def _watch(self) -> None:
        try:
            from watchfiles import watch

            changes = watch(
                self._folder,
                watch_filter=None,
                debounce=10 * TOGETHER_MS,
                step=TOGETHER_MS,
                stop_event=self._closing,
                rust_timeout=CLOSING_MS,
                raise_interrupt=False,
            )
            for _ in changes:
                self._changed.set()
        except (ImportError, OSError, RuntimeError) as error:  # as too many folders for the system's limit
            logger.warning("%s: the system sends no notices (%s); it is looked through instead", self._folder, error)
        finally:
            self.is_alive = False
            self._changed.set()


def is_local(folder: Path, *, mounts: Path = MOUNTS) -> bool:
    """Whether this machine alone writes on the folder's file system; True where the system does not say."""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return True
    place, kind = Path("/"), ""
    for line in lines:  # 36 35 98:0 / /mnt/parts rw shared:1 - nfs4 server:/parts rw
        head, _, tail = line.partition(" - ")
        point = Path(head.split(" ")[4].replace("\\040", " "))
        if folder.resolve().is_relative_to(point) and point.is_relative_to(place):
            place, kind = point, tail.split(" ")[0]
    return kind.partition(".")[0] not in REMOTE
