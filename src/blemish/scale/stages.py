"""The stages that images go through on any machine: read and prepared, scored, as rows of the table of results.

Nothing here knows Ray. A batch of prepared images goes from one stage to the next as bytes: a line of JSON and the arrays.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.backbones.config import PreprocessConfig
from blemish.errors import BlemishError, ImageError
from blemish.images import ImageInput, Learned, Picture, RangeGiven, ValueRanges, decode, read_header
from blemish.images.isolation import receive, send
from blemish.inspection.loader import ImageLoader, LoadedImage, in_batches
from blemish.runs.tables import records_table
from blemish.runs.work import ImageWork, WorkOrder
from blemish.scale.manifest import Manifest
from blemish.scale.sources import ImageSource, is_remote, read_bytes

__all__ = ["EXTRA_COLUMNS", "Loading", "ScoringActor", "Unit", "learn_unit", "load_unit", "pack", "table_of", "unpack"]

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
    with_pictures: bool  # whether scoring needs the pixels at original size: for overlays and tiles
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
                images = [image for image, _ in batch]
                digests = [digest for _, digest in batch]
                yield {
                    "shard": unit.shard,
                    "first": first,
                    "payload": pack(images, names=names, digests=digests, with_pictures=loading.with_pictures),
                }
                first += len(batch)


class ScoringActor:
    """A model, loaded once, that scores one packed batch after the other: what an actor of Ray is made of.

    Args:
        order: What it is told, as a worker process is.
        where: The name of the machine, for errors.
    """

    def __init__(self, order: WorkOrder, *, where: str = "") -> None:
        self._refusal: str | None = None
        self._where = where
        self._order = order
        self._pool = ThreadPoolExecutor(order.threads, thread_name_prefix="blemish")
        try:
            self._work: ImageWork | None = ImageWork(order)
        except BlemishError as error:
            self._refuse(error)

    def rows(self, *, shard: int, first: int, payload: Any) -> Any:
        """The records of a batch as an Arrow table, with where each belongs; or why no batch can be scored, in `refused`."""
        names, digests, images = unpack(payload)
        records: list[dict[str, Any]] = []
        if self._work is not None and self._refusal is None:
            try:
                records = self._work.score(images, names, self._pool)
            except BlemishError as error:
                self._refuse(error)
        return table_of(records, digests[: len(records)], shard=shard, first=first, refused=self._refusal)

    def _refuse(self, error: BlemishError) -> None:
        self._work = None
        self._refusal = f"{self._where}: {error}" if self._where else str(error)


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


def pack(
    images: Sequence[LoadedImage | ImageError],
    *,
    names: Sequence[str],
    digests: Sequence[str | None],
    with_pictures: bool,
) -> bytes:
    """Loaded images, and errors in their places, as bytes that `unpack` reads.

    Args:
        images: The batch.
        names: Of their pictures.
        digests: Of their contents.
        with_pictures: Whether the pixels at original size go along; without, only their size does.
    """
    arrays: dict[str, NDArray[Any]] = {}
    told: list[dict[str, Any]] = []
    for number, image in enumerate(images):
        if isinstance(image, ImageError):
            told.append({"source": image.source, "error": image.reason})
            continue
        picture = image.picture
        told.append(
            {
                "source": picture.source,
                "size": [picture.width_px, picture.height_px],
                "value_range": picture.value_range,
                "tags": dict(picture.tags),
            }
        )
        arrays[f"pixels {number}"] = image.pixels
        if with_pictures:
            arrays[f"picture {number}"] = picture.pixels
        if picture.inside is not None:
            arrays[f"inside {number}"] = picture.inside
    held = io.BytesIO()
    send(held, {"images": told, "names": list(names), "digests": list(digests)}, arrays)
    return held.getvalue()


def unpack(payload: Any) -> tuple[list[str], list[str | None], list[LoadedImage | ImageError]]:
    """The names of the pictures, the digests and the images of a packed batch."""
    said, arrays = receive(io.BytesIO(payload))
    images: list[LoadedImage | ImageError] = []
    for number, told in enumerate(said["images"]):
        if "error" in told:
            images.append(ImageError(told["source"], told["error"]))
            continue
        width, height = told["size"]
        # where nobody looks at the pixels, their size is all that counts: one zero stands for all of them
        pixels = arrays.get(f"picture {number}", np.broadcast_to(np.uint8(0), (height, width, 3)))
        value_range = None if told["value_range"] is None else (told["value_range"][0], told["value_range"][1])
        picture = Picture(pixels, told["source"], value_range, told["tags"], arrays.get(f"inside {number}"))
        images.append(LoadedImage(picture, arrays[f"pixels {number}"]))
    return said["names"], said["digests"], images


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
