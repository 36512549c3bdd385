"""A folder of results: records and tables as they come, pictures in background threads, run.json first and last."""

from __future__ import annotations

import csv
import os
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any, Self, TextIO

from blemish.errors import ImageError, OutputError, UsageError
from blemish.inspection.inspector import Inspected
from blemish.io.atomic import make_folder, reason, write_text
from blemish.io.json_files import json_line, json_text, read_json_if_there
from blemish.io.run_files import (
    LEARNED_FILE,
    LINES_FILE,
    MANIFEST_FILE,
    MAPS,
    MASKS,
    OVERLAYS,
    PARQUET_FILE,
    PARTS,
    RUN_FILE,
    RUN_SCHEMA,
    TABLE_FILE,
    holds_run,
)
from blemish.runs.counts import RunCounts
from blemish.runs.header import RunHeader
from blemish.runs.pictures import PictureWriter
from blemish.runs.reading import read_records
from blemish.runs.records import CSV_COLUMNS, csv_row, error_record
from blemish.runs.resume import began_only, check_identity, open_locked, recover
from blemish.runs.tables import check_parquet, write_csv, write_parquet

__all__ = ["DEFAULT_NAME", "ResultsFolder", "check_out", "clear_run", "free_results_folder"]

DEFAULT_NAME = "blemish-results"
MOST_WAITING, MOST_WAITING_BYTES = 8, 256 * 2**20  # pictures to be written, at most (one may exceed the bytes)


def check_out(out: str | Path, *, overwrite: bool = False, resume: bool = False) -> Path:
    """`out` as a path that results may go to: new or empty or, with `overwrite` or `resume`, a folder with an earlier run."""
    path = Path(out).expanduser()
    if path.exists() and not path.is_dir():
        raise OutputError(f"{path}: is a file, not a folder; choose another folder with --out")
    if path.is_dir() and any(path.iterdir()):
        if ((overwrite or resume) and holds_run(path)) or (resume and began_only(path)):
            return path
        hint = "--overwrite replaces it, --resume goes on" if holds_run(path) else "choose a new or empty one"
        raise UsageError(f"{path}: the folder is not empty; results of two runs are never mixed: {hint}")
    return path


