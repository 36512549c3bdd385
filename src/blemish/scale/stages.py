"""The stages that images go through on any machine: read and prepared, scored, as rows of the table of results.

Nothing here knows Ray. A batch of prepared images goes from one stage to the next as bytes: a line of JSON and the arrays.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from blemish.backbones.config import PreprocessConfig
from blemish.errors import BlemishError, ImageError
from blemish.images import ImageInput, Learned, RangeGiven, ValueRanges, decode, read_header
from blemish.inspection.loader import ImageLoader, LoadedImage, in_batches
from blemish.results import Thresholds
from blemish.runs.guarded import GuardedWork
from blemish.runs.packing import PackedBatch, pack, unpack
from blemish.runs.tables import records_table
from blemish.runs.work import WorkOrder
from blemish.scale.manifest import Manifest
from blemish.scale.sources import ImageSource, is_remote, read_bytes

__all__ = ["EXTRA_COLUMNS", "Loading", "ScoringActor", "Unit", "learn_unit", "load_unit", "table_of"]

EXTRA_COLUMNS = ("content_id",)  # of the table, beside those of every table of results
NEVER_DEEP = (".jpg", ".jpeg")  # an object of such a name is not read only to learn a value range
READING_THREADS = 4  # of a process that reads: stores answer late
STEM = re.compile(r"[^\w.-]+")


@dataclass(frozen=True)
class Unit:
    """Images of a shard, from the one in row `first` to before `last`."""

    shard: int
    first: int
    last: int

    @property
    def images(self) -> int:
        """How many."""
        return self.last - self.first


@dataclass(frozen=True, kw_only=True)
class Loading:
    """How images are read and prepared."""

    manifest: Manifest
    preprocess: PreprocessConfig
    value_range: RangeGiven | None
    max_megapixels: float
    batch_size: int
    with_pictures: (
        bool  # whether scoring needs the pixels at original size: for overlays, tiles and the statistics of a profile
    )
    learned: Learned | None = None


def learn_unit(loading: Loading, unit: Unit) -> Learned:
    """What the images of a unit say of the value range of those with more than 8 bits."""
    ranges = ValueRanges(loading.value_range)
    for source in loading.manifest.shard(unit.shard)[unit.first : unit.last]:
        if is_remote(source.location) and source.location.partition("?")[0].lower().endswith(NEVER_DEEP):
            continue
        with suppress(ImageError):  # told when its turn comes
            item = _item(source)[0]
            if read_header(item).is_deep:
                ranges.learn(decode(item, source=source.name, max_megapixels=loading.max_megapixels))
    return ranges.learned


def load_unit(loading: Loading, unit: Unit) -> Iterator[dict[str, Any]]:
    """The images of a unit in batches, ready for the engine: rows of `shard`, `first` and `payload`, the packed batch."""
    sources = loading.manifest.shard(unit.shard)[unit.first : unit.last]
    with ThreadPoolExecutor(READING_THREADS, thread_name_prefix="blemish") as pool:
        loader = ImageLoader(
            preprocess=loading.preprocess,
            ranges=ValueRanges(loading.value_range, learned=loading.learned),
            pool=pool,
            workers=READING_THREADS,
            batch_size=loading.batch_size,
            max_megapixels=loading.max_megapixels,
        )

        def load(source: ImageSource) -> tuple[LoadedImage | ImageError, str | None]:
            try:
                item, digest = _item(source)
            except ImageError as error:
                return error, None
            return loader.load(item, source=source.name), digest or None

        for start in range(0, len(sources), loading.batch_size):
            first = unit.first + start
            loaded = list(pool.map(load, sources[start : start + loading.batch_size]))
            for batch in in_batches(((each, _bytes_of(each[0])) for each in loaded), loading.batch_size):
                names = [
                    _picture_name(unit.shard, first + row, sources[first + row - unit.first])
                    for row in range(len(batch))
                ]
                packed = PackedBatch(
                    images=tuple(image for image, _ in batch),
                    names=tuple(names),
                    digests=tuple(digest for _, digest in batch),
                )
                payload = pack(packed, with_pictures=loading.with_pictures)
                yield {"shard": unit.shard, "first": first, "payload": payload}
                first += len(batch)


class ScoringActor:
    """Scores one packed batch after the other, with a model that is loaded once: what an actor of Ray is made of.

    The model is in a process of its own (`GuardedWork`): an image that ends it costs that process, and neither the actor nor
    other images.

    Args:
        order: What it is told, as a worker process is.
        thresholds: Of the records of images with which processes end.
        where: The name of the machine, for errors.
    """

    def __init__(self, order: WorkOrder, *, thresholds: Thresholds, where: str = "") -> None:
        self._work = GuardedWork(order, thresholds=thresholds)
        self._where = where

    def rows(self, *, shard: int, first: int, payload: Any) -> Any:
        """The records of a batch as an Arrow table, with where each belongs; or why no batch can be scored, in `refused`."""
        try:
            records = self._work.records(bytes(payload))
        except BlemishError as error:
            refused = f"{self._where}: {error}" if self._where else str(error)
            return table_of((), (), shard=shard, first=first, refused=refused)
        return table_of(records, unpack(payload).digests, shard=shard, first=first)

    def close(self) -> None:
        """Ends the process."""
        self._work.close()


def table_of(
    records: Sequence[Mapping[str, Any]],
    digests: Sequence[str | None],
    *,
    shard: int,
    first: int,
    refused: str | None = None,
) -> Any:
    """Records as an Arrow table with the columns of every table of results, `content_id`, `shard`, `row` and `refused`.

    Where scoring was refused there is one row, of which nothing else counts.
    """
    import pyarrow

    table = records_table(records)
    if refused is not None:
        table = pyarrow.Table.from_pylist([{}], schema=table.schema)
        digests = [None]
    rows = range(first, first + len(table))
    return (
        table.append_column("content_id", pyarrow.array(digests, pyarrow.string()))
        .append_column("shard", pyarrow.array([shard] * len(table), pyarrow.int64()))
        .append_column("row", pyarrow.array(list(rows), pyarrow.int64()))
        .append_column("refused", pyarrow.array([refused] * len(table), pyarrow.string()))
    )


def _item(source: ImageSource) -> tuple[ImageInput, str]:
    """What is decoded, a path or the bytes of an object, and the digest of its content, 32 hex digits."""
    if is_remote(source.location):
        body = read_bytes(source.location, name=source.name)
        return body, hashlib.sha256(body).hexdigest()[:32]
    path = Path(source.location)
    file = path if path.exists() else Path(source.location.rpartition("#")[0])  # a page of a file
    try:
        with file.open("rb") as stream:
            return path, hashlib.file_digest(stream, "sha256").hexdigest()[:32]
    except OSError:
        return path, ""  # its error is told where it is read


def _bytes_of(image: LoadedImage | ImageError) -> int:
    return 0 if isinstance(image, ImageError) else image.picture.pixels.nbytes


def _picture_name(shard: int, row: int, source: ImageSource) -> str:
    """A name that is there once, in a folder for each shard, and still says which image it is."""
    return f"{shard:08d}/{row:04d}-{STEM.sub('-', PurePosixPath(source.name).stem)[:60]}"
