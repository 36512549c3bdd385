"""A selection of inspections as a finished run, written in any format that `blemish export` knows, in one ZIP file."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import zipfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from sqlalchemy.engine import Engine

from blemish.errors import UsageError
from blemish.exports import FORMATS
from blemish.exports.formats import export
from blemish.images import save
from blemish.io.json_files import json_line, json_text
from blemish.io.provenance import utc_now, versions
from blemish.io.run_files import LINES_FILE, MASKS, RUN_FILE, RUN_SCHEMA
from blemish.runs.counts import RunCounts
from blemish.serve import history
from blemish.serve.data_folder import EXPORTS, DataFolder
from blemish.serve.history import Filters
from blemish.serve.pictures import PictureGone, Pictures

__all__ = ["ExportMade", "export_selection"]

IMAGES = "images"
# What a format that is one file is called in the ZIP.
FILE_NAMES = {"coco": "coco.json", "csv": "results.csv", "parquet": "results.parquet", "label-studio": "tasks.json"}


@dataclass(frozen=True)
class ExportMade:
    """A ZIP file to send, and then to remove."""

    path: Path
    name: str
    count: int  # images
    folder: Path  # to remove

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


def export_selection(
    db: Engine,
    folder: DataFolder,
    pictures: Pictures,
    filters: Filters,
    *,
    format_name: str,
    limit: int = 1000,
    images: bool = True,
) -> ExportMade:
    """The newest inspections that the filters leave, in a format.

    Args:
        db: The database.
        folder: The data folder; the ZIP file lies in it until it is sent.
        pictures: What draws the masks.
        filters: Which inspections; those without a verdict are left out.
        format_name: As `blemish export --format` takes it.
        limit: How many at most.
        images: Whether the image files are in it, too.

    Raises:
        UnknownNameError: There is no such format.
        UsageError: Nothing is left by the filters.
    """
    chosen = FORMATS[format_name]
    rows = [
        row
        for row in history.find_inspections(db, filters, limit=limit)
        if row.record is not None and row.verdict is not None
    ]
    if not rows:
        raise UsageError("no inspection with a verdict fits these filters")
    (folder.path / EXPORTS).mkdir(exist_ok=True)
    made = Path(tempfile.mkdtemp(dir=folder.path / EXPORTS))
    try:
        run = _write_run(made / "run", rows, folder, pictures)
        out = made / "out"
        out.mkdir()
        target = out / format_name if chosen.writes_folder else out / FILE_NAMES.get(format_name, format_name)
        count = export(run, format_name, out=target)
        path = made / "export.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            _add(archive, out, "")
            if images:
                _add(archive, run / IMAGES, f"{IMAGES}/")
            archive.write(run / LINES_FILE, LINES_FILE)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise
    return ExportMade(path, f"blemish-{format_name}.zip", count, made)


def _write_run(run: Path, rows: list[Any], folder: DataFolder, pictures: Pictures) -> Path:
    """The rows as a folder of results, with links to their images and the masks of those that have maps."""
    (run / IMAGES).mkdir(parents=True)
    counts = RunCounts()
    types: dict[str, None] = {}
    lines = []
    for row in reversed(rows):
        record = json.loads(row.record)
        name = f"{row.id[:8]}-{_safe(row.name)}"
        with suppress(OSError):
            if row.image is not None:
                os.symlink(folder.path_of(row.image), run / IMAGES / name)  # noqa: PTH211
        mask = f"{MASKS}/{name}.png"
        try:
            save(pictures.inspection(row).mask(), run / mask)
        except PictureGone:
            mask = None  # type: ignore[assignment]
        record |= {"source": f"{IMAGES}/{name}", "overlay": None, "mask": mask, "maps": None}
        types |= dict.fromkeys(record["types"])
        counts.add(record)
        lines.append(json_line(record) + "\n")
    newest = json.loads(rows[0].record)
    facts = {
        "schema": RUN_SCHEMA,
        "status": "finished",
        "command": ["blemish", "serve"],
        "started": utc_now(),
        "made_in": str(run),
        "duration_s": 0.0,
        "versions": versions(),
        "config": {},
        "model": newest["model"],
        "types": list(types),
        "thresholds": newest["thresholds"],
        "calibration": None,
        "value_range": None,
        **counts.to_dict(),
    }
    (run / LINES_FILE).write_text("".join(lines), encoding="utf-8")
    (run / RUN_FILE).write_text(json_text(facts), encoding="utf-8")
    return run


def _safe(name: str) -> str:
    """The last part of a name, of letters that every system takes."""
    last = PurePosixPath(name.replace("\\", "/")).name or "image"
    return "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in last)[-80:]


def _add(archive: zipfile.ZipFile, folder: Path, prefix: str) -> None:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            archive.write(path, prefix + path.relative_to(folder).as_posix())