class ResultsFolder:
    """Writes a run into a folder; use it in a `with` block, which waits for pictures still being written.

    run.json is there from the beginning, so that a folder of results can be told from images, and is written again at the end.
    The record of an image is appended to results.jsonl, in the order of the images, once its pictures are there.

    Args:
        out: A folder as `check_out` allows it; None makes the first free `blemish-results[-N]` here.
        header: What run.json says from the beginning.
        overwrite: An earlier run in `out` is removed; anything else in the folder stays.
        keep_maps: The raw maps are kept, to find regions again.
        parquet: The table is written as Parquet, too, at the end.
        resume: A run that was begun in `out` with the same identity goes on: its first records, as far as they and their
            pictures are complete, stay (`resumed` of them), and the other images are to be added again.
        identity: What a run that resumes this one must have in common with it.
        on_record: Is called with each new record, once it is written.

    Raises:
        UsageError: The folder holds something else, or another run.
        OutputError: The system refuses to write.
    """

    def __init__(
        self,
        out: str | Path | None,
        header: RunHeader,
        *,
        overwrite: bool = False,
        keep_maps: bool = False,
        parquet: bool = False,
        resume: bool = False,
        identity: Mapping[str, Any] | None = None,
        on_record: Callable[[Mapping[str, Any]], None] | None = None,
    ) -> None:
        if parquet:
            check_parquet()
        self.path = free_results_folder() if out is None else check_out(out, overwrite=overwrite, resume=resume)
        self.counts = RunCounts()
        self.pictures = PictureWriter(self.path, keep_maps=keep_maps)
        self.resumed = 0
        self.workers: int | None = None  # processes that inspect: of the run that is resumed, then of this one
        self._started = time.perf_counter()
        self._header = header
        self._parquet = parquet
        self._identity = identity
        self._on_record = on_record
        make_folder(self.path)
        if resume and holds_run(self.path):
            self._lines, self._table_file = self._open_again(identity or {})
        else:
            self._lines, self._table_file = self._open_new(overwrite=overwrite, resume=resume)
        self._table = csv.DictWriter(self._table_file, CSV_COLUMNS, lineterminator="\n")
        self._pool = ThreadPoolExecutor(2, thread_name_prefix="blemish-write")
        self._waiting: deque[_Waiting] = deque()

    def _open_new(self, *, overwrite: bool, resume: bool) -> tuple[TextIO, TextIO]:
        if overwrite and holds_run(self.path):
            clear_run(self.path)
        with self._opening() as opened:
            try:
                (self.path / LINES_FILE).touch(exist_ok=resume)  # whose lock decides then
            except FileExistsError as error:
                raise UsageError(f"{self.path}: another run has begun to write there; choose a new folder") from error
            lines = opened.enter_context(open_locked(self.path / LINES_FILE))
            self._write_run("running")
            write_csv((), self.path / TABLE_FILE)
            table = opened.enter_context(
                (self.path / TABLE_FILE).open("a", encoding="utf-8", errors="backslashreplace", newline="")
            )
        return lines, table

    def _open_again(self, identity: Mapping[str, Any]) -> tuple[TextIO, TextIO]:
        check_identity(self.path, identity)
        with self._opening() as opened:
            lines = opened.enter_context(open_locked(self.path / LINES_FILE))
            self.workers = read_json_if_there(self.path / RUN_FILE).get("workers")
            self.resumed = recover(self.path)
            for record in read_records(self.path):
                self.counts.add(record)
            self._write_run("running")
            write_csv(read_records(self.path), self.path / TABLE_FILE)
            table = opened.enter_context(
                (self.path / TABLE_FILE).open("a", encoding="utf-8", errors="backslashreplace", newline="")
            )
        return lines, table

    @contextmanager
    def _opening(self) -> Iterator[ExitStack]:
        """Files entered into it stay open if all goes well, and only then; what the system refuses is an OutputError."""
        with ExitStack() as opened:
            try:
                yield opened
            except OSError as error:
                raise _unwritable(self.path, error) from error
            opened.pop_all()

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

    def add(self, inspected: Inspected, name: PurePosixPath) -> None:
        """Writes one inspection, its pictures under `name` (relative, without suffix)."""
        picture, part = inspected.picture, inspected.part
        held = picture.pixels.nbytes + (0 if part is None else part.scores.nbytes)
        while self._waiting and sum(each.held_bytes for each in self._waiting) + held > MOST_WAITING_BYTES:
            self._write_first()
        job = self._pool.submit(self.pictures.write, inspected, self.pictures.record_of(inspected, name))
        self._waiting.append(_Waiting(job, held))
        self._write_done()

    def add_error(self, error: ImageError) -> None:
        """Writes that an image could not be inspected, as a record in its turn."""
        header = self._header
        self.add_record(error_record(error, thresholds=header.thresholds, model=header.model))

    def add_record(self, record: dict[str, Any]) -> None:
        """Writes a record whose pictures are there, or that has none."""
        job: Future[dict[str, Any]] = Future()
        job.set_result(record)
        self._waiting.append(_Waiting(job))
        self._write_done()

    def _write_done(self) -> None:
        """Appends the records whose pictures are there, and waits for the first ones where too many are not."""
        while self._waiting and (len(self._waiting) > MOST_WAITING or self._waiting[0].job.done()):
            self._write_first()

    def _write_first(self) -> None:
        record = self._waiting.popleft().job.result()
        try:
            self._lines.write(json_line(record) + "\n")
            self._lines.flush()
            self._table.writerow(csv_row(record))
        except OSError as error:
            raise _unwritable(self.path, error) from error
        self.counts.add(record)
        if self._on_record is not None:
            self._on_record(record)

    def _finish(self, status: str) -> None:
        try:
            while self._waiting and status != "failed":
                self._write_first()
        finally:
            self._close()
        if self._parquet:
            write_parquet(read_records(self.path), self.path / PARQUET_FILE)
        self._write_run(status)

    def _close(self) -> None:
        """Closes the tables; what the system could not write until now becomes an OutputError."""
        failure: OSError | None = None
        for file in (self._lines, self._table_file):
            try:
                with suppress(OSError):  # a file system without it
                    os.fsync(file.fileno())
                file.close()
            except OSError as error:
                failure = error
        if failure is not None:
            raise _unwritable(self.path, failure) from failure

    def _write_run(self, status: str) -> None:
        duration_s = time.perf_counter() - self._started
        run = {"schema": RUN_SCHEMA, "status": status, **self._header.to_dict(self.counts, duration_s=duration_s)}
        if self.workers is not None:
            run["workers"] = self.workers
        if self._identity is not None:
            run["identity"] = self._identity
        write_text(self.path / RUN_FILE, json_text(run))


@dataclass(frozen=True)
class _Waiting:
    """A record that is appended when its pictures, a job that holds so many bytes, are written."""

    job: Future[dict[str, Any]]
    held_bytes: int = 0


def free_results_folder() -> Path:
    """The first free `blemish-results[-N]` here; made at once, so that a run beside this one takes the next."""
    number, path = 1, Path(DEFAULT_NAME)
    while True:
        try:
            path.mkdir()
        except FileExistsError:
            number += 1
            path = Path(f"{DEFAULT_NAME}-{number}")
        except OSError as error:
            raise OutputError(f"{path}: cannot be made ({reason(error)}); choose another folder with --out") from error
        else:
            return path


def _unwritable(path: Path, error: OSError) -> OutputError:
    return OutputError(f"{path}: cannot be written ({reason(error)})")


def clear_run(path: Path) -> None:
    """Removes what an earlier run wrote into `path`, and nothing else."""
    try:
        for name in (RUN_FILE, LINES_FILE, TABLE_FILE, PARQUET_FILE, MANIFEST_FILE, LEARNED_FILE):
            (path / name).unlink(missing_ok=True)
        for name in (OVERLAYS, MASKS, MAPS, PARTS):
            if (path / name).is_dir():
                shutil.rmtree(path / name)
    except OSError as error:
        raise OutputError(f"{path}: the earlier run cannot be removed ({reason(error)})") from error
