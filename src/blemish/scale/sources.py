"""Where images are: folders, patterns, lists, Parquet tables of paths, and object stores; listed one by one, read as bytes.

A location with a scheme (`s3://`, `gs://`, `az://`, `http://` …) belongs to a file system of pyarrow or, where that has none,
of fsspec.
"""

from __future__ import annotations

import os
import posixpath
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from blemish.errors import ImageError, MissingExtraError, UnknownNameError, UsageError
from blemish.images import SUFFIXES, find_images
from blemish.io.atomic import reason
from blemish.io.prefetch import in_chunks

__all__ = ["ImageSource", "is_remote", "list_sources", "read_bytes"]

PARQUET_SUFFIXES = (".parquet", ".pq")
ROWS_AT_ONCE = 10_000  # of a table of paths in memory
HTTP = ("http://", "https://")  # read without a file system; nothing lists what lies below an address
ANSWER_S = 60.0  # until a server answers
LISTED_AT_ONCE = 10_000  # named files
ARROW_SCHEMES = ("s3", "gs", "gcs", "abfs", "abfss", "hdfs")  # that pyarrow has file systems for


@dataclass(frozen=True)
class ImageSource:
    """An image that was named or found."""

    name: str  # as records call it
    location: str  # absolute path or address, as every machine finds it


def is_remote(location: str) -> bool:
    """Whether a location is an address and no path; `C:\\images` is a path."""
    scheme = urlsplit(location).scheme
    return len(scheme) > 1 and "://" in location


def list_sources(named: Sequence[str], *, column: str | None = None, skip: Path | None = None) -> Iterator[ImageSource]:
    """The images that are meant, in their order, each as it is found.

    Args:
        named: Files, folders, patterns; Parquet tables of paths; addresses of images, or of folders of them.
        column: The column of the tables that holds the paths.
        skip: A folder that is passed over.

    Raises:
        UsageError: Something is not there, or cannot be listed; a table has no such column.
    """
    local: list[str] = []
    for place in named:
        if is_remote(place) or place.lower().endswith(PARQUET_SUFFIXES):
            yield from _local(local, skip)
            local = []
            tables = place.lower().endswith(PARQUET_SUFFIXES)
            yield from _in_table(place, column) if tables else _in_store(place)
        else:
            local.append(place)
    yield from _local(local, skip)


def read_bytes(location: str, *, name: str) -> bytes:
    """What a file or an object holds; an ImageError says why it cannot be read."""
    try:
        if not is_remote(location):
            with open(location, "rb") as stream:  # noqa: PTH123  (names that are no text)
                return stream.read()
        if location.startswith(HTTP):
            with urllib.request.urlopen(location, timeout=ANSWER_S) as answer:
                return bytes(answer.read())
        system, path = _system(location)
        with _opened(system, path) as stream:
            return bytes(stream.read())
    except urllib.error.HTTPError as error:
        raise ImageError(name, f"{error.reason.lower()} (HTTP {error.code})") from error
    except urllib.error.URLError as error:
        raise ImageError(name, f"cannot be reached ({_why(error)})") from error
    except (OSError, ValueError) as error:
        raise ImageError(name, _why(error)) from error
    except UsageError as error:
        raise ImageError(name, str(error)) from error
    except Exception as error:  # whatever a library for a store raises
        raise ImageError(name, f"cannot be read ({_why(error)})") from error


def _local(named: Sequence[str], skip: Path | None) -> Iterator[ImageSource]:
    for some in in_chunks(named, LISTED_AT_ONCE):  # a long list is never in memory as images
        for image in find_images(some, skip=skip):
            yield ImageSource(image.path.as_posix(), os.path.abspath(image.path))  # noqa: PTH100  (links stay)


