"""Label Studio: tasks with pre-annotations to correct, and the labelling interface that goes with them.

Format: https://labelstud.io/guide/predictions (polygonlabels, choices); places are in percent of the image's size.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

from blemish.exports.common import common_folder, inspected, type_names, type_of
from blemish.exports.formats import Format
from blemish.io.atomic import write_text
from blemish.io.json_files import json_line
from blemish.runs.reading import Run

__all__ = ["FORMAT", "LOCAL_FILES", "prediction_of", "write_tasks"]

LOCAL_FILES = "/data/local-files/?d="  # how Label Studio's local storage names a file
VERDICTS = ("ok", "review", "ng")


def write_tasks(run: Run, path: Path, *, url_prefix: str | None = None) -> int:
    """Writes a task an image to the JSON file `path`, and the interface beside it as .xml; how many tasks.

    The address of an image is `url_prefix` (by default that of local storage) and its place below the folder that all images
    share. Images that could not be inspected are left out.
    """
    root = common_folder(run)
    prefix = LOCAL_FILES if url_prefix is None else url_prefix
    model = run.record["model"]
    version = f"{model['backbone']} {model['method']} {model['fingerprint'] or model['version']}"
    tasks = []
    for record in inspected(run):
        place = Path(os.path.relpath(record["source"], root)).as_posix()
        prediction = {"model_version": version, **prediction_of(record)}
        tasks.append(
            {
                "data": {"image": prefix + quote(os.fsencode(place)), "source": record["source"]},
                "predictions": [prediction],
            }
        )
    write_text(path, json_line(tasks) + "\n")
    write_text(path.with_suffix(".xml"), _interface(type_names(run)))
    return len(tasks)


def prediction_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """The score, verdict and regions of a record as a prediction."""
    regions = [_region(record, region, number) for number, region in enumerate(record["regions"])]
    return {"score": record["image_score"], "result": [_verdict(record), *regions]}


def _verdict(record: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": "verdict",
        "from_name": "verdict",
        "to_name": "image",
        "type": "choices",
        "value": {"choices": [record["verdict"]]},
    }


def _region(record: Mapping[str, Any], region: Mapping[str, Any], number: int) -> dict[str, Any]:
    width, height = record["width_px"], record["height_px"]
    points = [[100 * x / width, 100 * y / height] for x, y in region["polygon_px"]]
    return {
        "id": f"region{number}",
        "from_name": "defects",
        "to_name": "image",
        "type": "polygonlabels",
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "score": region["peak_score"],
        "value": {"points": points, "polygonlabels": [type_of(region)], "closed": True},
    }


def _interface(types: list[str]) -> str:
    labels = "".join(f"    <Label value={quoteattr(name)}/>\n" for name in types)
    choices = "".join(f'    <Choice value="{name}"/>\n' for name in VERDICTS)
    return (
        '<View>\n  <Image name="image" value="$image" zoom="true"/>\n'
        f'  <PolygonLabels name="defects" toName="image">\n{labels}  </PolygonLabels>\n'
        f'  <Choices name="verdict" toName="image" choice="single">\n{choices}  </Choices>\n</View>\n'
    )


FORMAT = Format(write=write_tasks, options=("url_prefix",))
