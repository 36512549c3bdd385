"""How data sets lie on disk: one module for each layout, with `fits` and `read`."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from blemish.data.entries import Entry
from blemish.data.files import FileSample
from blemish.data.layouts import folders, mvtec
from blemish.data.scan import Scan

__all__ = ["LAYOUTS", "Layout"]


class Layout(Protocol):
    """What a module of this package offers."""

    def fits(self, root: Path, entry: Entry, *, sure: bool) -> bool:
        """Whether the data set lies at `root`; with `sure`, nothing there may speak against it."""
        ...

    def read(self, scan: Scan, entry: Entry) -> list[FileSample]:
        """The samples below the root of `scan`, which takes note of what is wrong."""
        ...


LAYOUTS: dict[str, Layout] = {"mvtec": mvtec, "folders": folders}
