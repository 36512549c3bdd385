"""COCO: one JSON with images, categories (the defect types) and annotations (polygons, run lengths).

Images without an annotation are normal.
"""

from __future__ import annotations

import json
from collections import Counter
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

__all__ = ["Shape", "Shapes", "fill_polygon", "fits", "read", "unpack_counts"]

NAMES = ("_annotations.coco.json", "annotations.json", "coco.json")
SPLITS: dict[str, Split] = {"train": "train", "valid": "train", "val": "train", "test": "test"}
IMAGE_FOLDERS = ("", "images")
MOST_NAMED = 5


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
    size_px: tuple[int, int] | None  # None: not stated
    shapes: tuple[Shape, ...]

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.file,)

    def mask(self, size_px: tuple[int, int]) -> NDArray[np.bool_]:
        return self.type_mask(size_px).ids > 0

    def type_mask(self, size_px: tuple[int, int]) -> TypeMask:
        if self.size_px not in (None, size_px):
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
        table: dict[str, Any] = json.loads(scan.text(file))
        words = {_key(item["id"]): str(item["name"]) for item in table["categories"]}
        listed, notes = list(table["images"]), list(table["annotations"])
        if not all(isinstance(item, dict) for item in (*listed, *notes)):
            raise TypeError("an image or an annotation is no object")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UsageError(f"{file}: is not a COCO file ({error!r})") from error
    annotations: dict[str, list[dict[str, Any]]] = {}
    for item in notes:
        annotations.setdefault(_key(item.get("image_id")), []).append(item)
    _report_strays(scan, file, listed, annotations)
    samples, seen = [], set()
    for item in listed:
        name, key = str(item.get("file_name") or ""), _key(item.get("id"))
        picture = scan.locate(file.parent, name, IMAGE_FOLDERS) if name else None
        if picture is None:
            scan.report(file.parent / name, f"is named in {file.name} and is not there")
        elif picture in seen:
            scan.report(picture, f"is listed twice in {file.name}: its annotations may be apart", fatal=True)
        else:
            seen.add(picture)
            samples.append(
                _sample(scan, entry, _Listed(file, picture, name, _size(item)), annotations.get(key, []), words)
            )
    return samples


@dataclass(frozen=True)
class _Listed:
    """One image of a COCO file: where the file is, its name there, and the size that is stated."""

    json: Path
    path: Path
    name: str
    size_px: tuple[int, int] | None


def _sample(scan: Scan, entry: Entry, image: _Listed, mine: list[dict[str, Any]], words: dict[str, str]) -> FileSample:
    file = image.json
    named = [words.get(_key(note.get("category_id")), "") for note in mine]
    try:
        drawn = [
            _shape(entry.type_of(word), note.get("segmentation")) if _key(note.get("category_id")) in words else None
            for note, word in zip(mine, named, strict=True)
        ]
    except (ValueError, TypeError) as error:
        drawn = [None] * len(mine)
        scan.report(image.path, f"has a segmentation in {file.name} that is no polygon and no run lengths ({error})")
    shapes = tuple(shape for shape in drawn if shape is not None)
    if len(shapes) < len(mine):
        scan.report(
            image.path, f"has an annotation in {file.name} without a drawn shape or a known category: it has no mask"
        )
    grouped = {entry.type_of(word) if word else "" for word in named}
    root = scan.root if scan.root.is_dir() else file.parent
    return FileSample(
        name=image.path.relative_to(root).as_posix() if image.path.is_relative_to(root) else image.name,
        product=folder_name(root),
        split=SPLITS.get(file.parent.name, "test"),
        anomalous=bool(mine),
        path=image.path,
        defect_type=next(iter(grouped)) if len(grouped) == 1 else "",
        folder=", ".join(sorted(set(named))),  # whatever order the annotations come in
        truth=Shapes(file, image.name, image.size_px, shapes) if shapes and len(shapes) == len(mine) else None,
    )


def _report_strays(
    scan: Scan, file: Path, listed: list[dict[str, Any]], annotations: dict[str, list[dict[str, Any]]]
) -> None:
    """Names annotations of no image, and images that share an id: either makes it unsure what is normal."""
    ids = Counter(_key(item.get("id")) for item in listed)
    strays = {key: len(notes) for key, notes in annotations.items() if key not in ids}
    if strays:
        shown = ", ".join(key or "none" for key in list(strays)[:MOST_NAMED])
        scan.report(
            file,
            f"has {sum(strays.values())} annotations of images that it does not list (image_id {shown})",
            fatal=True,
        )
    for key, count in ids.items():
        if count > 1:
            scan.report(
                file, f"gives {count} images the id {key or 'none'}: no annotation can be told apart", fatal=True
            )


def _key(value: Any) -> str:
    """An id as text: 1, 1.0 and "1" are one."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return "" if value is None else str(value).strip()


def _size(item: dict[str, Any]) -> tuple[int, int] | None:
    """The stated width and height; None where they are not stated."""
    try:
        return int(item["width"]), int(item["height"])
    except (KeyError, TypeError, ValueError):
        return None


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
