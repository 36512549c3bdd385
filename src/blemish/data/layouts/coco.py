"""COCO: one JSON with images, categories (the defect types) and annotations (polygons, run lengths).

Images without an annotation are normal.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.data.entries import Entry
from blemish.data.files import FileSample, TypeMask
from blemish.data.samples import Split
from blemish.data.scan import Scan, folder_name
from blemish.errors import ImageError, UsageError
from blemish.io.atomic import reason

__all__ = ["Shape", "Shapes", "fill_polygon", "fits", "read", "unpack_counts"]

NAMES = ("_annotations.coco.json", "annotations.json", "coco.json")
SPLITS: dict[str, Split] = {"train": "train", "valid": "train", "val": "train", "test": "test"}
IMAGE_FOLDERS = ("", "images")


@dataclass(frozen=True)
class Shape:
    """One annotation: its type, and polygons (x, y, x, y...) or run lengths down the columns, beginning with background."""

    defect_type: str
    polygons: tuple[tuple[float, ...], ...] = ()
    counts: tuple[int, ...] | str = ()

    def mask(self, size_px: tuple[int, int]) -> NDArray[np.bool_]:
        """The pixels [H, W]; ValueError where the run lengths do not fill the image."""
        width, height = size_px
        if self.counts:
            runs = unpack_counts(self.counts) if isinstance(self.counts, str) else self.counts
            if sum(runs) != width * height:
                raise ValueError(f"its run lengths fill {sum(runs)} pixels, the image has {width * height}")
            flat = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
            return flat.reshape(width, height).T
        found = np.zeros((height, width), bool)
        for polygon in self.polygons:
            found |= fill_polygon(polygon, size_px)
        return found


@dataclass(frozen=True)
class Shapes:
    """All annotations of one image, whose file and size the JSON says."""

    file: Path
    image: str
    size_px: tuple[int, int]
    shapes: tuple[Shape, ...]

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.file,)

    def mask(self, size_px: tuple[int, int]) -> NDArray[np.bool_]:
        return self.type_mask(size_px).ids > 0

    def type_mask(self, size_px: tuple[int, int]) -> TypeMask:
        if size_px != self.size_px:
            raise ImageError(self.file, f"says that {self.image} is {self.size_px} px, and it is {size_px}")
        names = tuple(dict.fromkeys(shape.defect_type for shape in self.shapes))
        ids = np.zeros(size_px[::-1], np.uint8)
        for shape in self.shapes:
            try:
                ids[shape.mask(size_px)] = names.index(shape.defect_type) + 1
            except (ValueError, OverflowError) as error:
                raise ImageError(self.file, f"an annotation of {self.image} cannot be drawn: {error}") from error
        return TypeMask(ids, dict(enumerate(names, start=1)))


def fits(root: Path, entry: Entry, *, sure: bool) -> bool:  # noqa: ARG001
    """Whether `root` is a JSON of this kind, or a folder with one under a usual name (also in train, valid, test)."""
    return bool(_files(root))


def read(scan: Scan, entry: Entry) -> list[FileSample]:
    return [sample for file in _files(scan.root) for sample in _read_file(scan, entry, file)]


def _read_file(scan: Scan, entry: Entry, file: Path) -> list[FileSample]:
    try:
        table: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        types = {item["id"]: entry.type_of(str(item["name"])) for item in table["categories"]}
        words = {item["id"]: str(item["name"]) for item in table["categories"]}
        annotations: dict[Any, list[dict[str, Any]]] = {}
        for item in table["annotations"]:
            annotations.setdefault(item["image_id"], []).append(item)
        pictures = [(item, item["file_name"], (int(item["width"]), int(item["height"]))) for item in table["images"]]
    except OSError as error:
        raise UsageError(f"{file}: cannot be read ({reason(error)})") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{file}: is not a COCO file ({error!r})") from error
    samples = []
    for item, name, size_px in pictures:
        picture = next((path for inner in IMAGE_FOLDERS if (path := file.parent / inner / name).is_file()), None)
        if picture is None:
            scan.report(file.parent / name, f"is named in {file.name} and is not there")
            continue
        mine = annotations.get(item["id"], [])
        shapes = [
            _shape(types[note["category_id"]], note.get("segmentation"))
            for note in mine
            if note["category_id"] in types
        ]
        drawn = tuple(shape for shape in shapes if shape is not None)
        if len(drawn) < len(mine):
            scan.report(
                picture, f"has an annotation in {file.name} without a drawn shape or a known category: it has no mask"
            )
        named = tuple(dict.fromkeys(words.get(note["category_id"], "") for note in mine))
        grouped = tuple(dict.fromkeys(types.get(note["category_id"], "") for note in mine))
        samples.append(
            FileSample(
                name=picture.relative_to(scan.root if scan.root.is_dir() else file.parent).as_posix(),
                product=folder_name(scan.root if scan.root.is_dir() else file.parent),
                split=SPLITS.get(file.parent.name, "test"),
                anomalous=bool(mine),
                path=picture,
                defect_type=grouped[0] if len(grouped) == 1 else "",
                folder=", ".join(named),
                truth=Shapes(file, name, size_px, drawn) if drawn and len(drawn) == len(mine) else None,
            )
        )
    return samples


def _shape(defect_type: str, segmentation: Any) -> Shape | None:
    if isinstance(segmentation, list) and segmentation:
        return Shape(defect_type, polygons=tuple(tuple(map(float, polygon)) for polygon in segmentation))
    if isinstance(segmentation, dict) and segmentation.get("counts"):
        counts = segmentation["counts"]
        return Shape(defect_type, counts=counts if isinstance(counts, str) else tuple(map(int, counts)))
    return None


def fill_polygon(points: tuple[float, ...], size_px: tuple[int, int]) -> NDArray[np.bool_]:
    """The pixels [H, W] whose centre lies inside the polygon x, y, x, y... (even-odd)."""
    width, height = size_px
    corners = np.array(points, np.float64).reshape(-1, 2)
    found = np.zeros((height, width), bool)
    ends = np.roll(corners, -1, axis=0)
    centres = np.arange(width) + 0.5
    first, last = int(np.floor(corners[:, 1].min())), int(np.ceil(corners[:, 1].max()))
    for row in range(max(first, 0), min(last + 1, height)):
        level = row + 0.5
        crossing = (corners[:, 1] <= level) != (ends[:, 1] <= level)
        (x0, y0), (x1, y1) = corners[crossing].T, ends[crossing].T
        crossings = np.sort(x0 + (level - y0) * (x1 - x0) / (y1 - y0))
        found[row] = np.searchsorted(crossings, centres, side="right") % 2 == 1
    return found


def unpack_counts(text: str) -> tuple[int, ...]:
    """The run lengths in COCO's compressed string: groups of five bits, lowest first, from the third run on as differences."""
    runs: list[int] = []
    value = shift = 0
    for letter in text.encode("ascii"):
        bits = letter - 48
        value |= (bits & 0x1F) << shift
        shift += 5
        if bits & 0x20:
            continue
        if bits & 0x10:
            value -= 1 << shift
        runs.append(value + runs[-2] if len(runs) > 2 else value)
        value = shift = 0
    return tuple(runs)


def _files(root: Path) -> list[Path]:
    if root.suffix.lower() == ".json" and root.is_file():
        return [root] if root.name != "meta.json" else []
    places = (root, *(root / name for name in SPLITS))
    found = [next((place / name for name in NAMES if (place / name).is_file()), None) for place in places]
    return [file for file in found if file is not None]
