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
from blemish.images import REST_S, Arrivals, FoundImage, find_images, watch_images
from blemish.inspection.inspector import Inspected, Inspector
from blemish.inspection.load import load, merge
from blemish.io.progress import Reporter
from blemish.profiles.drift import Drift
from blemish.results import Thresholds
from blemish.runs.counts import RunCounts
from blemish.runs.folder import ResultsFolder, check_out
from blemish.runs.header import header_of, identity_of
from blemish.runs.names import arriving_name, output_names
from blemish.runs.pace import choose_workforce
from blemish.runs.peers import settle_peers
from blemish.runs.records import error_record, record_of
from blemish.runs.resume import remove_remains
from blemish.runs.work import ImageJob, WorkOrder, plan_jobs, same_engine

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
    peers: str  # what was decided about comparing the images with each other, "" where nothing was
    profile: str  # the file and the identity of the product's profile, "" for none
    drift: Drift | None  # how the images compare with the profile's good ones; None without a profile
    workers: int  # processes of one thread each that inspected; 0 where this one did
    remarks: tuple[str, ...]  # lines worth telling the user about the model


class RecordsOnly:
    """Stands for a folder of results where no files are written."""

    path = None
    pictures = None
    resumed = 0
    workers: int | None = None

    def __init__(self, inspector: Inspector, on_record: OnRecord | None) -> None:
        self.counts = RunCounts()
        self._inspector = inspector
        self._on_record = on_record

    def add(self, inspected: Inspected, _name: PurePosixPath) -> None:
        self.add_record(record_of(inspected.inspection))

    def add_error(self, error: ImageError) -> None:
        self.add_record(error_record(error, thresholds=self._inspector.thresholds, model=self._inspector.model))

    def add_record(self, record: Mapping[str, Any]) -> None:
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
    watch_rest_s: float = REST_S,
    workers: int | None = None,
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
        watch_rest_s: A watched file is taken when its size and time have not changed for so many seconds, 0 or more.
        workers: Processes of one thread each that inspect, on this machine; 0 for this process alone, with all its threads.
            None: what a short measurement at the start of a long run finds to be faster.
        on_record: Is called with the record of each image (docs/results.md).
        reporter: Is told how the work goes on.
        command: What run.json names as the command; by default that of this process.
        **given: Settings by their names, as `blemish.load` takes them; they come before those of `config`.

    Returns:
        The folder and the counts of the run. Images that could not be inspected are records with an error, and are listed in
        `counts.unreadable`; folders that could not be listed are in `counts.unlisted`, and `counts.left_out` says how many
        files were no images, by suffix.

    Raises:
        UsageError: An image, an option or a folder is not what was asked for.
        OutputError: The results cannot be written.

    Example:
        >>> run = inspect_folder("parts", out="mine", threshold=0.6)
        >>> run.counts.verdicts["ng"], run.path.name
        (1, 'mine')
    """
    watch = watch or watch_for_s is not None
    if resume and (out is None or overwrite):
        raise UsageError("--resume takes the folder of the run, --out, and goes without --overwrite")
    if not watch_rest_s >= 0:
        raise UsageError(f"--watch-rest is a number of seconds from 0 on, not {watch_rest_s:g}")
    if workers is not None and workers < 0:
        raise UsageError(f"--workers takes a number of processes from 0 on, not {workers}")
    if workers and watch:
        raise UsageError("--watch inspects in its own process: leave --workers away")
    config = merge(config, given)
    out = None if out is None else check_out(out, overwrite=overwrite, resume=resume)
    named = [images] if isinstance(images, str | Path) else list(images)
    arrivals = watch_images(named) if watch else None  # says at once what is no folder
    found = None if watch else find_images(named, skip=out)
    settled = settle_peers(config, named, found)
    config = settled.config
    inspector = load(config.with_settings(batch_size=1) if watch else config)
    # the folder is made only now, so that a start that fails leaves none behind
    header = header_of(inspector, config=config, command=command, peers=settled.note)
    with (
        ResultsFolder(
            out,
            header,
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
            results.counts.left_out, results.counts.unlisted = dict(found.left_out), list(found.unlisted)
            inspect_images(inspector, found, results, config=config, workers=workers, reporter=reporter)
        else:
            folders = [Path(folder) for folder in named]
            skip = results.path if isinstance(results, ResultsFolder) else None
            known = results.counts.sources - {error.source for error in results.counts.unreadable}
            arrivals = watch_images(folders, skip=skip, known=known, for_s=watch_for_s, rest_s=watch_rest_s)
            _inspect_arrivals(inspector, arrivals, folders, results, reporter)
    return FinishedRun(
        path=results.path if isinstance(results, ResultsFolder) else None,
        counts=results.counts,
        resumed=results.resumed,
        thresholds=inspector.thresholds,
        references=inspector.engine.references or inspector.engine.good_references,
        profile="" if inspector.profile is None else inspector.profile.name,
        drift=header.drift(results.counts),
        workers=results.workers or 0,
        peers=settled.note,
        remarks=(*inspector.engine.remarks, *inspector.notes),
    )


def inspect_images(
    inspector: Inspector,
    images: Sequence[FoundImage],
    results: ResultsFolder | RecordsOnly,
    *,
    config: Config | None = None,
    workers: int | None = 0,
    reporter: Reporter | None = None,
) -> None:
    """Inspects the images that `results` has no record of yet.

    Args:
        inspector: What inspects them.
        images: All images of the run.
        results: Where the records go.
        config: What the inspector was loaded from; worker processes load theirs from it, too.
        workers: As `inspect_folder` takes them.
        reporter: Is told how the work goes on.
    """
    reporter = reporter or Reporter()
    names = output_names(images)
    if (results.workers if workers is None else workers) == 0 or config is None:
        results.workers = 0
        _inspect_here(inspector, images, names, results, reporter)
        return
    paths = [image.path for image in images]
    plan = inspector.plan_batches(paths)
    order = WorkOrder(
        config=same_engine(config, inspector),
        threads=config.model.threads or 1,
        model=inspector.model.to_dict(),
        learned=plan.learned,
        out=None if results.pictures is None else str(results.path),
        keep_maps=results.pictures is not None and results.pictures.keep_maps,
    )

    def jobs(count: int) -> Iterator[ImageJob]:
        pictures = [] if results.pictures is None else list(map(str, names))
        return plan_jobs(list(map(str, paths)), pictures, plan, done=results.resumed, workers=count)

    with choose_workforce(inspector, order, jobs, workers=results.workers if workers is None else workers) as workforce:
        if workforce is None:
            results.workers = 0
            _inspect_here(inspector, images, names, results, reporter)
            return
        results.workers = workforce.count
        with reporter.progress("inspecting", len(images), done=results.resumed) as advance:
            for number, record in workforce.records(jobs(workforce.count)):
                if number >= results.resumed:
                    results.add_record(record)
                    advance(failed=record["verdict"] is None)
        if workforce.replaced and results.path is not None:
            remove_remains(results.path)


def _inspect_here(
    inspector: Inspector,
    images: Sequence[FoundImage],
    names: Sequence[PurePosixPath],
    results: ResultsFolder | RecordsOnly,
    reporter: Reporter,
) -> None:
    """Inspects them in this process."""
    done = results.resumed
    # batches as the run would have had them: the last digits of a score depend on what is computed together
    start = done // inspector.batch_size * inspector.batch_size
    outcomes = inspector.stream([image.path for image in images], start=start)
    with reporter.progress("inspecting", len(images), done=done) as advance:
        for name, outcome in zip(names[done:], islice(outcomes, done - start, None), strict=True):
            _add(results, outcome, name)
            advance(failed=isinstance(outcome, ImageError))


def _inspect_arrivals(
    inspector: Inspector,
    arrivals: Arrivals,
    folders: Sequence[Path],
    results: ResultsFolder | RecordsOnly,
    reporter: Reporter,
) -> None:
    """Inspects images as they arrive, until no more will, or Ctrl-C.

    What cannot be read is recorded only when it is not looked at again: it may still be on its way.
    """
    given: deque[tuple[FoundImage, PurePosixPath]] = deque()
    waiting: dict[Path, ImageError] = {}
    counts = results.counts

    def paths() -> Iterator[Path]:
        for image in arrivals:
            given.append((image, arriving_name(image, folders, counts.picture_names)))
            yield image.path

    def add(outcome: Inspected | ImageError, name: PurePosixPath) -> None:
        if isinstance(outcome, Inspected) or str(outcome) not in map(str, counts.unreadable):
            _add(results, outcome, name)  # else the record is there: of the run that this one resumes

    try:
        with reporter.progress("inspecting", None) as advance:
            for outcome in inspector.stream(paths()):
                image, name = given.popleft()
                waiting.pop(image.path, None)
                if isinstance(outcome, ImageError):
                    counts.picture_names.discard(name.as_posix().casefold())
                    if arrivals.failed(image.path):
                        waiting[image.path] = outcome
                        continue
                add(outcome, name)
                advance()
    except KeyboardInterrupt:  # the way to end it
        pass
    for path, error in waiting.items():
        add(error, PurePosixPath(path.name))
    counts.left_out, counts.unlisted = arrivals.left_out, list(arrivals.unlisted)


def _add(results: ResultsFolder | RecordsOnly, outcome: Inspected | ImageError, name: PurePosixPath) -> None:
    if isinstance(outcome, Inspected):
        results.add(outcome, name)
    else:
        results.add_error(outcome)
