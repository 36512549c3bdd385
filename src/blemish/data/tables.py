"""Tables: those that data sets come with, and the list of a data set's samples to keep beside results."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from pathlib import Path

from blemish.data.files import FileSample, MaskTruth
from blemish.data.scan import Scan
from blemish.errors import MissingExtraError, UsageError
from blemish.io.text import read_text

__all__ = ["parquet_rows", "sample_list", "table_rows", "text_lines"]

HEADER = ("image", "label", "mask", "type", "product", "split")


def sample_list(samples: Iterable[FileSample]) -> str:
    """One line a sample; paths are absolute, #n marks a part of an image. Masks are named where one file holds them.

    Without parts, this is a list that `open_data` reads.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER)
    for sample in samples:
        truth = sample.truth
        mask = truth.files[0].resolve().as_posix() if isinstance(truth, MaskTruth) and len(truth.files) == 1 else ""
        name = sample.path.resolve().as_posix()
        where = "" if sample.box_px is None else f"#{sample.name.rpartition('#')[2]}"
        writer.writerow(
            (f"{name}{where}", int(sample.anomalous), mask, sample.defect_type, sample.product, sample.split)
        )
    return text.getvalue()


def table_rows(table: Path, scan: Scan | None = None) -> Iterator[dict[str, str]]:
    """The rows of a table with commas, semicolons or tabs; keys and values without blanks around them, keys in lower case.

    `scan` takes note where the text is not UTF-8. UsageError where it is no table.
    """
    lines = text_lines(table, scan)
    if not lines:
        return
    separator = max(",;\t", key=lines[0].count)
    if lines[0].lower().startswith("sep="):  # Excel's own first line
        separator, lines = lines[0][4:5] or separator, lines[1:]
    try:
        header, *rows = csv.reader(lines, delimiter=separator, skipinitialspace=True)
    except csv.Error as error:
        raise UsageError(f"{table}: is not a table ({error})") from error
    keys = [key.strip().lower() for key in header]
    for row in rows:
        yield dict(zip(keys, (value.strip() for value in row), strict=False))


def text_lines(table: Path, scan: Scan | None = None) -> list[str]:
    """The lines of a table that hold something; `scan` takes note where they are not UTF-8."""
    text = read_text(table)[0] if scan is None else scan.text(table)
    return [line for line in text.splitlines() if line.strip()]


def parquet_rows(file: Path) -> Iterator[dict[str, str]]:
    """The rows of a Parquet file as texts, "" where there is no value; keys in lower case."""
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise MissingExtraError("pyarrow", "parquet", "a list in Parquet") from error
    try:
        rows = parquet.read_table(file).to_pylist()
    except (ArrowException, OSError) as error:
        raise UsageError(f"{file}: is not a Parquet file ({error})") from error
    for row in rows:
        yield {key.lower(): "" if value is None else str(value) for key, value in row.items()}
