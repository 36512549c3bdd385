"""A run read back: what run.json says, its records one by one, its inspections."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, overload

from blemish.calibration import Setup
from blemish.errors import ImageError, UnknownNameError, UsageError
from blemish.io.json_files import read_json, read_json_lines
from blemish.io.run_files import LINES_FILE, PARTS, RUN_FILE, RUN_SCHEMA, holds_run
from blemish.results import Inspection
from blemish.runs.maps import read_inspection
from blemish.runs.tables import read_parts

__all__ = ["Run", "read_records", "read_run", "results_from"]


@dataclass(frozen=True)
class Run:
    """A run of `blemish inspect` that has ended."""

    path: Path  # the folder of its results
    record: dict[str, Any]  # what run.json says (docs/results.md)

    @property
    def setup(self) -> Setup:
        """What decided its scores.

        Raises:
            UsageError: An earlier version made the run and did not record it.
        """
        try:
            return Setup.from_dict(self.record["setup"])
        except (KeyError, TypeError, UsageError) as error:
            raise UsageError(f"{self.path}: the run does not say how its scores were made: inspect again") from error

    def locate(self, source: str) -> str:
        """Where the image of a record is: its source, or below the folder that the run was made in."""
        made_in = self.record.get("made_in")
        number = source.partition("#")[2]  # of a page
        if made_in is None or os.path.isabs(source) or os.path.exists(source.removesuffix(f"#{number}")):  # noqa: PTH110, PTH117
            return source
        return os.path.join(made_in, source)  # noqa: PTH118  (names that are no valid text stay as they are)

    @property
    def min_lead(self) -> float:
        """A type that leads the next by less is unknown, 0..1; 0 in runs of versions that knew no such line."""
        return float(self.record.get("min_lead", 0.0))


def read_run(path: str | Path) -> Run:
    """The run in a folder of results.

    Raises:
        UsageError: There is none, or it has not ended.
    """
    path = Path(path).expanduser()
    if not holds_run(path):
        raise UsageError(f"{path}: holds no run of blemish inspect")
    record = read_json(path / RUN_FILE)
    if record.get("schema") != RUN_SCHEMA:
        raise UsageError(f"{path}: is a run of another version ({record.get('schema')}, not {RUN_SCHEMA})")
    if record.get("status") == "running":
        raise UsageError(f"{path}: the run has not ended, or was killed (blemish inspect --resume goes on with it)")
    return Run(path, record)


def read_records(path: str | Path) -> Iterator[dict[str, Any]]:
    """The records of the run in a folder, one by one; UsageError where they are not there."""
    path = Path(path)
    if not (path / LINES_FILE).exists() and (path / PARTS).is_dir():
        return read_parts(path / PARTS)
    return read_json_lines(path / LINES_FILE)


@overload
def results_from(run: str | Path, *, on_error: Literal["raise", "skip"] = ...) -> Iterator[Inspection]: ...
@overload
def results_from(run: str | Path, *, on_error: Literal["record"]) -> Iterator[Inspection | ImageError]: ...


def results_from(run: str | Path, *, on_error: Literal["raise", "skip", "record"] = "skip") -> Iterator[Any]:
    """The inspections of a finished run, one by one, in the order of its images.

    Args:
        run: The folder of its results.
        on_error: What becomes of images that could not be inspected: "skip" leaves them out, "record" gives an ImageError in
            their place, "raise" ends with it.

    Returns:
        An iterator of inspections. They have their maps where the run kept them (`keep_maps`); else their anomaly map is
        empty, and `map_at_original` and `mask` say so. Type scores are rounded to 6 digits, as in the records.

    Raises:
        UsageError: The folder holds no finished run, or the maps of another one.
        ImageError: An image could not be inspected, with `on_error="raise"`.

    Example:
        >>> for inspection in results_from("results"):
        ...     print(inspection.source, inspection.verdict, bool(inspection.regions))
        parts/bad.png ng True
        parts/good.png ok False
    """
    if on_error not in ("raise", "skip", "record"):
        raise UnknownNameError("on_error", str(on_error), ("raise", "skip", "record"))
    return _results(read_run(run), on_error)


def _results(run: Run, on_error: str) -> Iterator[Any]:
    for record in read_records(run.path):
        if record["verdict"] is not None:
            yield read_inspection(record, run.path, min_lead=run.min_lead)
            continue
        error = ImageError(record["source"], record["error"])
        if on_error == "raise":
            raise error
        if on_error == "record":
            yield error
