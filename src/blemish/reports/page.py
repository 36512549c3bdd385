"""A run as one HTML page that opens from disk: no network, no other files needed, everything escaped.

The page's own files are page.html, page.css and page.js beside this module. Data goes into it as JSON; small pictures are in it,
those of full size are linked relatively, or in it, too.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from PIL import Image

from blemish.drawing.colours import NEUTRAL, VERDICT_COLOURS, Colour, heat, type_colour
from blemish.errors import ImageError
from blemish.images import read
from blemish.io.atomic import replace_file
from blemish.io.prefetch import in_order
from blemish.io.run_files import LINES_FILE
from blemish.reports.sample import MOST_ON_PAGE
from blemish.runs.reading import Run

__all__ = ["write_run_page"]

THUMBNAILS_PX = ((200, 256), (1000, 192))  # up to so many images: the longer side; the page stays below about 30 MB
SMALLEST_THUMBNAIL_PX = 144
THUMBNAIL_QUALITY, FULL_QUALITY = 72, 85
SHOWN_BY_BROWSERS = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}
THREADS = 2


def write_run_page(
    folder: Path,
    run: Mapping[str, Any],
    records: Iterable[Mapping[str, Any]],
    path: Path,
    *,
    inline: bool = False,
    sample: str = "",
    advance: Callable[[], None] = lambda: None,
) -> int:
    """Writes the page of the run in `folder`, with run.json's content and its records, to `path`; how many images are in it.

    With `inline` the pictures of full size are in the page, too. `sample` says which images of a very large run these are.
    `advance` is called after each image. Pictures that are no longer there are left out; the page says so where they would be.
    """
    drawing = _Drawing(
        folder,
        path.resolve().parent,
        _thumbnail_px(MOST_ON_PAGE if sample else sum(run["counts"].values())),
        inline,
        Run(folder, dict(run)).locate,
    )
    count = 0
    with (
        replace_file(path) as temporary,
        temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="\n") as stream,
    ):
        for piece in _pieces({**_facts(folder, run), "sample": sample}):
            stream.write(piece)
            if piece.endswith('id="images">'):
                stream.write("[")
                for count, entry in enumerate(_entries(drawing, records), start=1):
                    stream.write((",\n" if count > 1 else "\n") + _script_json(entry))
                    advance()
                stream.write("\n]")
    return count


def _pieces(facts: Mapping[str, Any]) -> Iterator[str]:
    """The page up to where its images belong, and the rest."""
    files = resources.files("blemish.reports")
    parts = {name: (files / f"page.{name}").read_text(encoding="utf-8") for name in ("html", "css", "js")}
    filled = {"css": _style(facts) + parts["css"], "js": parts["js"], "facts": _script_json(facts)}
    page = re.sub(r"\{\{(\w+)\}\}", lambda found: filled[found[1]], parts["html"])
    head, mark, tail = page.partition('id="images">')
    yield head + mark
    yield tail


def _entries(drawing: _Drawing, records: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    with ThreadPoolExecutor(THREADS, thread_name_prefix="blemish-page") as pool:
        work = ((record, 3 * (record["width_px"] or 0) * (record["height_px"] or 0)) for record in records)
        for entry, _ in in_order(pool, drawing.entry, work, most=2 * THREADS, most_bytes=2**28):
            yield entry


@dataclass(frozen=True)
class _Drawing:
    """Where a run is and where its page will be; makes the page's entry of a record."""

    folder: Path
    page_folder: Path
    thumbnail_px: int
    inline: bool
    locate: Callable[[str], str]  # from a record's source to where the image is

    def entry(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """What the page knows of an image."""
        entry = {
            "source": _text(record["source"]),
            "error": record["error"],
            "verdict": record["verdict"],
            "score": record["image_score"],
            "type": record["top_type"],
            "size": [record["width_px"], record["height_px"]],
            "regions": [
                {
                    "type": region["type"],
                    "guess": region.get("best_guess"),
                    "share": region.get("type_probability"),
                    "peak": region["peak_score"],
                    "area": region["area_px"],
                    "mm2": region["area_mm2"],
                    "outline": region["polygon_px"],
                }
                for region in record["regions"]
            ],
        }
        if record["verdict"] is None:
            return entry
        original, original_picture = self._original(record)
        overlay, overlay_picture = self._result(record["overlay"])
        mask = None if record["mask"] is None else self._address(self.folder / record["mask"])
        thumbnails = {"original": _thumbnail(original_picture, self.thumbnail_px)}
        thumbnails["map"] = _thumbnail(overlay_picture, self.thumbnail_px)
        return {**entry, "small": thumbnails, "full": {"original": original, "map": overlay, "mask": mask}}

    def _original(self, record: Mapping[str, Any]) -> tuple[str | None, Image.Image | None]:
        source = Path(self.locate(record["source"]))
        try:
            picture = read(source, value_range=record["value_range"], max_megapixels=float("inf"))
        except ImageError:
            return None, None
        image = Image.fromarray(picture.as_bytes())
        if self.inline:
            return _jpeg(image, FULL_QUALITY), image
        shown = source.suffix.lower() in SHOWN_BY_BROWSERS and picture.value_range is None
        return (self._address(source) if shown else None), image

    def _result(self, name: str | None) -> tuple[str | None, Image.Image | None]:
        path = None if name is None else self.folder / name
        if path is None or not path.is_file():
            return None, None
        try:
            image = Image.fromarray(read(path, max_megapixels=float("inf")).as_bytes())
        except ImageError:
            return None, None
        return self._address(path), image

    def _address(self, path: Path) -> str | None:
        """The address of a file for the page: relative, or in it."""
        if not path.is_file():
            return None
        if self.inline:
            kind = "png" if path.suffix.lower() == ".png" else "jpeg"
            return f"data:image/{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"
        try:
            relative = Path(os.path.relpath(path.absolute(), self.page_folder)).as_posix()
        except ValueError:  # another drive
            return path.absolute().as_uri()
        return quote(relative.encode("utf-8", "surrogateescape"))


def _facts(folder: Path, run: Mapping[str, Any]) -> dict[str, Any]:
    """What the page says of the run as a whole."""
    model, thresholds = run["model"], run["thresholds"]
    calibration = run.get("calibration")
    provenance = {
        "model": f"{model['method']} on {model['backbone']}"
        + (f", prompts {model['prompts']}" if model["prompts"] else ""),
        "fingerprint of the model": model["fingerprint"],
        "vocabulary": ", ".join(run["types"]),
        "hash of the vocabulary": run.get("identity", {}).get("words", ""),
        "image threshold": f"{thresholds['image']:.6g} ({thresholds['calibration']})",
        "review threshold": "none" if thresholds["review"] is None else f"{thresholds['review']:.6g}",
        "pixel threshold": f"{thresholds['pixel']:.6g} ({thresholds['pixel_calibration']})",
        "calibration": _plain(calibration)
        if calibration
        else "none: the thresholds are not from good images of these parts",
        "compared with": run.get("setup", {}).get("peers", "") or run.get("setup", {}).get("references", ""),
        "profile": "" if not run.get("profile") else f"{run['profile']['file']} ({run['profile']['id']})",
        "drift": "; ".join((run.get("drift") or {"lines": ()})["lines"]).replace("drift: ", ""),
        "command": shlex.join(map(str, run["command"])),
        "begun": f"{run['started']}, {run['duration_s']:g} s, {run['status']}",
        "decided again": f"{len(run['rethresholded'])} times" if run.get("rethresholded") else "",
        "Blemish": model["version"],
        "folder of results": str(folder.resolve()),
        "SHA-256 of results.jsonl": _digest(folder / LINES_FILE),
    }
    drift = run.get("drift") or {"lines": [], "changed": []}
    told = drift["changed"] or drift.get("other_sizes") or drift.get("other_depths")
    return {
        "title": folder.resolve().name,
        "drift": "; ".join(drift["lines"]) if told else "",
        "thresholds": thresholds,
        "colours": {name: _css(type_colour(name, run["types"])) for name in run["types"]},
        "neutral": _css(NEUTRAL),
        "rethreshold": f"blemish rethreshold {shlex.quote(str(folder))} --threshold",
        "provenance": [[name, _text(value)] for name, value in provenance.items() if value],
    }


def _digest(path: Path) -> str:
    """The digest of a file; empty where there is none, as in a run in shards."""
    if not path.is_file():
        return ""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _style(facts: Mapping[str, Any]) -> str:
    """The colours of verdicts and of the scale, as variables of the style sheet."""
    pixel = float(facts["thresholds"]["pixel"])
    levels = np.linspace(0, 1, 33, dtype=np.float32)
    stops = (
        f"rgb({red} {green} {blue} / {opacity / 255:.2f})" for red, green, blue, opacity in heat(levels, pixel).tolist()
    )
    verdicts = "".join(f"--{verdict}: {_css(colour)}; " for verdict, colour in VERDICT_COLOURS.items())
    return f":root {{ {verdicts}--scale: linear-gradient(90deg, {', '.join(stops)}); --line: {100 * pixel:.1f}%; }}\n"


def _thumbnail_px(count: int) -> int:
    return next((side for most, side in THUMBNAILS_PX if count <= most), SMALLEST_THUMBNAIL_PX)


def _thumbnail(image: Image.Image | None, side_px: int) -> str | None:
    if image is None:
        return None
    small = image.copy()
    small.thumbnail((side_px, side_px), Image.Resampling.LANCZOS, reducing_gap=2)
    return _jpeg(small, THUMBNAIL_QUALITY)


def _jpeg(image: Image.Image, quality: int) -> str:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"


def _script_json(value: Any) -> str:
    """JSON that cannot end the script element it stands in."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_plain(inner)}" for name, inner in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return " ".join(map(_plain, value))
    return str(value)


def _text(value: str) -> str:
    return value.encode("utf-8", "backslashreplace").decode("utf-8")


def _css(colour: Colour) -> str:
    return f"rgb({colour[0]} {colour[1]} {colour[2]})"
