"""Real images with annotated defects from public repositories, laid out as MVTec AD is: defects/NAME/{train,test,ground_truth}.

`sources.toml` lists them under [[defects]]. An image is defective where its annotation marks a pixel, and good where the
annotation is empty or there is none.
"""

from __future__ import annotations

import io
import json
import re
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from blemish.errors import UsageError
from blemish.io.atomic import replace_file
from recipes.real.sources import PERMISSIVE, Snapshot, labelled_things

ALLOWED = (*PERMISSIVE, "CC-BY-SA-4.0")  # share-alike concerns copies of the images; none leaves the training folder
FORMS = ("mask", "red", "labelme", "yolo", "flags")
MOST_PX, QUALITY = 1024, 90  # longer side and JPEG quality of what is laid out
LEAST_MARKED = 100  # pixels at the size that is laid out; less is no visible defect and the image is left out
MOST_READ = 3  # times `most` images are read at most, for each of annotated and unannotated ones
LEAST_COVERED = 0.25  # share of a smaller pixel that the mask must cover: thin cracks stay connected

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class AnnotatedSource:
    """One entry of sources.toml; what its fields mean stands at the head of that file."""

    name: str
    repository: str
    licence: str
    licence_file: str
    credit: str
    kind: str
    pattern: str
    form: str
    annotations: tuple[str, ...] = ()
    boxes: tuple[tuple[int, int, int, int], ...] = ()
    most: int = 120
    tiles: int = 1


@dataclass(frozen=True)
class Sample:
    """An image of a source, as it is laid out."""

    file: str  # below the folder that everything is laid out in
    path: str  # in the repository
    pixels: NDArray[np.uint8]  # [H, W, 3], before it was made smaller and stored
    mask: Mask  # [H, W]; no pixel for a good image


def annotated_sources() -> tuple[AnnotatedSource, ...]:
    """All entries of sources.toml with annotated defects; UsageError for a licence or form that is not known."""
    text = resources.files("recipes.real").joinpath("sources.toml").read_text(encoding="utf-8")
    found = []
    for entry in tomllib.loads(text).get("defects", []):
        if entry["licence"] not in ALLOWED or entry["form"] not in FORMS:
            raise UsageError(
                f"sources.toml: {entry['name']} has the licence {entry['licence']} and the form {entry['form']}; "
                f"{ALLOWED} and {FORMS} are allowed"
            )
        listed = {
            **entry,
            "annotations": tuple(entry.get("annotations", ())),
            "boxes": tuple(tuple(box) for box in entry.get("boxes", ())),
        }
        found.append(AnnotatedSource(**listed))
    return tuple(found)


def lay_out(
    source: AnnotatedSource,
    snapshot: Snapshot,
    out: Path,
    *,
    decode: Callable[[bytes], NDArray[np.uint8] | None],
    allow: Callable[[NDArray[np.uint8], str], bool],
) -> Iterator[Sample]:
    """Writes the images and masks of one source and gives them, at most `most` good and `most` defective ones.

    Args:
        source: What to lay out.
        snapshot: Its repository.
        out: Images go to out/defects/NAME; half of the good ones to train, the rest to test.
        decode: Upright RGB pixels of the bytes of an image; None where they are no image.
        allow: False for an image that is known already; raises UsageError for one that must not be taken.

    Raises:
        UsageError: The file that states the licence is missing.
    """
    every = snapshot.paths()
    if source.licence_file not in every:
        raise UsageError(f"{source.repository}: {source.licence_file}, which states the licence, is not there any more")
    matches = {path: match for path in every if (match := re.fullmatch(source.pattern, path))}
    wanted = sorted({name for match in matches.values() for name in _named(source, match)} & set(every))
    annotations = dict(snapshot.contents(wanted))
    counts: Counter[str] = Counter()
    for path in _spread(source, matches, annotations):
        content = next(iter(snapshot.contents([path])), None)
        pixels = decode(content[1]) if content else None
        if pixels is None or not allow(pixels, f"{source.repository}: {path}"):
            continue
        mask = _mask(source, matches[path], annotations, pixels.shape[:2])
        for part, marked in _tiles(pixels, mask, source.tiles):
            state = "bad" if marked.any() else "good"
            if counts[state] >= source.most:
                continue
            small = _smaller(marked)
            if marked.any() and small.sum() < LEAST_MARKED:
                continue
            split = "train" if state == "good" and counts["good"] % 2 == 0 else "test"
            stem = f"{counts[state]:04d}"
            counts[state] += 1
            name = f"defects/{source.name}/{split}/{state}/{stem}.jpg"
            picture = Image.fromarray(part).resize(small.shape[::-1], Image.Resampling.LANCZOS)
            with replace_file(out / name) as temporary:
                picture.save(temporary, format="JPEG", quality=QUALITY)
            if state == "bad":
                with replace_file(out / f"defects/{source.name}/ground_truth/bad/{stem}_mask.png") as temporary:
                    Image.fromarray(small.astype(np.uint8) * 255).save(temporary, format="PNG")
            yield Sample(name, path, part, marked)


