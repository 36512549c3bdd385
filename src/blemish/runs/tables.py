"""Records as tables: CSV with the standard library, Parquet with pyarrow (an extra), both from any iterator of records."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from blemish.errors import MissingExtraError, UsageError
from blemish.io.atomic import replace_file
from blemish.results import INSPECTION_SCHEMA
from blemish.runs.records import CSV_COLUMNS, csv_row

__all__ = ["check_parquet", "read_parts", "records_table", "write_csv", "write_parquet"]

ROWS_A_GROUP = 1000  # of Parquet in memory at a time


def write_csv(records: Iterable[Mapping[str, Any]], path: Path) -> int:
    """The records as CSV at `path`, completely or not at all; how many."""
    count = 0
    with (
        replace_file(path) as temporary,
        temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="") as stream,
    ):
        table = csv.DictWriter(stream, CSV_COLUMNS, lineterminator="\n")
        table.writeheader()
        for record in records:
            table.writerow(csv_row(record))
            count += 1
    return count


def check_parquet() -> None:
    """MissingExtraError where pyarrow is not installed."""
    _pyarrow()


def write_parquet(records: Iterable[Mapping[str, Any]], path: Path) -> int:
    """The records as Parquet at `path`, completely or not at all, in groups of 1000 rows; how many.

    Columns are those of the CSV; `types` is a map and `regions` a list of structs. The file's metadata names the schema.
    """
    arrow, parquet = _pyarrow()
    schema = _schema(arrow)
    count = 0
    with replace_file(path) as temporary, parquet.ParquetWriter(temporary, schema, compression="zstd") as writer:
        for rows in _chunks(map(_row, records)):
            writer.write_table(arrow.Table.from_pylist(rows, schema=schema))
            count += len(rows)
    return count


def records_table(records: Sequence[Mapping[str, Any]]) -> Any:
    """The records as an Arrow table with the columns of `write_parquet`."""
    arrow, _ = _pyarrow()
    return arrow.Table.from_pylist(list(map(_row, records)), schema=_schema(arrow))


def read_parts(folder: Path) -> Iterator[dict[str, Any]]:
    """The records in the Parquet files of a folder, file by file in the order of their names.

    Raises:
        UsageError: A file cannot be read.
    """
    arrow, parquet = _pyarrow()
    for path in sorted(folder.glob("*.parquet")):
        try:
            with parquet.ParquetFile(path) as file:
                for batch in file.iter_batches(ROWS_A_GROUP):
                    yield from map(_record, batch.to_pylist())
        except (OSError, arrow.ArrowInvalid) as error:
            raise UsageError(f"{path}: cannot be read as records ({error})") from error


def _record(row: Mapping[str, Any]) -> dict[str, Any]:
    """The record of a row; the inverse of `_row`."""
    low, high, words = row["value_low"], row["value_high"], row["words_beyond_good"]
    return {
        "schema": row["schema"],
        **{name: row[name] for name in ("source", "width_px", "height_px", "verdict")},
        **{name: row[name] for name in ("image_score", "image_score_from", "map_peak")},
        "thresholds": {
            "image": row["threshold"],
            "review": row["review_threshold"],
            "pixel": row["pixel_threshold"],
            "calibration": row["calibration"],
            "pixel_calibration": row["pixel_calibration"],
        },
        "top_type": row["top_type"],
        "types": dict(row["types"] or ()),
        "regions": row["regions"],
        **{name: row[name] for name in ("region_threshold", "min_area_px", "mm_per_px")},
        "value_range": None if low is None else [low, high],
        "tags": dict(row["tags"] or ()),
        "statistics": dict(row["statistics"] or ()),
        "reasons": None if words is None else {"words": words, "distance": row["distance_from_good"]},
        "model": {name: row[name] for name in ("backbone", "method", "prompts", "fingerprint", "version")},
        **{name: row[name] for name in ("error", "overlay", "mask", "maps")},
    }


def _row(record: Mapping[str, Any]) -> dict[str, Any]:
    types, regions = list(record["types"].items()), [dict(region) for region in record["regions"]]
    tags = list((record.get("tags") or {}).items())
    statistics = list((record.get("statistics") or {}).items())
    return {**csv_row(record), "types": types, "regions": regions, "tags": tags, "statistics": statistics}


def _chunks(rows: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    while chunk := list(islice(rows, ROWS_A_GROUP)):
        yield chunk


def _schema(arrow: Any) -> Any:
    text, number, integer = arrow.string(), arrow.float64(), arrow.int64()
    region = arrow.struct(
        {
            "type": text,
            "type_probability": number,
            "type_margin": number,
            "best_guess": text,
            "box_px": arrow.list_(integer),
            "area_px": integer,
            "mean_score": number,
            "peak_score": number,
            "polygon_px": arrow.list_(arrow.list_(integer)),
            "area_mm2": number,
            "size_mm": arrow.list_(number),
        }
    )
    numbers = {
        *("image_score", "map_peak", "threshold", "review_threshold", "pixel_threshold"),
        *("region_threshold", "min_area_px", "mm_per_px", "value_low", "value_high"),
        *("words_beyond_good", "distance_from_good"),
    }
    special = {
        "types": arrow.map_(text, number),
        "regions": arrow.list_(region),
        "tags": arrow.map_(text, text),
        **dict.fromkeys(("width_px", "height_px", "region_count"), integer),
        **dict.fromkeys(numbers, number),
    }
    return arrow.schema(
        [*((name, special.get(name, text)) for name in CSV_COLUMNS), ("statistics", arrow.map_(text, number))],
        metadata={"blemish.schema": INSPECTION_SCHEMA},
    )


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtraError("pyarrow", "parquet", "Parquet") from error
    return pyarrow, parquet
