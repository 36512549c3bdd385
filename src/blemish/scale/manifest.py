"""The list of a run's images on the disk, in shards: what the driver plans with, and what every process reads its part from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from blemish.errors import UsageError
from blemish.io.atomic import reason, replace_file
from blemish.io.run_files import MANIFEST_FILE
from blemish.scale.sources import ImageSource

__all__ = ["SHARD_IMAGES", "Manifest", "write_manifest"]

SHARD_IMAGES = 1024  # of a shard, and so of a file of results
DIGEST = b"blemish.digest"


@dataclass(frozen=True)
class Manifest:
    """The images of a run in their order, cut into shards; a row group of the file is a shard."""

    path: Path
    counts: tuple[int, ...]  # images of each shard
    digest: str  # of all names, 16 hex digits

    @classmethod
    def open(cls, folder: Path) -> Manifest:
        """The list in a folder of results.

        Raises:
            UsageError: There is none, or it is damaged.
        """
        import pyarrow
        from pyarrow import parquet

        path = folder / MANIFEST_FILE
        try:
            with parquet.ParquetFile(path) as file:
                groups = file.metadata
                counts = tuple(groups.row_group(number).num_rows for number in range(groups.num_row_groups))
                digest = (groups.metadata or {})[DIGEST].decode()
        except (OSError, KeyError, pyarrow.ArrowInvalid) as error:
            why = reason(error) if isinstance(error, OSError) else str(error)
            raise UsageError(f"{path}: the list of images cannot be read ({why})") from error
        return cls(path, counts, digest)

    @property
    def images(self) -> int:
        """How many there are."""
        return sum(self.counts)

    def shard(self, number: int) -> list[ImageSource]:
        """The images of a shard."""
        from pyarrow import parquet

        with parquet.ParquetFile(self.path) as file:
            rows = file.read_row_group(number).to_pydict()
        return [
            ImageSource(name.decode("utf-8", "surrogateescape"), location.decode("utf-8", "surrogateescape"))
            for name, location in zip(rows["name"], rows["location"], strict=True)
        ]


def write_manifest(sources: Iterable[ImageSource], folder: Path, *, shard_images: int = SHARD_IMAGES) -> Manifest:
    """Lists images into a folder of results, in memory for one shard at a time.

    Raises:
        UsageError: There is none.
    """
    import pyarrow
    from pyarrow import parquet

    names = hashlib.sha256()
    counts: list[int] = []
    # names as bytes: those of files may be no text
    schema = pyarrow.schema([("name", pyarrow.binary()), ("location", pyarrow.binary())])
    path = folder / MANIFEST_FILE
    with replace_file(path) as temporary, parquet.ParquetWriter(temporary, schema, compression="zstd") as writer:
        for rows in _shards(iter(sources), shard_images):
            for source in rows:
                names.update(_bytes(source.name) + b"\n")
            columns = {"name": [_bytes(s.name) for s in rows], "location": [_bytes(s.location) for s in rows]}
            writer.write_table(pyarrow.table(columns, schema=schema))
            counts.append(len(rows))
        if not counts:
            raise UsageError("no images were named: give files, folders, lists or tables")
        digest = names.hexdigest()[:16]
        writer.add_key_value_metadata({DIGEST.decode(): digest})
    return Manifest(path, tuple(counts), digest)


def _shards(sources: Iterator[ImageSource], size: int) -> Iterator[list[ImageSource]]:
    while rows := list(islice(sources, size)):
        yield rows


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
