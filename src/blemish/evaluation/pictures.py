"""The images that a method does worst and best on, beside their maps; for a local page, as they are the user's own."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from blemish.data import Sample
from blemish.drawing.colours import heat
from blemish.evaluation.outcome import Evaluation
from blemish.evaluation.running import EvaluationRun, ScoredSample
from blemish.images import Picture
from blemish.maps import enlarge

__all__ = ["Shown", "show"]

EACH = 4  # images under a heading
SIDE_PX = 240
TRUTH = (0, 200, 255)

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Shown:
    """One image for a page: its heading, a caption, and the picture with its truth beside the one with its map, as a data URI."""

    heading: str
    caption: str
    uri: str


def show(evaluation: Evaluation, run: EvaluationRun) -> list[Shown]:
    """The worst and best images, scored once more for their maps; the colours' middle is the threshold of pixel F1-max."""
    found = []
    samples = {sample.name: sample for sample in run.data.samples}
    for heading, records in _chosen(evaluation):
        for record in records:
            drawn = _drawn(samples[record["name"]], run, _threshold(evaluation, record["product"], run))
            if drawn is not None:
                found.append(Shown(heading, _caption(record), drawn))
    return found


def _chosen(evaluation: Evaluation) -> list[tuple[str, Sequence[Record]]]:
    readable = [record for record in evaluation.records if "error" not in record]
    normal = sorted((one for one in readable if not one["anomalous"]), key=lambda one: -one["image_score"])
    anomalous = sorted((one for one in readable if one["anomalous"]), key=lambda one: one["image_score"])
    drawn = sorted((one for one in readable if "own_pixel_ap" in one), key=lambda one: one["own_pixel_ap"])
    found: list[tuple[str, Sequence[Record]]] = []
    if normal and anomalous:
        found.append(("Worst: anomalous images with the lowest image score", anomalous[:EACH]))
        found.append(("Worst: normal images with the highest image score", normal[:EACH]))
        found.append(("Best: anomalous images with the highest image score", anomalous[::-1][:EACH]))
    if drawn:
        found.append(("Worst: maps that rank their own defect lowest", drawn[:EACH]))
        found.append(("Best: maps that rank their own defect highest", drawn[::-1][:EACH]))
    return found


def _caption(record: Record) -> str:
    parts = [record["name"], record["defect_type"] or ("anomalous" if record["anomalous"] else "normal")]
    parts.append(f"score {record['image_score']:.3f}")
    if "own_pixel_ap" in record:
        parts.append(f"own pixel AP {100 * record['own_pixel_ap']:.0f}")
    return " · ".join(parts)


def _threshold(evaluation: Evaluation, product: str, run: EvaluationRun) -> float:
    for one in evaluation.report.products:
        value = one.row.values["pixel_f1_max"]
        if one.row.name == product and value.threshold is not None:
            return float(np.clip(value.threshold, 0.01, 0.99))
    return run.candidate.pixel_threshold


def _drawn(sample: Sample, run: EvaluationRun, threshold: float) -> str | None:
    scored: list[ScoredSample] = list(run.again([[sample]]))
    if not scored:
        return None
    picture = _small(sample.picture())
    mask = sample.mask() if sample.anomalous and sample.has_mask else None
    left = _outlined(picture, mask)
    coloured = heat(enlarge(scored[0].scores.anomaly_map, picture.size), threshold)
    right = picture.copy()
    layer = Image.fromarray(coloured)
    right.paste(layer.convert("RGB"), (0, 0), layer.getchannel("A"))
    both = Image.new("RGB", (2 * picture.width + 4, picture.height), (255, 255, 255))
    both.paste(left, (0, 0))
    both.paste(right, (picture.width + 4, 0))
    held = io.BytesIO()
    both.save(held, "JPEG", quality=82)
    return f"data:image/jpeg;base64,{base64.b64encode(held.getvalue()).decode()}"


def _small(picture: Picture) -> Image.Image:
    pixels: NDArray[Any] = picture.pixels
    if pixels.dtype != np.uint8:
        pixels = (pixels * np.float32(255) + np.float32(0.5)).astype(np.uint8)
    image = Image.fromarray(pixels)
    image.thumbnail((SIDE_PX, SIDE_PX), Image.Resampling.LANCZOS)
    return image


def _outlined(image: Image.Image, mask: NDArray[np.bool_] | None) -> Image.Image:
    if mask is None:
        return image
    share = Image.fromarray(mask.astype(np.uint8) * np.uint8(255)).resize(image.size, Image.Resampling.BOX)
    inside = np.pad(np.asarray(share) > 0, 1)
    core = inside[1:-1, 1:-1] & inside[:-2, 1:-1] & inside[2:, 1:-1] & inside[1:-1, :-2] & inside[1:-1, 2:]
    grown = inside[1:-1, 1:-1] | inside[:-2, 1:-1] | inside[2:, 1:-1] | inside[1:-1, :-2] | inside[1:-1, 2:]
    outlined = image.copy()
    outlined.paste(TRUTH, (0, 0), Image.fromarray((grown & ~core).astype(np.uint8) * np.uint8(255)))
    return outlined
