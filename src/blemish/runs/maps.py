"""Raw maps beside the results, as NumPy's .npz: with them regions can be found again at another threshold."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.errors import UsageError
from blemish.io.atomic import replace_file
from blemish.results import Inspection, ModelInfo, Thresholds, Verdict

__all__ = ["read_inspection", "write_maps"]

ROUNDING = 1e-6  # another version, or another build of Pillow, may enlarge a map with other last digits


def write_maps(inspection: Inspection, path: Path) -> None:
    """The maps at model size, float32 as the model gave them, and the pixels that count as bits, where not all do."""
    arrays: dict[str, NDArray[Any]] = {"anomaly_map": inspection.anomaly_map}
    if inspection.type_maps is not None:
        arrays["type_maps"] = inspection.type_maps
    if inspection.inside is not None:
        arrays["inside"] = np.packbits(inspection.inside)
    with replace_file(path) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]


def read_inspection(record: Mapping[str, Any], path: Path, *, min_lead: float = 0.0) -> Inspection:
    """The inspection that a record and its maps came from, its regions left out; UsageError where they do not belong together.

    `min_lead` is that of the run.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in arrays.files}
        shape = (record["height_px"], record["width_px"])
        inside = None
        if "inside" in found:
            inside = np.unpackbits(found["inside"], count=shape[0] * shape[1]).reshape(shape).astype(bool)
        inspection = Inspection(
            source=record["source"],
            width_px=shape[1],
            height_px=shape[0],
            image_score=record["image_score"],
            verdict=Verdict(record["verdict"]),
            thresholds=Thresholds(**record["thresholds"]),
            anomaly_map=found["anomaly_map"],
            types=tuple(record["types"]),
            type_scores=np.array(list(record["types"].values()), np.float32),
            type_maps=found.get("type_maps"),
            regions=(),
            value_range=None if record["value_range"] is None else tuple(record["value_range"]),
            model=ModelInfo(**record["model"]),
            map_peak=record["map_peak"],
            image_score_from=record["image_score_from"],
            inside=inside,
            min_area_px=record["min_area_px"],
            mm_per_px=record["mm_per_px"],
            min_lead=min_lead,
        )
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise UsageError(f"{path}: the maps cannot be read ({error})") from error
    if not math.isclose(float(inspection.map_at_original().max()), record["map_peak"], abs_tol=ROUNDING):
        raise UsageError(f"{path}: the maps are not those of {record['source']}")
    return inspection
