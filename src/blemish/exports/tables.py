"""The records of a run as a table, CSV or Parquet: all images, those that could not be inspected too."""

from __future__ import annotations

from blemish.exports.formats import Format
from blemish.runs.reading import read_records
from blemish.runs.tables import write_csv, write_parquet

__all__ = ["CSV", "PARQUET"]

CSV = Format(write=lambda run, out: write_csv(read_records(run.path), out), lists_unreadable=True)
PARQUET = Format(write=lambda run, out: write_parquet(read_records(run.path), out), lists_unreadable=True)
