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
from blemish.results import Inspection
from blemish.runs.records import inspection_of

__all__ = ["read_inspection", "read_maps", "write_maps"]

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


def read_maps(path: Path, *, width_px: int, height_px: int) -> dict[str, NDArray[Any]]:
    """The maps that `write_maps` wrote for an image of this size.

    Returns:
        "anomaly_map" [h, w] float32; "type_maps" [T, h, w] float32 where the method has some; "inside" [height_px, width_px] bool
        where not all pixels count.

    Raises:
        UsageError: They cannot be read.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            maps = {name: arrays[name] for name in arrays.files}
        if "inside" in maps:
            bits = np.unpackbits(maps["inside"], count=width_px * height_px)
            maps["inside"] = bits.reshape(height_px, width_px).astype(bool)
        if maps["anomaly_map"].ndim != 2:
            raise ValueError("the anomaly map is no map")
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise UsageError(f"{path}: the maps cannot be read ({error})") from error
    return maps


def read_inspection(record: Mapping[str, Any], folder: Path, *, min_lead: float = 0.0) -> Inspection:
    """The inspection that a record of the run in a folder came from, with its maps where they were kept.

    Raises:
        UsageError: The maps cannot be read, or are those of another image.
    """
    path = folder / record["maps"] if record.get("maps") else None
    if path is None or not path.is_file():
        return inspection_of(record, min_lead=min_lead)
    maps = read_maps(path, width_px=record["width_px"], height_px=record["height_px"])
    inspection = inspection_of(record, maps, min_lead=min_lead)
    if not math.isclose(float(inspection.map_at_original().max()), record["map_peak"], abs_tol=ROUNDING):
        raise UsageError(f"{path}: the maps are not those of {record['source']}")
    return inspection
