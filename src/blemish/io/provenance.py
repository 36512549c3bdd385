"""With what something was made: the command, the versions, the commit, the time."""

from __future__ import annotations

import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from blemish._version import __version__

__all__ = ["command_line", "commit", "utc_now", "versions"]

LIBRARIES = ("torch", "numpy", "pillow")
GIT_LIMIT_S = 30


def command_line() -> list[str]:
    """The command that this process runs, word by word."""
    return list(sys.argv)


def versions() -> dict[str, str]:
    """The versions of Blemish, Python and the libraries that compute; none of them is imported.

    Example:
        >>> sorted(versions())[:2]
        ['blemish', 'numpy']
    """
    found = {"blemish": __version__, "python": platform.python_version()}
    for library in LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            continue
    return found


def commit() -> str | None:
    """The git commit of this source, with a remark where files differ from it; None outside a checkout."""
    here = Path(__file__)

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(here.parent), *arguments],
                capture_output=True,
                text=True,
                check=False,
                timeout=GIT_LIMIT_S,
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    if git("ls-files", "--error-unmatch", here.name) is None:  # installed, perhaps inside another project's checkout
        return None
    head, changed = git("rev-parse", "HEAD"), git("status", "--porcelain", "--untracked-files=no")
    return f"{head} with uncommitted changes" if head and changed else head


def utc_now() -> str:
    """The time as ISO 8601 in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
