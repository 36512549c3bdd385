"""A run: images through an inspector into a folder of results."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

from blemish.config import Config
from blemish.errors import ImageError, UsageError
from blemish.images import FoundImage, find_images, watch_images
from blemish.inspection.inspector import Inspected, Inspector
from blemish.inspection.load import load, merge
from blemish.io.progress import Reporter
from blemish.results import Thresholds
from blemish.runs.counts import RunCounts
from blemish.runs.folder import ResultsFolder, check_out
from blemish.runs.header import header_of, identity_of
from blemish.runs.names import arriving_name, output_names
from blemish.runs.records import error_record, record_of

__all__ = ["FinishedRun", "inspect_folder", "inspect_images"]

OnRecord = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True, kw_only=True, eq=False)
class FinishedRun:
    """What a run came to."""

    path: Path | None  # the folder of results; None where no files were written
    counts: RunCounts
    resumed: int  # images that an earlier run had done
    thresholds: Thresholds
    references: str  # the images that all were compared with, "" for none


class RecordsOnly:
    """Stands for a folder of results where no files are written."""

    resumed = 0

    def __init__(self, inspector: Inspector, on_record: OnRecord | None) -> None:
        self.counts = RunCounts()
        self._inspector = inspector
        self._on_record = on_record

    def add(self, inspected: Inspected, _name: PurePosixPath) -> None:
        self._note(record_of(inspected.inspection))

    def add_error(self, error: ImageError) -> None:
        self._note(error_record(error, thresholds=self._inspector.thresholds, model=self._inspector.model))

    def _note(self, record: Mapping[str, Any]) -> None:
        self.counts.add(record)
        if self._on_record is not None:
            self._on_record(record)


def inspect_folder(
    images: str | Path | Iterable[str | Path],
    *,
    out: str | Path | None = None,
    config: Config | None = None,
    overwrite: bool = False,
    resume: bool = False,
    keep_maps: bool = False,
    parquet: bool = False,
    write_files: bool = True,
    watch: bool = False,
    watch_for_s: float | None = None,
    on_record: OnRecord | None = None,
    reporter: Reporter | None = None,
    command: Sequence[str] | None = None,
    **given: Any,
) -> FinishedRun:
    """Inspects images and writes a folder of results, as `blemish inspect` does.

    Args:
        images: A file, a folder (searched recursively), a pattern, or several of them.
        out: New or empty folder for the results; None for the first free `blemish-results[-N]` here.
        config: A configuration.
        overwrite: Replace an earlier run in `out`.
        resume: Go on with the run in `out` that was cut off; begin it where there is none.
        keep_maps: Keep the raw maps, so that `rethreshold` finds regions again and `results_from` reads them back.
        parquet: Write the table as results.parquet, too.
        write_files: False writes no files at all; records go to `on_record`.
        watch: `images` are folders; inspect images as they arrive there, until Ctrl-C.
        watch_for_s: Watch until none has come for so many seconds.
        on_record: Is called with the record of each image (docs/results.md).
        reporter: Is told how the work goes on.
        command: What run.json names as the command; by default that of this process.
        **given: Settings by their names, as `blemish.load` takes them; they come before those of `config`.

    Returns:
        The folder and the counts of the run. Images that could not be inspected are records with an error, and are listed in
        `counts.unreadable`.

    Raises:
        UsageError: An image, an option or a folder is not what was asked for.
        OutputError: The results cannot be written.

    Example:
        >>> run = inspect_folder("parts", out="results", threshold=0.6)
        >>> run.counts.verdicts["ng"], run.path.name
        (1, 'results')
    """
    watch = watch or watch_for_s is not None
    if resume and (out is None or overwrite):
        raise UsageError("--resume takes the folder of the run, --out, and goes without --overwrite")
    config = merge(config, given)
    out = None if out is None else check_out(out, overwrite=overwrite, resume=resume)
    named = [images] if isinstance(images, str | Path) else list(images)
    arrivals = watch_images(named) if watch else None  # says at once what is no folder
    found = None if watch else find_images(named, skip=out)
    inspector = load(config.with_settings(batch_size=1) if watch else config)
    # the folder is made only now, so that a start that fails leaves none behind
    with (
        ResultsFolder(
            out,
            header_of(inspector, config=config, command=command),
            overwrite=overwrite,
            keep_maps=keep_maps,
            parquet=parquet,
            resume=resume,
            identity=identity_of(inspector, found, keep_maps=keep_maps),
            on_record=on_record,
        )
        if write_files
        else nullcontext(RecordsOnly(inspector, on_record))
    ) as results:
        reporter = reporter or Reporter()
        if found is not None:
            inspect_images(inspector, found, results, reporter=reporter)
        else:
            folders = [Path(folder) for folder in named]
            skip = results.path if isinstance(results, ResultsFolder) else None
            arrivals = watch_images(folders, skip=skip, known=results.counts.sources, for_s=watch_for_s)
            _inspect_arrivals(inspector, arrivals, folders, results, reporter)
    return FinishedRun(
        path=results.path if isinstance(results, ResultsFolder) else None,
        counts=results.counts,
        resumed=results.resumed,
        thresholds=inspector.thresholds,
        references=inspector.engine.references,
    )


def inspect_images(
    inspector: Inspector,
    images: Sequence[FoundImage],
    results: ResultsFolder | RecordsOnly,
    *,
    reporter: Reporter | None = None,
) -> None:
    """Inspects the images that `results` has no record of yet."""
    done = results.resumed
    # batches as the run would have had them: the last digits of a score depend on what is computed together
    start = done // inspector.batch_size * inspector.batch_size
    names = output_names(images)
    outcomes = inspector.stream([image.path for image in images], start=start)
    with (reporter or Reporter()).progress("inspecting", len(images), done=done) as advance:
        for name, outcome in zip(names[done:], islice(outcomes, done - start, None), strict=True):
            _add(results, outcome, name)
            advance()


def _inspect_arrivals(
    inspector: Inspector,
    arrivals: Iterable[FoundImage],
    folders: Sequence[Path],
    results: ResultsFolder | RecordsOnly,
    reporter: Reporter,
) -> None:
    """Inspects images as they arrive, until no more will, or Ctrl-C."""
    names: deque[PurePosixPath] = deque()

    def paths() -> Iterator[Path]:
        for image in arrivals:
            names.append(arriving_name(image, folders, results.counts.picture_names))
            yield image.path

    try:
        with reporter.progress("inspecting", None) as advance:
            for outcome in inspector.stream(paths()):
                _add(results, outcome, names.popleft())
                advance()
    except KeyboardInterrupt:  # the way to end it
        pass


def _add(results: ResultsFolder | RecordsOnly, outcome: Inspected | ImageError, name: PurePosixPath) -> None:
    if isinstance(outcome, Inspected):
        results.add(outcome, name)
    else:
        results.add_error(outcome)