def _in_table(place: str, column: str | None) -> Iterator[ImageSource]:
    """The paths in a Parquet table; relative ones are meant from its folder."""
    from blemish.runs.tables import check_parquet

    check_parquet()
    import pyarrow
    from pyarrow import parquet

    try:
        if is_remote(place):
            system, path = _system(place)
            table = parquet.ParquetFile(_opened(system, path))
        else:
            table = parquet.ParquetFile(place)
    except FileNotFoundError as error:
        raise UsageError(f"{place}: no such file") from error
    except (OSError, pyarrow.ArrowInvalid) as error:
        raise UsageError(f"{place}: cannot be read as a Parquet table ({_why(error)})") from error
    with table:
        names = table.schema_arrow.names
        if column is None:
            raise UsageError(f"{place}: say which column holds the paths, --column {' or '.join(names[:4])}")
        if column not in names:
            raise UnknownNameError(f"column of {place}", column, names)
        folder = place.rpartition("/")[0] if is_remote(place) else os.path.dirname(os.path.abspath(place))  # noqa: PTH100, PTH120
        for batch in table.iter_batches(ROWS_AT_ONCE, columns=[column]):
            for path in batch.column(0).to_pylist():
                if not isinstance(path, str) or not path:
                    raise UsageError(f"{place}: the column {column!r} holds {path!r}, which is no path")
                absolute = is_remote(path) or os.path.isabs(path)  # noqa: PTH117
                yield ImageSource(path, path if absolute else f"{folder}/{path}")


def _in_store(place: str) -> Iterator[ImageSource]:
    """An object, or the images below a folder of a store, sorted by name."""
    if place.startswith(HTTP) or posixpath.splitext(urlsplit(place).path)[1].lower() in SUFFIXES:
        yield ImageSource(place, place)
        return
    system, path = _system(place)
    try:
        found = sorted(_files_below(system, path))
    except Exception as error:  # whatever a library for a store raises
        raise UsageError(f"{place}: cannot be listed ({_why(error)})") from error
    images = [file for file in found if posixpath.splitext(file)[1].lower() in SUFFIXES]
    if not images:
        raise UsageError(f"{place}: holds no images ({', '.join(sorted(SUFFIXES))})")
    for file in images:
        below = posixpath.relpath(file, path) if not is_remote(file) else ""
        address = file if is_remote(file) else f"{place.partition('?')[0].rstrip('/')}/{below}{_query(place)}"
        yield ImageSource(address.partition("?")[0] if _query(place) else address, address)


def _files_below(system: Any, path: str) -> list[str]:
    if hasattr(system, "get_file_info"):  # of pyarrow
        from pyarrow import fs

        infos = system.get_file_info(fs.FileSelector(path, recursive=True))
        return [info.path for info in infos if info.type == fs.FileType.File]
    return list(system.find(path))


def _query(place: str) -> str:
    query = urlsplit(place).query
    return f"?{query}" if query else ""


def _opened(system: Any, path: str) -> Any:
    return system.open_input_file(path) if hasattr(system, "open_input_file") else system.open(path, "rb")


def _system(location: str) -> tuple[Any, str]:
    """The file system of an address, and the path in it; one system for all addresses that differ in nothing but the path."""
    parts = urlsplit(location)
    scheme = parts.scheme.lower()
    if scheme in ARROW_SCHEMES:
        system, bare = _arrow_system(scheme, parts.netloc, parts.query)
        return system, f"{bare}{parts.path}".rstrip("/")
    return _fsspec_system(scheme), location.partition("://")[2]


@cache
def _arrow_system(scheme: str, host: str, query: str) -> tuple[Any, str]:
    try:
        from pyarrow import fs
    except ImportError as error:
        raise MissingExtraError("pyarrow", "ray", f"{scheme}://") from error
    try:
        system, path = fs.FileSystem.from_uri(f"{scheme}://{host}/{f'?{query}' if query else ''}")
    except (OSError, ValueError, NotImplementedError) as error:
        raise UsageError(f"{scheme}://{host}: no such store can be used here ({_why(error)})") from error
    return system, path.rstrip("/")


@cache
def _fsspec_system(scheme: str) -> Any:
    try:
        import fsspec
    except ImportError as error:
        raise MissingExtraError("fsspec", "ray", f"{scheme}://") from error
    try:
        return fsspec.filesystem(scheme)
    except ImportError as error:  # its message names the package that is missing
        raise UsageError(f"{scheme}://: {error}") from error
    except ValueError as error:
        raise UsageError(
            f"{scheme}://: no file system is known for it; s3, gs, az, abfs, http and https are"
        ) from error


def _why(error: BaseException) -> str:
    """What a store or the system said, on one line and not too long."""
    if isinstance(error, OSError) and error.strerror:
        return reason(error)
    said = " ".join(str(error).split()) or type(error).__name__
    for word, plain in (("ACCESS_DENIED", "permission denied"), ("403", "permission denied"), ("404", "not found")):
        if word in said:
            return f"{plain}: {said[:200]}"
    return said[:200]
