"""A folder of results: records and tables as they come, pictures in background threads, run.json first and last."""

from __future__ import annotations

import csv
import errno
import shutil
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any, Self

import numpy as np

from blemish.atomic import make_folder, reason, write_text
from blemish.errors import ImageError, OutputError, UsageError
from blemish.export.maps import write_maps
from blemish.export.records import CSV_COLUMNS, csv_row, json_line, json_text
from blemish.images import Picture, save
from blemish.layout import LINES_FILE, MAPS, MASKS, OVERLAYS, RUN_FILE, RUN_SCHEMA, TABLE_FILE, holds_run
from blemish.report.overlay import draw_overlay
from blemish.results import Inspection

__all__ = ["DEFAULT_NAME", "ResultsFolder", "check_out"]

DEFAULT_NAME = "blemish-results"
MOST_WAITING, MOST_WAITING_BYTES = 8, 256 * 2**20  # pictures to be written, at most (one may exceed the bytes)
JPEG_MOST_PX = 65_500  # what libjpeg writes, across or down
# What the name or the size of one picture can cause (None: Pillow's encoder); anything else befalls all that follow.
OF_ONE_PICTURE = {
    *(None, errno.EINVAL, errno.EILSEQ, errno.ENAMETOOLONG),
    *(errno.ENOENT, errno.EEXIST, errno.ENOTDIR, errno.EISDIR),
}


def check_out(out: str | Path, *, overwrite: bool = False) -> Path:
    """`out` as a path that results may go to: new or empty or, with `overwrite`, a folder that holds an earlier run."""
    path = Path(out).expanduser()
    if path.exists() and not path.is_dir():
        raise OutputError(f"{path}: is a file, not a folder; choose another place with --out")
    if path.is_dir() and any(path.iterdir()) and not (overwrite and holds_run(path)):
        hint = "--overwrite replaces it" if holds_run(path) else "choose a new or empty one"
        raise UsageError(f"{path}: the folder is not empty; results of two runs are never mixed: {hint}")
    return path


