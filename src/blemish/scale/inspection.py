"""A run over many machines: images from anywhere, through a cluster of Ray, into a folder of results in shards."""

from __future__ import annotations

import re
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

from blemish.config import Config
from blemish.errors import ImageError, UsageError
from blemish.images import Learned, ValueRanges
from blemish.inspection.inspector import Inspector
from blemish.inspection.load import load, merge
from blemish.io.atomic import make_folder, write_text
from blemish.io.codec import from_dict
from blemish.io.json_files import json_text, read_json
from blemish.io.prefetch import in_chunks
from blemish.io.progress import Advance, Reporter
from blemish.io.run_files import LEARNED_FILE, MANIFEST_FILE, RUN_FILE, RUN_SCHEMA, holds_run
from blemish.results import INSPECTION_SCHEMA
from blemish.runs.counts import RunCounts
from blemish.runs.folder import check_out, clear_run, free_results_folder
from blemish.runs.header import RunHeader, header_of, identity_of
from blemish.runs.records import error_record
from blemish.runs.resume import check_identity, open_locked
from blemish.runs.run import FinishedRun
from blemish.runs.shards import ShardFolder, Summary
from blemish.runs.work import WorkOrder, same_engine
from blemish.scale.cluster import Cluster, joined_cluster, ray_modules
from blemish.scale.manifest import SHARD_IMAGES, Manifest, write_manifest
from blemish.scale.pipeline import learn_all, score_all
from blemish.scale.sources import list_sources
from blemish.scale.stages import Loading, Unit, table_of

__all__ = ["DrawnPictures", "inspect_sources"]

DrawnPictures = Literal["none", "masks", "all"]

LOCK_FILE = "run.lock"
ADDRESS = re.compile(r"\w[\w+.-]+:/")  # as text, or as a path, which has one slash less
WAVE_SHARDS = 256  # that a pipeline gets at once: what the driver knows of them is bounded
MOST_BATCHES = 4  # of a unit


def inspect_sources(
    sources: str | Path | Iterable[str | Path],
    *,
    out: str | Path | None = None,
    ray: str | None = None,
    column: str | None = None,
    pictures: DrawnPictures = "none",
    config: Config | None = None,
    overwrite: bool = False,
    resume: bool = False,
    shard_images: int = SHARD_IMAGES,
    cpus: int | None = None,
    reporter: Reporter | None = None,
    command: Sequence[str] | None = None,
    **given: Any,
) -> FinishedRun:
    """Inspects images on a cluster of Ray and writes a folder of results in shards, as `blemish inspect --ray` does.

    The rows are those of `blemish.inspect_folder` in one process of one thread (docs/scale.md).

    Args:
        sources: Images, folders, patterns, addresses in object stores, Parquet tables of paths; or several of them.
        out: New or empty folder that every machine sees; None for the first free `blemish-results[-N]` here.
        ray: The address of a cluster, "auto", or "local" (also None) for one on this machine.
        column: The column of the tables that holds the paths.
        pictures: What is drawn, too: "none", "masks", or "all", which are masks and overlays.
        config: A configuration.
        overwrite: Replace an earlier run in `out`.
        resume: Go on with the run in `out`: shards that are there stay; begin it where there is none.
        shard_images: Images of a shard, a multiple of the batch size.
        cpus: Cores of a local cluster; None for all.
        reporter: Is told how the work goes on.
        command: What run.json names as the command; by default that of this process.
        **given: Settings by their names, as `blemish.load` takes them; they come before those of `config`.

    Returns:
        The folder and the counts of the run; `counts` names at most the first thousand images without a result.

    Raises:
        UsageError: What was asked for is not there, or machines of the cluster differ.
        ModelError: A machine lacks the model, or holds another one.
        OutputError: The results cannot be written.

    Example:
        >>> run = inspect_sources("s3://archive/2025", out="results", ray="auto")  # doctest: +SKIP
    """
    ray_modules()
    if resume and (out is None or overwrite):
        raise UsageError("--resume takes the folder of the run, --out, and goes without --overwrite")
    if out is not None and ADDRESS.match(str(out)):
        raise UsageError(f"{out}: results go to a folder that every machine sees, not to an address")
    named = [str(sources)] if isinstance(sources, str | Path) else [str(source) for source in sources]
    config = merge(config, given)
    if config.references.peers == "auto":
        raise UsageError("--peers auto looks at a folder of one machine: name the peers of a run on a cluster, or off")
    if config.references.peers == "off":
        config = config.with_settings(peers=None)
    config = config.from_folder(Path.cwd())  # other machines start in other folders
    folder = None if out is None else check_out(out, overwrite=overwrite, resume=resume)
    inspector = load(config)
    if shard_images < 1 or shard_images % inspector.batch_size:
        raise UsageError(f"a shard holds a multiple of {inspector.batch_size} images, the batch, not {shard_images}")
    folder = free_results_folder() if folder is None else folder
    make_folder(folder)
    run = _ScaleRun(
        folder.resolve(),
        inspector,
        header_of(inspector, config=config, command=command),
        identity={
            **identity_of(inspector, f"{' '.join(named)}{f' [{column}]' if column else ''}", keep_maps=False),
            "pictures": pictures,
        },
    )
    with open_locked(folder / LOCK_FILE):
        run.begin(overwrite=overwrite, resume=resume)
        status, worth_keeping = "failed", (folder / MANIFEST_FILE).is_file()
        try:
            manifest = run.manifest(lambda: list_sources(named, column=column, skip=folder), shard_images)
            with joined_cluster(ray, cpus=cpus) as joined:
                worth_keeping = True
                resumed = run.inspect(manifest, config, joined, pictures=pictures, reporter=reporter or Reporter())
            status = "finished"
        except KeyboardInterrupt:
            status = "interrupted"
            raise
        finally:
            if worth_keeping:
                run.write(status)
            else:  # nothing was listed, or no cluster answered: a start that fails leaves nothing behind
                clear_run(folder)
                (folder / LOCK_FILE).unlink()
                with suppress(OSError):  # something else is in it
                    folder.rmdir()
    return run.finished(resumed)


