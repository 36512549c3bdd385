"""FiftyOne: a data set of its own, where FiftyOne is installed (pip install fiftyone; it is none of Blemish's extras)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from blemish.errors import UsageError
from blemish.exports.common import empty_folder, inspected, type_of
from blemish.exports.formats import Format
from blemish.runs.reading import Run

__all__ = ["FORMAT", "sample_of", "write_fiftyone"]


def write_fiftyone(run: Run, out: Path) -> int:
    """Writes a FiftyOneDataset to the new folder `out`, its images where they are; how many.

    Each sample has `verdict` (classification, with the image score) and `defects` (closed polylines). UsageError where
    FiftyOne is not installed.
    """
    try:
        import fiftyone
    except ImportError as error:
        raise UsageError(
            "FiftyOne is not installed: pip install fiftyone, or use --format coco, which it reads"
        ) from error
    empty_folder(out)
    dataset = fiftyone.Dataset()
    for record in inspected(run):
        plain = sample_of(record)
        sample = fiftyone.Sample(filepath=plain["filepath"])
        sample["verdict"] = fiftyone.Classification(**plain["verdict"])
        sample["defects"] = fiftyone.Polylines(polylines=[fiftyone.Polyline(**each) for each in plain["defects"]])
        dataset.add_sample(sample)
    dataset.export(export_dir=str(out), dataset_type=fiftyone.types.FiftyOneDataset, export_media=False)
    return len(dataset)


def sample_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """What a sample is made of: places in shares of the image's size."""
    width, height = record["width_px"], record["height_px"]
    return {
        "filepath": os.path.abspath(record["source"]),  # noqa: PTH100  (links stay as they were named)
        "verdict": {"label": record["verdict"], "confidence": record["image_score"]},
        "defects": [
            {
                "label": type_of(region),
                "points": [[(x / width, y / height) for x, y in region["polygon_px"]]],
                "confidence": region["peak_score"],
                "closed": True,
                "filled": True,
            }
            for region in record["regions"]
        ],
    }


FORMAT = Format(write=write_fiftyone, writes_folder=True)
