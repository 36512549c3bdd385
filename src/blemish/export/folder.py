"""A folder of results: records and tables as they come, pictures in background threads, run.json at the end."""

from __future__ import annotations

import csv
import json
import shutil
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any, Self

import numpy as np

from blemish.atomic import make_folder, reason, write_text
from blemish.errors import OutputError, UsageError
from blemish.export.records import CSV_COLUMNS, csv_row, json_line, json_text
from blemish.images import Picture, save
from blemish.report.overlay import draw_overlay
from blemish.results import Inspection

__all__ = ["DEFAULT_NAME", "RUN_SCHEMA", "ResultsFolder", "choose_folder"]

DEFAULT_NAME = "blemish-results"
RUN_SCHEMA = "blemish.run/1"
RUN_FILE, LINES_FILE, TABLE_FILE, OVERLAYS, MASKS = "run.json", "results.jsonl", "results.csv", "overlays", "masks"
MOST_WAITING, MOST_WAITING_BYTES = 8, 256 * 2**20  # pictures to be written, at most (one may exceed the bytes)


def choose_folder(out: str | Path | None, *, overwrite: bool = False) -> Path:
    """The folder that results go to: `out`, which must be new or empty, or the first free `blemish-results[-N]` here.

    With `overwrite`, an `out` that holds an earlier run is taken too; anything else in it stays.
    """
    if out is None:
        number, path = 1, Path(DEFAULT_NAME)
        while path.exists():
            number += 1
            path = Path(f"{DEFAULT_NAME}-{number}")
        return path
    path = Path(out).expanduser()
    if path.exists() and not path.is_dir():
        raise OutputError(f"{path}: is a file, not a folder; choose another place with --out")
    if path.is_dir() and any(path.iterdir()) and not (overwrite and _holds_run(path)):
        hint = "--overwrite replaces it" if _holds_run(path) else "choose a new or empty one"
        raise UsageError(f"{path}: the folder is not empty; results of two runs are never mixed: {hint}")
    return path


class ResultsFolder:
    """Writes a run into a folder; use it in a `with` block, which waits for pictures still being written.

    run.json is there from the beginning with the status "running", so that a folder of results can be told from images.
    """

    def __init__(self, path: Path, run: Mapping[str, Any]) -> None:
        self.path = path
        make_folder(path)
        if _holds_run(path):
            _clear(path)
        write_text(path / RUN_FILE, json_text({"schema": RUN_SCHEMA, "status": "running", **run}))
        try:
            self._lines = (path / LINES_FILE).open("w", encoding="utf-8", newline="\n")
            self._table_file = (path / TABLE_FILE).open("w", encoding="utf-8", newline="")
        except OSError as error:
            raise OutputError(f"{path}: cannot be written ({reason(error)})") from error
        self._table = csv.DictWriter(self._table_file, CSV_COLUMNS, lineterminator="\n")
        self._table.writeheader()
        self._pool = ThreadPoolExecutor(2, thread_name_prefix="blemish-write")
        self._waiting: deque[tuple[Future[None], int]] = deque()  # and the bytes that each holds

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=kind is not None)
        self._lines.close()
        self._table_file.close()
        if kind is None:
            self._wait(0)

    def add(self, inspection: Inspection, picture: Picture, name: PurePosixPath) -> dict[str, Any]:
        """Write one inspection under `name` (relative, no suffix); its record, with the places of its pictures."""
        overlay, mask = f"{OVERLAYS}/{name}.jpg", f"{MASKS}/{name}.png"
        record = {**inspection.to_dict(), "overlay": overlay, "mask": mask}
        try:
            self._lines.write(json_line(record) + "\n")
            self._table.writerow(csv_row(record))
        except OSError as error:
            raise OutputError(f"{self.path}: cannot be written ({reason(error)})") from error
        pixels = picture.pixels.nbytes
        while self._waiting and sum(held for _, held in self._waiting) + pixels > MOST_WAITING_BYTES:
            self._wait(len(self._waiting) - 1)
        job = self._pool.submit(self._write_pictures, inspection, picture, overlay, mask)
        self._waiting.append((job, pixels))
        self._wait(MOST_WAITING)
        return record

    def finish(self, run: Mapping[str, Any], *, status: str = "finished") -> None:
        """Wait for the pictures and put the final run.json in place."""
        self._wait(0)
        self._lines.flush()
        self._table_file.flush()
        write_text(self.path / RUN_FILE, json_text({"schema": RUN_SCHEMA, "status": status, **run}))

    def _wait(self, most: int) -> None:
        while len(self._waiting) > most:
            self._waiting.popleft()[0].result()

    def _write_pictures(self, inspection: Inspection, picture: Picture, overlay: str, mask: str) -> None:
        scores = inspection.map_at_original()
        save(draw_overlay(picture, inspection, scores=scores), self.path / overlay)
        save((scores >= np.float32(inspection.thresholds.pixel)).astype(np.uint8) * 255, self.path / mask)


def _holds_run(path: Path) -> bool:
    try:
        run = json.loads((path / RUN_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(run, dict) and str(run.get("schema", "")).startswith("blemish.run/")


def _clear(path: Path) -> None:
    """Removes what an earlier run wrote into `path`, and nothing else."""
    try:
        for name in (RUN_FILE, LINES_FILE, TABLE_FILE):
            (path / name).unlink(missing_ok=True)
        for name in (OVERLAYS, MASKS):
            if (path / name).is_dir():
                shutil.rmtree(path / name)
    except OSError as error:
        raise OutputError(f"{path}: the earlier run cannot be removed ({reason(error)})") from error