class _ScaleRun:
    """A run in its folder."""

    def __init__(self, folder: Path, inspector: Inspector, header: RunHeader, *, identity: dict[str, Any]) -> None:
        self.folder = folder
        self.inspector = inspector
        self.header = header
        self.identity = identity
        self.shards = ShardFolder(folder)
        self.summary = Summary()
        self.started = time.perf_counter()

    def begin(self, *, overwrite: bool, resume: bool) -> None:
        """Makes the folder that of this run, or checks that it is."""
        if holds_run(self.folder) and resume:
            check_identity(self.folder, self.identity)
            self.shards.remove_remains()
        elif holds_run(self.folder) and overwrite:
            clear_run(self.folder)
        elif holds_run(self.folder):
            raise UsageError(f"{self.folder}: another run has begun to write there; choose a new folder")
        self.write("running")

    def manifest(self, listed: Any, shard_images: int) -> Manifest:
        """The list of the images; that of the run that goes on, where there is one."""
        if (self.folder / MANIFEST_FILE).is_file():
            return Manifest.open(self.folder)
        return write_manifest(listed(), self.folder, shard_images=shard_images)

    def inspect(
        self, manifest: Manifest, config: Config, joined: Cluster, *, pictures: DrawnPictures, reporter: Reporter
    ) -> int:
        """Inspects the shards that are not there yet; the images of those that are."""
        inspector = self.inspector
        landed = self.shards.landed()
        self.summary = self.shards.summary()
        resumed = self.summary.images
        left = [shard for shard in range(len(manifest.counts)) if shard not in landed]
        size = inspector.batch_size * max(
            1, min(MOST_BATCHES, manifest.images // (4 * inspector.batch_size * joined.cpus))
        )
        loading = Loading(
            manifest=manifest,
            preprocess=inspector.engine.input,
            value_range=inspector.value_range,
            max_megapixels=inspector.max_megapixels,
            batch_size=inspector.batch_size,
            with_pictures=pictures == "all" or inspector.tiles != "off" or inspector.profile is not None,
        )
        if left and not ValueRanges(inspector.value_range).is_fixed:
            loading = replace(loading, learned=self._learned(loading, size))
        order = WorkOrder(
            config=same_engine(config, inspector),
            threads=config.model.threads or 1,
            model=inspector.model.to_dict(),
            out=None if pictures == "none" else str(self.folder),
            overlays=pictures == "all",
        )
        with reporter.progress("inspecting", manifest.images, done=resumed) as advance:
            for wave in in_chunks(left, WAVE_SHARDS):
                units = [unit for shard in wave for unit in _units(shard, manifest.counts[shard], size)]
                tables = score_all(
                    units,
                    loading=loading,
                    order=order,
                    thresholds=inspector.thresholds,
                    cluster=joined,
                    on_round=reporter.say,
                )
                self._land(manifest, tables, wave, advance)
        return resumed

    def _learned(self, loading: Loading, size: int) -> Learned | None:
        """The value range of all images; what an earlier run has learned, where this one goes on with it."""
        path = self.folder / LEARNED_FILE
        if path.is_file():
            known = read_json(path).get("learned")
            return None if known is None else from_dict(Learned, known)
        counts = loading.manifest.counts
        learned: Learned | None = None
        for wave in in_chunks(range(len(counts)), WAVE_SHARDS):
            found = learn_all(
                [unit for shard in wave for unit in _units(shard, counts[shard], 8 * size)], loading=loading
            )
            learned = found if learned is None else learned if found is None else learned.merged(found)
        write_text(path, json_text({"learned": None if learned is None else asdict(learned)}))
        return learned

    def _land(self, manifest: Manifest, tables: Iterator[Any], wave: Sequence[int], advance: Advance) -> None:
        """Writes each shard when all of its rows are there; rows that never come say so."""
        waiting: dict[int, list[Any]] = defaultdict(list)
        for table in tables:
            for verdict in table["verdict"].to_pylist():
                advance(failed=verdict is None)
            for shard in table["shard"].unique().to_pylist():
                waiting[shard].append(_of_shard(table, shard))
                if sum(map(len, waiting[shard])) == manifest.counts[shard]:
                    self._write_shard(shard, waiting.pop(shard))
        landed = self.shards.landed()
        for shard in wave:
            if shard not in landed:
                pieces = waiting.pop(shard, [])
                lost = self._lost(manifest, shard, pieces)
                for _ in range(len(lost)):
                    advance(failed=True)
                self._write_shard(shard, [*pieces, lost])

    def _lost(self, manifest: Manifest, shard: int, pieces: Sequence[Any]) -> Any:
        """Rows for the images of a shard that did not come back."""
        there = {row for piece in pieces for row in piece["row"].to_pylist()}
        tables = []
        for row, source in enumerate(manifest.shard(shard)):
            if row not in there:
                error = ImageError(source.name, "every process that inspected it ended before it was done")
                record = error_record(error, thresholds=self.inspector.thresholds, model=self.inspector.model)
                tables.append(table_of([record], [None], shard=shard, first=row))
        import pyarrow

        return pyarrow.concat_tables(tables)

    def _write_shard(self, shard: int, pieces: Sequence[Any]) -> None:
        import pyarrow

        whole = pyarrow.concat_tables(pieces).sort_by("row").drop_columns(["shard", "row", "refused"])
        whole = whole.replace_schema_metadata({"blemish.schema": INSPECTION_SCHEMA})
        self.shards.land(shard, whole)
        self.summary.add(whole)

    def write(self, status: str) -> None:
        """run.json as it is now."""
        duration_s = time.perf_counter() - self.started
        run = {"schema": RUN_SCHEMA, "status": status, **self.header.to_dict(self.summary, duration_s=duration_s)}
        write_text(self.folder / RUN_FILE, json_text({**run, "identity": self.identity}))

    def finished(self, resumed: int) -> FinishedRun:
        """What it came to."""
        summary, engine = self.summary, self.inspector.engine
        counts = RunCounts(
            verdicts=summary.verdicts,
            top_types=summary.top_types,
            value_ranges=summary.value_ranges,
            unreadable=[ImageError(source, why) for source, why in summary.unreadable],
            unwritten=[ImageError(source, why) for source, why in summary.unwritten],
        )
        more = summary.unreadable_count - len(summary.unreadable)
        remarks = (f"{more} more images have no result; the shards name them",) if more else ()
        return FinishedRun(
            path=self.folder,
            counts=counts,
            resumed=resumed,
            thresholds=self.inspector.thresholds,
            references=engine.references or engine.good_references,
            peers="",
            profile="" if self.inspector.profile is None else self.inspector.profile.name,
            drift=self.header.drift(summary),
            workers=0,
            remarks=(*engine.remarks, *remarks),
        )


def _units(shard: int, images: int, size: int) -> list[Unit]:
    return [Unit(shard, first, min(first + size, images)) for first in range(0, images, size)]


def _of_shard(table: Any, shard: int) -> Any:
    from pyarrow import compute

    return table.filter(compute.equal(table["shard"], shard))
