"""Synthetic data sets on the disk: in the layout of MVTec AD, with a manifest; the same bytes for any number of workers.

<out>/<product>/train/good/00000.png            <out>/manifest.jsonl     a line a picture, in order
<out>/<product>/test/{good,<type>}/00001.png    <out>/synthesis.json     what was asked for
<out>/<product>/ground_truth/<type>/00001_mask.png   <out>/vocabulary.toml   the types with other words for them
"""

from __future__ import annotations

import json
import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.errors import BlemishError, OutputError, UsageError
from blemish.images import read, save
from blemish.io.atomic import make_folder, reason, write_text
from blemish.language import general_text
from blemish.synthesis.benign import camera, varied
from blemish.synthesis.captions import caption
from blemish.synthesis.fields import Random
from blemish.synthesis.photos import is_grey, subject_of
from blemish.synthesis.placing import Drawn, draw_defect
from blemish.synthesis.recipes import Item, SynthesisRecipe, Task, check_product, is_folder_name
from blemish.synthesis.render import RENDERER_VERSION
from blemish.synthesis.scenery import good_subject

__all__ = ["IDENTITY", "MANIFEST", "VOCABULARY", "Made", "check_folder", "make"]

IDENTITY, MANIFEST, VOCABULARY = "synthesis.json", "manifest.jsonl", "vocabulary.toml"
SCHEMA = "blemish.synthesis/1"
GOOD = "good"

Record = dict[str, Any]


@dataclass(frozen=True)
class Made:
    """What lies in the folder now."""

    out: Path
    product: str
    counts: dict[str, int]  # pictures of each type, "good" included
    undrawn: int  # that were asked for and could not be drawn
    resumed: int  # pictures that were there before


@dataclass(frozen=True)
class _Place:
    out: Path
    product: str
    recipe: SynthesisRecipe
    max_megapixels: float


