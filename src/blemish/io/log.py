"""A log that survives a kill: a JSON object a line, cut back to what the last saved state speaks of."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from blemish.errors import OutputError
from blemish.io.atomic import reason

__all__ = ["Log", "read_log"]


class Log:
    """Appends lines to a log. `cut_to` bytes of what is there are kept: what a killed run wrote after its last state goes."""

    def __init__(self, path: Path, *, cut_to: int) -> None:
        self.path = path
        try:
            self._file = path.open("ab")
            self._file.truncate(min(cut_to, path.stat().st_size))  # more would fill a log that was lost with zeros
        except OSError as error:
            raise self._refused(error) from error

    def write(self, record: Mapping[str, Any]) -> None:
        try:
            self._file.write(json.dumps(record, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n")
        except OSError as error:
            raise self._refused(error) from error

    def sync(self) -> int:
        """The length of the log in bytes, once all of it is on the disk."""
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise self._refused(error) from error
        return self.path.stat().st_size

    def close(self) -> None:
        try:
            self._file.close()
        except OSError as error:
            raise self._refused(error) from error

    def _refused(self, error: OSError) -> OutputError:
        return OutputError(f"{self.path}: cannot be written ({reason(error)}); the last state stays, run it again")


def read_log(path: Path) -> list[dict[str, Any]]:
    """The records of a log; a last line that a kill tore is left out."""
    records = []
    for line in path.read_text(encoding="utf-8").split("\n"):
        try:
            records.append(json.loads(line))
        except ValueError:
            continue
    return records