def _named(source: AnnotatedSource, match: re.Match[str]) -> list[str]:
    return [template.format(**match.groupdict()) for template in source.annotations]


def _spread(source: AnnotatedSource, matches: dict[str, re.Match[str]], annotations: dict[str, bytes]) -> Iterator[str]:
    """The paths, first evenly spread ones: neighbours by name are often photos of one thing."""
    order = {path: any(name in annotations for name in _named(source, match)) for path, match in matches.items()}
    for annotated in (True, False):
        paths = [path for path, has in order.items() if has is annotated]
        step = max(1, len(paths) // (2 * source.most))
        spread = [path for start in range(step) for path in paths[start::step]]
        yield from spread[: MOST_READ * source.most]


def _mask(source: AnnotatedSource, match: re.Match[str], annotations: dict[str, bytes], shape: tuple[int, ...]) -> Mask:
    """The marked pixels [H, W] of an image, all its annotations together."""
    height, width = shape
    canvas = Image.new("L", (width, height))
    draw = ImageDraw.Draw(canvas)
    if source.form == "flags":
        for flag, box in zip(match["flags"], source.boxes, strict=True):
            if flag == "0":
                draw.rectangle(box, fill=255)
    marked = np.zeros((height, width), bool)
    for name in _named(source, match):
        if name not in annotations:
            continue
        if source.form == "labelme":
            for shape_of in json.loads(annotations[name])["shapes"]:
                draw.polygon([tuple(point) for point in shape_of["points"]], fill=255)
        elif source.form == "yolo":
            for _, (left, top, right, bottom) in labelled_things(annotations[name].decode("utf-8", "replace"), ()):
                draw.rectangle((left * width, top * height, right * width, bottom * height), fill=255)
        else:
            stored = Image.open(io.BytesIO(annotations[name])).convert("RGB").resize((width, height), 0)
            red, green = (np.asarray(stored)[..., channel] for channel in (0, 1))
            marked |= (red > 127) & (green < 128) if source.form == "red" else np.asarray(stored).max(2) > 127
    return marked | (np.asarray(canvas) > 0)


def _tiles(pixels: NDArray[np.uint8], mask: Mask, tiles: int) -> Iterator[tuple[NDArray[np.uint8], Mask]]:
    """The image cut into tiles x tiles equal parts: so a source of defective images alone has good parts too."""
    height, width = (side // tiles for side in mask.shape)
    for row in range(tiles):
        for column in range(tiles):
            rows, columns = slice(row * height, (row + 1) * height), slice(column * width, (column + 1) * width)
            yield pixels[rows, columns], mask[rows, columns]


def _smaller(mask: Mask) -> Mask:
    scale = min(1.0, MOST_PX / max(mask.shape))
    size = (round(mask.shape[1] * scale), round(mask.shape[0] * scale))
    covered = Image.fromarray(mask.astype(np.uint8) * 255).resize(size, Image.Resampling.BOX)
    return np.asarray(covered) > 255 * LEAST_COVERED
