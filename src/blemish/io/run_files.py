"""What a folder of results holds, by name, and how to tell one from a folder of images."""

from __future__ import annotations

import json
from pathlib import Path

__all__ = [
    "LEARNED_FILE",
    "LINES_FILE",
    "MANIFEST_FILE",
    "MAPS",
    "MASKS",
    "OVERLAYS",
    "PARQUET_FILE",
    "PARTS",
    "RUN_FILE",
    "RUN_SCHEMA",
    "TABLE_FILE",
    "holds_run",
]

RUN_SCHEMA = "blemish.run/1"
RUN_FILE, LINES_FILE, TABLE_FILE, PARQUET_FILE = "run.json", "results.jsonl", "results.csv", "results.parquet"
OVERLAYS, MASKS, MAPS = "overlays", "masks", "maps"
MANIFEST_FILE, LEARNED_FILE = "sources.parquet", "learned.json"  # of a run in shards
PARTS = "records"  # of a run in shards: a Parquet file each, instead of the lines and the tables


def holds_run(folder: Path) -> bool:
    """Whether a run of Blemish, of any version, was written into this folder; another program's run.json is none."""
    try:
        run = json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(run, dict) and str(run.get("schema", "")).startswith("blemish.run/")
