"""Labels that only the masks know: an image is normal where its mask is empty."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from blemish import images
from blemish.data.scan import Scan
from blemish.errors import ImageError

__all__ = ["shows_something"]


def shows_something(scan: Scan, files: Sequence[Path], threshold: int | None) -> bool | None:
    """Whether one of the masks has foreground; None, and a report, where one cannot be read."""
    try:
        return any(bool(images.read_mask(file).above(threshold).any()) for file in files)
    except ImageError as error:
        scan.report(Path(error.source), f"{error.reason}; so nobody knows whether its image is normal: left out")
        return None
