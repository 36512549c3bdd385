"""A run of `blemish inspect` read back: what run.json says, and its records one by one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blemish.calibration import Setup
from blemish.errors import UsageError
from blemish.io.run_files import LINES_FILE, RUN_FILE, RUN_SCHEMA, holds_run

__all__ = ["Run", "read_records", "read_run"]


@dataclass(frozen=True)
class Run:
    """What run.json says; `setup` decided its scores."""

    path: Path
    record: dict[str, Any]

    @property
    def setup(self) -> Setup:
        """UsageError where an earlier version made the run and did not record it."""
        try:
            return Setup.from_dict(self.record["setup"])
        except (KeyError, TypeError, UsageError) as error:
            raise UsageError(f"{self.path}: the run does not say how its scores were made: inspect again") from error


def read_run(path: str | Path) -> Run:
    """The run in a folder of results; UsageError where there is none, or it has not ended."""
    path = Path(path).expanduser()
    if not holds_run(path):
        raise UsageError(f"{path}: holds no run of blemish inspect")
    record = json.loads((path / RUN_FILE).read_text(encoding="utf-8"))
    if record.get("schema") != RUN_SCHEMA:
        raise UsageError(f"{path}: is a run of another version ({record.get('schema')}, not {RUN_SCHEMA})")
    if record.get("status") == "running":
        raise UsageError(f"{path}: the run has not ended, or was killed (blemish inspect --resume goes on with it)")
    return Run(path, record)


def read_records(path: Path) -> Iterator[dict[str, Any]]:
    """The records of a run, one by one; UsageError where they are not there."""
    try:
        with (Path(path) / LINES_FILE).open(encoding="utf-8") as stream:
            for line in stream:
                if line.endswith("\n"):  # one without was torn off
                    yield json.loads(line)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: {LINES_FILE} cannot be read ({error})") from error
