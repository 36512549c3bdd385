"""A finished run decided again, without the model: verdicts from the raw scores, regions from the raw maps where they were kept.

No raw score is changed. The files are replaced one by one, pictures first and run.json last: after a crash the same command
makes the run consistent.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from blemish.calibration import Calibration, read_calibration
from blemish.drawing.overlay import draw_overlay
from blemish.errors import ImageError, UsageError
from blemish.images import read, save
from blemish.inspection.decide import decide, region_threshold, resolve_thresholds
from blemish.inspection.regions import find_regions
from blemish.io.atomic import replace_file, write_text
from blemish.io.json_files import json_line, json_text
from blemish.io.provenance import command_line, utc_now
from blemish.io.run_files import LINES_FILE, PARQUET_FILE, RUN_FILE, TABLE_FILE
from blemish.results import Inspection, Thresholds
from blemish.runs.maps import read_inspection
from blemish.runs.reading import Run, read_records, read_run
from blemish.runs.records import CSV_COLUMNS, csv_row
from blemish.runs.tables import write_parquet

__all__ = ["Redecided", "rethreshold"]


@dataclass(frozen=True, kw_only=True)
class Change:
    """New thresholds; None keeps what a run has."""

    image: float | None = None  # 0..1
    pixel: float | None = None  # 0..1
    calibration: Calibration | None = None

    def of(self, current: Thresholds) -> Thresholds:
        """The thresholds in force after the change."""
        calibrated = None if self.calibration is None else self.calibration.thresholds
        return resolve_thresholds(calibration=calibrated, image=self.image, pixel=self.pixel, current=current)


@dataclass(frozen=True, kw_only=True)
class Redecided:
    """What became of a run that was decided again."""

    verdicts: Mapping[str, int]  # "ok", "review", "ng"
    changed: int  # verdicts that are other ones now
    old_regions: int  # images whose regions stay as found at the old pixel threshold, as no maps were kept
    old_overlays: int  # overlays that still show the old decision
    thresholds: Thresholds  # in force now


def rethreshold(
    run: str | Path,
    *,
    calibration: Calibration | str | Path | None = None,
    threshold: float | None = None,
    pixel_threshold: float | None = None,
    command: Sequence[str] | None = None,
) -> Redecided:
    """Decides a finished run again, without the model, as `blemish rethreshold` does.

    Verdicts come from the raw image scores. Where the pixel threshold changes, regions and masks are found again from the
    kept maps, and overlays are drawn again where the image is still in its place; without maps regions stay as they were, and
    so does the pixel threshold in their records.

    Args:
        run: The folder of its results.
        calibration: A calibration, or its file.
        threshold: The image score (0..1) from which an image is NG; comes before the calibration's.
        pixel_threshold: The pixel score (0..1) from which a pixel belongs to a region; likewise.
        command: What run.json names as the command; by default that of this process.

    Returns:
        The verdicts after it, and how many of them changed.

    Raises:
        UsageError: There is no finished run, no new threshold, or the calibration was made with another setup.

    Example:
        >>> rethreshold("results", threshold=0.5).verdicts["ng"]
        1
    """
    if calibration is None and threshold is None and pixel_threshold is None:
        raise UsageError("give --calibration, --threshold or --pixel-threshold")
    if calibration is not None and not isinstance(calibration, Calibration):
        calibration = read_calibration(calibration)
    change = Change(image=threshold, pixel=pixel_threshold, calibration=calibration)
    done = read_run(run)
    if change.calibration is not None:
        change.calibration.check(done.setup)
    return _decide_run_again(done, change, command_line() if command is None else command)


def _decide_run_again(run: Run, change: Change, command: Sequence[str]) -> Redecided:
    verdicts: Counter[str] = Counter()
    changed = old_regions = old_overlays = 0
    with (
        replace_file(run.path / LINES_FILE) as lines_path,
        replace_file(run.path / TABLE_FILE) as table_path,
        lines_path.open("w", encoding="utf-8", errors="backslashreplace", newline="\n") as lines,
        table_path.open("w", encoding="utf-8", errors="backslashreplace", newline="") as table_stream,
    ):
        table = csv.DictWriter(table_stream, CSV_COLUMNS, lineterminator="\n")
        table.writeheader()
        for record in read_records(run.path):
            new = _decide_again(run, record, change)
            lines.write(json_line(new.record) + "\n")
            table.writerow(csv_row(new.record))
            if new.record["verdict"] is not None:
                verdicts[new.record["verdict"]] += 1
            changed += new.record["verdict"] != record["verdict"]
            old_regions += new.old_regions
            old_overlays += new.old_overlay
    if (run.path / PARQUET_FILE).is_file():
        write_parquet(read_records(run.path), run.path / PARQUET_FILE)
    old = Thresholds(**run.record["thresholds"])
    thresholds = change.of(old)
    if old_regions:
        thresholds = replace(thresholds, pixel=old.pixel, pixel_calibration=old.pixel_calibration)
    done = Redecided(
        verdicts=verdicts, changed=changed, old_regions=old_regions, old_overlays=old_overlays, thresholds=thresholds
    )
    _write_run(run, change, done, command)
    return done


@dataclass(frozen=True)
class _New:
    record: dict[str, Any]
    old_regions: bool
    old_overlay: bool


def _decide_again(run: Run, record: dict[str, Any], change: Change) -> _New:
    folder = run.path
    old = Thresholds(**record["thresholds"])
    thresholds = change.of(old)
    if thresholds == old or record["verdict"] is None:  # it could not be inspected
        return _New(record, old_regions=False, old_overlay=False)
    has_maps = bool(record.get("maps")) and (folder / record["maps"]).is_file()
    old_regions = not has_maps and thresholds.pixel != old.pixel
    if old_regions:
        thresholds = replace(thresholds, pixel=old.pixel, pixel_calibration=old.pixel_calibration)
    verdict = decide(record["image_score"], thresholds)
    new = {**record, "verdict": verdict.value, "thresholds": thresholds.to_dict()}
    if not has_maps:
        return _New(new, old_regions, old_overlay=bool(record.get("overlay")))
    inspection = read_inspection(record, folder, min_lead=run.min_lead)
    size, scores = (inspection.width_px, inspection.height_px), inspection.map_at_original()
    level = region_threshold(verdict, thresholds, map_peak=float(scores.max()))
    regions = find_regions(
        scores,
        size,
        threshold=level,
        min_area_px=inspection.min_area_px,
        types=inspection.types,
        type_maps=inspection.type_maps,
        mm_per_px=inspection.mm_per_px,
        min_lead=run.min_lead,
    )
    inspection = replace(inspection, verdict=verdict, thresholds=thresholds, regions=regions, region_threshold=level)
    if record.get("mask"):
        save(inspection.mask(), folder / record["mask"])
    new |= {"region_threshold": level, "top_type": inspection.top_type}
    new["regions"] = [region.to_dict() for region in regions]
    return _New(
        new, old_regions=False, old_overlay=bool(record.get("overlay")) and not _draw(folder, record, inspection)
    )


def _draw(folder: Path, record: Mapping[str, Any], inspection: Inspection) -> bool:
    """Whether the overlay could be drawn again: the image must still be where it was."""
    try:
        picture = read(record["source"], value_range=inspection.value_range, max_megapixels=float("inf"))
    except ImageError:
        return False
    if (picture.width_px, picture.height_px) != (inspection.width_px, inspection.height_px):
        return False
    save(draw_overlay(picture, inspection), folder / record["overlay"])
    return True


def _write_run(run: Run, change: Change, done: Redecided, command: Sequence[str]) -> None:
    entry = {
        "date": utc_now(),
        "command": list(command),
        "thresholds_before": run.record["thresholds"],
        "changed_verdicts": done.changed,
        "old_regions": done.old_regions,
        "old_overlays": done.old_overlays,
    }
    record = {
        **run.record,
        "thresholds": done.thresholds.to_dict(),
        "counts": {**run.record["counts"], **{name: done.verdicts.get(name, 0) for name in ("ok", "review", "ng")}},
        "rethresholded": [*run.record.get("rethresholded", []), entry],
    }
    if change.calibration is not None:
        record["calibration"] = change.calibration.identity
    write_text(run.path / RUN_FILE, json_text(record))