class ResultsFolder:
    """Writes a run into a folder; use it in a `with` block, which waits for pictures still being written.

    `out` is a folder as `check_out` allows it; None makes the first free `blemish-results[-N]` here. An earlier run is
    removed with `overwrite` only, and anything else in the folder stays. `record` gives the content of run.json, which
    is there from the beginning, so that a folder of results can be told from images, and again at the end. `unwritten`
    lists images whose pictures could not be written. With `keep_maps` the raw maps are kept, to find regions again.
    """

    def __init__(
        self,
        out: str | Path | None,
        record: Callable[[], Mapping[str, Any]],
        *,
        overwrite: bool = False,
        keep_maps: bool = False,
    ) -> None:
        self.path = _new_folder() if out is None else check_out(out, overwrite=overwrite)
        self.unwritten: list[ImageError] = []
        self.keep_maps = keep_maps
        self._record = record
        make_folder(self.path)
        if overwrite and holds_run(self.path):
            _clear(self.path)
        try:
            (self.path / LINES_FILE).touch(exist_ok=False)
        except FileExistsError as error:
            raise UsageError(f"{self.path}: another run has begun to write there; choose a new folder") from error
        except OSError as error:
            raise _unwritable(self.path, error) from error
        self._write_run("running")
        try:
            self._lines = (self.path / LINES_FILE).open("w", encoding="utf-8", newline="\n")
            self._table_file = (self.path / TABLE_FILE).open("w", encoding="utf-8", newline="")
        except OSError as error:
            raise _unwritable(self.path, error) from error
        self._table = csv.DictWriter(self._table_file, CSV_COLUMNS, lineterminator="\n")
        self._table.writeheader()
        self._pool = ThreadPoolExecutor(2, thread_name_prefix="blemish-write")
        self._waiting: deque[tuple[Future[ImageError | None], int]] = deque()  # and the bytes that each holds

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        status = "finished" if kind is None else "interrupted" if issubclass(kind, KeyboardInterrupt) else "failed"
        self._pool.shutdown(wait=True, cancel_futures=status == "failed")
        try:
            self._finish(status)
        except OutputError:
            with suppress(OutputError):
                self._write_run("failed")
            if kind is None:  # else the error that ends the run says more
                raise

    def add(self, inspection: Inspection, picture: Picture, name: PurePosixPath) -> dict[str, Any]:
        """Write one inspection under `name` (relative, no suffix); its record, with the places of its pictures."""
        too_large = max(inspection.width_px, inspection.height_px) > JPEG_MOST_PX
        overlay, mask = f"{OVERLAYS}/{name}{'.png' if too_large else '.jpg'}", f"{MASKS}/{name}.png"
        maps = f"{MAPS}/{name}.npz" if self.keep_maps else None
        record = {**inspection.to_dict(), "overlay": overlay, "mask": mask, "maps": maps}
        try:
            self._lines.write(json_line(record) + "\n")
            self._table.writerow(csv_row(record))
        except OSError as error:
            raise _unwritable(self.path, error) from error
        pixels = picture.pixels.nbytes
        while self._waiting and sum(held for _, held in self._waiting) + pixels > MOST_WAITING_BYTES:
            self._wait(len(self._waiting) - 1)
        job = self._pool.submit(self._write_pictures, inspection, picture, overlay, mask, maps)
        self._waiting.append((job, pixels))
        self._wait(MOST_WAITING)
        return record

    def _wait(self, most: int) -> None:
        while len(self._waiting) > most:
            problem = self._waiting.popleft()[0].result()
            if problem is not None:
                self.unwritten.append(problem)

    def _write_pictures(
        self, inspection: Inspection, picture: Picture, overlay: str, mask: str, maps: str | None
    ) -> ImageError | None:
        """Writes overlay, mask and maps; an ImageError where this image alone stands in the way, an OutputError else."""
        try:
            if maps is not None:
                write_maps(inspection, self.path / maps)
            scores = inspection.map_at_original()
            save((scores >= np.float32(inspection.thresholds.pixel)).astype(np.uint8) * 255, self.path / mask)
            save(draw_overlay(picture, inspection, scores=scores), self.path / overlay)
        except MemoryError:
            return ImageError(inspection.source, "its pictures cannot be drawn (they do not fit into memory)")
        except OutputError as error:
            if isinstance(error.__cause__, OSError) and error.__cause__.errno in OF_ONE_PICTURE:
                return ImageError(inspection.source, f"its pictures cannot be written ({reason(error.__cause__)})")
            raise
        return None

    def _finish(self, status: str) -> None:
        try:
            if status != "failed":
                self._wait(0)
        finally:
            self._close()
        self._write_run(status)

    def _close(self) -> None:
        """Closes the tables; what the system could not write until now becomes an OutputError."""
        failure: OSError | None = None
        for file in (self._lines, self._table_file):
            try:
                file.close()
            except OSError as error:
                failure = error
        if failure is not None:
            raise _unwritable(self.path, failure) from failure

    def _write_run(self, status: str) -> None:
        unwritten = [{"source": error.source, "reason": error.reason} for error in self.unwritten]
        run = {"schema": RUN_SCHEMA, "status": status, **self._record(), "unwritten": unwritten}
        write_text(self.path / RUN_FILE, json_text(run))


def _new_folder() -> Path:
    """The first free `blemish-results[-N]` here; made at once, so that a run beside this one takes the next."""
    number, path = 1, Path(DEFAULT_NAME)
    while True:
        try:
            path.mkdir()
        except FileExistsError:
            number += 1
            path = Path(f"{DEFAULT_NAME}-{number}")
        except OSError as error:
            raise OutputError(f"{path}: cannot be made ({reason(error)}); choose another place with --out") from error
        else:
            return path


def _unwritable(path: Path, error: OSError) -> OutputError:
    return OutputError(f"{path}: cannot be written ({reason(error)})")


def _clear(path: Path) -> None:
    """Removes what an earlier run wrote into `path`, and nothing else."""
    try:
        for name in (RUN_FILE, LINES_FILE, TABLE_FILE):
            (path / name).unlink(missing_ok=True)
        for name in (OVERLAYS, MASKS, MAPS):
            if (path / name).is_dir():
                shutil.rmtree(path / name)
    except OSError as error:
        raise OutputError(f"{path}: the earlier run cannot be removed ({reason(error)})") from error