def check_folder(out: Path, identity: Record | None = None, *, overwrite: bool = False) -> None:
    """UsageError where `out` is neither new or empty, nor holds a set of Blemish that is this one or may be overwritten.

    Without `identity` any set will do: before the good images are looked at, it is not known yet.
    """
    if not out.exists():
        return
    if not out.is_dir():
        raise UsageError(f"{out}: is a file; --out names a folder")
    try:
        before = json.loads((out / IDENTITY).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        before = None
    if not isinstance(before, dict) or before.get("schema") != SCHEMA:
        if any(out.iterdir()):
            raise UsageError(f"{out}: is not empty and holds no synthetic set; choose a new or empty folder")
        return
    if identity is None:
        return
    wanted = identity | {"schema": SCHEMA, "renderer": RENDERER_VERSION}
    unlike = [key for key in sorted({*before, *wanted}) if before.get(key) != _plain(wanted.get(key))]
    if unlike and not overwrite:
        raise UsageError(
            f"{out}: holds another synthetic set ({', '.join(unlike)} differ); --overwrite replaces it, or choose another --out"
        )


def make(
    tasks: Sequence[Task],
    out: Path,
    *,
    product: str,
    recipe: SynthesisRecipe,
    identity: Record,
    workers: int = 1,
    overwrite: bool = False,
    max_megapixels: float = 200.0,
    progress: Callable[[int, int], AbstractContextManager[Callable[[], None]]],
) -> Made:
    """Draws all pictures of the tasks and writes them below `out`; goes on where the same call was stopped.

    identity: everything that decides the bytes, as JSON values; another identity in `out` is a UsageError (see `check_folder`).
    progress(total, done) gives, on entering, what is called after each picture. OutputError where a file cannot be written.
    """
    check_product(product)
    check_folder(out, identity, overwrite=overwrite)
    make_folder(out)
    if overwrite:
        _clear(out, product)
    write_text(
        out / IDENTITY, json.dumps({"schema": SCHEMA, "renderer": RENDERER_VERSION, **identity}, indent=2) + "\n"
    )
    write_text(out / VOCABULARY, _vocabulary(recipe.types))
    records = _whole_records(out)
    write_text(out / MANIFEST, "".join(map(_line, records)))
    resumed = len(records)
    left = _without_first(tasks, resumed)
    total = sum(len(task.items) for task in tasks)
    place = _Place(out, product, recipe, max_megapixels)
    try:
        with (
            (out / MANIFEST).open("a", encoding="utf-8", errors="backslashreplace", newline="\n") as manifest,
            _mapping(workers) as mapped,
            progress(total, resumed) as advance,
        ):
            for done in mapped(partial(_work, place), left):
                if isinstance(done, str):
                    raise OutputError(done)
                for record in done:
                    manifest.write(_line(record))
                    manifest.flush()
                    records.append(record)
                    advance()
    except OSError as error:
        raise OutputError(f"{out / MANIFEST}: cannot be written ({reason(error)})") from error
    counts: dict[str, int] = {}
    for record in records:
        if record["image"] is not None:
            counts[record["type"] or GOOD] = counts.get(record["type"] or GOOD, 0) + 1
    return Made(out, product, counts, sum(record["image"] is None for record in records), resumed)


@contextmanager
def _mapping(workers: int) -> Iterator[Callable[[Callable[[Task], Any], Sequence[Task]], Iterator[Any]]]:
    """An ordered map over tasks in processes, or in this one."""
    if workers == 1:
        yield map
        return
    with multiprocessing.get_context("spawn").Pool(workers, _ignore_interrupt) as pool:
        yield pool.imap


def _ignore_interrupt() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends the workers


def _work(place: _Place, task: Task) -> list[Record] | str:
    """The records of a task whose files are written; the words of an error, which would not survive the way between processes."""
    try:
        return (
            [_make_from_nothing(place, item) for item in task.items] if task.source is None else _make_from(place, task)
        )
    except BlemishError as error:
        return str(error)


def _make_from(place: _Place, task: Task) -> list[Record]:
    assert task.source is not None  # the other kind has its own function
    source, recipe = task.source, place.recipe
    picture = read(source.path, value_range=source.value_range, max_megapixels=place.max_megapixels)
    pixels = picture.as_bytes()
    subject = None
    records = []
    for item in task.items:
        rng = _random(recipe, item)
        drawn, image = None, pixels
        if item.asked:
            if subject is None:  # its light is that of the picture, not of the defect
                light = np.random.default_rng((recipe.seed, 3, int(source.digest[:8], 16))).uniform(0, 2 * np.pi)
                subject = subject_of(pixels, light=float(light), thing=place.product)
            drawn = _any_defect(subject, rng, item, recipe)
            image = pixels if drawn is None else drawn.pixels
        if item.varied:
            image = varied(image, rng)
        records.append(_store(place, item, image, drawn, thing=place.product, source=source.name))
    return records


def _make_from_nothing(place: _Place, item: Item) -> Record:
    rng = _random(place.recipe, item)
    subject = good_subject(place.recipe.size_px, rng)
    drawn = _any_defect(subject, rng, item, place.recipe) if item.asked else None
    image = camera(subject.pixels if drawn is None else drawn.pixels, rng)
    return _store(place, item, image, drawn, thing=subject.material, source=None)


def _random(recipe: SynthesisRecipe, item: Item) -> Random:
    return np.random.default_rng((recipe.seed, 4, item.index))


def _any_defect(subject: Any, rng: Random, item: Item, recipe: SynthesisRecipe) -> Drawn | None:
    """A defect of the asked type, of another one of the recipe's where the picture cannot show it; None where it shows none."""
    others = [str(name) for name in rng.permutation(list(recipe.types)) if name != item.asked]
    for name in (item.asked, *others):
        drawn = draw_defect(subject, rng, defect_type=name, contrast=recipe.contrast, size=recipe.extent)
        if drawn is not None:
            return drawn
    return None


def _store(
    place: _Place, item: Item, image: NDArray[np.uint8], drawn: Drawn | None, *, thing: str, source: str | None
) -> Record:
    """Writes a picture and its mask, and says what they are. What was asked for and could not be drawn has no picture."""
    record: Record = {
        "index": item.index,
        "image": None,
        "mask": None,
        "split": item.split,
        "type": "",
        "asked": item.asked,
    }
    if item.asked and drawn is None:
        return record | {"source": source, "seed": place.recipe.seed, "renderer": RENDERER_VERSION}
    folder = GOOD if drawn is None else drawn.defect_type.replace(" ", "_")
    name = f"{item.index:05d}"
    image_path = f"{place.product}/{item.split}/{folder}/{name}.png"
    if drawn is not None:
        record["mask"] = f"{place.product}/ground_truth/{folder}/{name}_mask.png"
        save(drawn.mask, place.out / record["mask"])
    save(np.ascontiguousarray(image[..., 0]) if is_grey(image) else image, place.out / image_path)
    description = {} if drawn is None else _described(drawn)
    return {
        **record,
        "image": image_path,
        "type": "" if drawn is None else drawn.defect_type,
        "caption": caption(thing, drawn),
        **description,
        "source": source,
        "seed": place.recipe.seed,
        "renderer": RENDERER_VERSION,
    }


def _described(drawn: Drawn) -> Record:
    rows, columns = np.flatnonzero(drawn.mask.any(1)), np.flatnonzero(drawn.mask.any(0))
    return {
        "contrast": round(drawn.contrast, 4),
        "area_px": int(drawn.mask.sum()),
        "box_px": [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1],
    }


def _line(record: Record) -> str:
    return json.dumps(record, ensure_ascii=False) + "\n"


def _plain(value: Any) -> Any:
    """A value as it comes back from JSON."""
    return json.loads(json.dumps(value))


def _whole_records(out: Path) -> list[Record]:
    """The lines of the manifest, from the first on, as far as they and their files are whole."""
    records: list[Record] = []
    try:
        lines = (out / MANIFEST).read_bytes().split(b"\n")
    except OSError:
        return records
    for line in lines[:-1]:  # what follows the last line feed was cut off
        try:
            record = json.loads(line)
            files = [record[key] for key in ("image", "mask") if record[key] is not None]
        except (ValueError, KeyError, TypeError):
            break
        if not all((out / file).is_file() for file in files):
            break
        records.append(record)
    return records


def _without_first(tasks: Sequence[Task], count: int) -> list[Task]:
    left = []
    for task in tasks:
        if count < len(task.items):
            left.append(Task(task.items[count:], task.source))
        count = max(0, count - len(task.items))
    return left


def _clear(out: Path, product: str) -> None:
    """Removes the pictures and masks of an earlier set; whatever else lies there stays."""
    earlier = {product, *(str(record["image"]).split("/")[0] for record in _whole_records(out) if record["image"])}
    for name in filter(is_folder_name, earlier):  # a manifest can say anything
        for part in ("train", "test", "ground_truth"):
            for path in (out / name / part).glob("*/*.png"):
                if path.stem.removesuffix("_mask").isdecimal():
                    path.unlink()
            for folder in sorted((out / name / part).glob("*"), reverse=True):
                if folder.is_dir() and not any(folder.iterdir()):
                    folder.rmdir()
    (out / MANIFEST).unlink(missing_ok=True)


def _vocabulary(types: Sequence[str]) -> str:
    """The part of the built-in vocabulary with these types, as a file of its own."""
    blocks = general_text().split("\n[types.")[1:]
    chosen = {block.split("]")[0].strip('"'): f"[types.{block.strip()}\n" for block in blocks}
    return "\n".join(chosen[name] for name in types)
