"""Pairs of one picture, good and with one defect drawn into its thing: `python -m recipes.real.pairs --out FOLDER`.

From photos (`python -m recipes.real_images`; kinds of things are split into those to train on and those held out to
judge by) or from renders. Where the thing is, in a photo: the labelled box, else what differs from the colours of the
photo's rim, in its largest connected part. A defect counts only if it stands out from what surrounds it: the mean
change of brightness inside its mask is at least LEAST_RATIO of the spread of brightness there. Both twins go through
the same JPEG compression. `--sheet FILE` shows some.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from scipy.cluster.vq import kmeans2

from blemish.errors import UsageError
from blemish.synthesis import defect_types
from blemish.synthesis.benign import camera
from blemish.synthesis.fields import Random
from blemish.synthesis.photos import subject_of
from blemish.synthesis.placing import Drawn, draw_defect
from blemish.synthesis.scenery import good_subject
from blemish.synthesis.shapes import blur
from blemish.synthesis.spots import luminance
from blemish.synthesis.subjects import Subject
from recipes.real_images import Record, read_manifest

SIZE_PX = 448
TYPES = ("normal", *defect_types())
HELD_OUT_SHARE = 0.2  # of the kinds of things
LEAST_CROP_PX = 200
LEAST_MATERIAL, GREY_MATERIALS = 0.4, 0.3  # of the shorter side of a photo of a material; share without colours
LEAST_RATIO, LEAST_CHANGE = 0.6, 0.04  # of the local spread of brightness; of the whole range
RING = 0.04  # share of the side: how far around a defect its surroundings reach
SHARD = 100
MAP_PX = 128
SMALL, LARGE = (0.0, 0.3), (0.6, 1.0)  # of the extent that a type allows
LARGE_AREA = 0.03  # of the picture, at least
RENDER_SEEDS = 20_000_000  # of training; those of the judge begin at dataset.HELD_OUT_SEEDS

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Pair:
    """One picture without and with a defect."""

    good: Pixels  # [n, n, 3]
    bad: Pixels  # [n, n, 3]
    mask: NDArray[np.bool_]  # [n, n], of the defect
    defect_type: str
    kind: str  # of the thing
    ratio: float  # mean change of brightness inside the mask by the spread of brightness around it


def held_out(source: str, kind: str) -> bool:
    """Whether photos of this kind of thing only judge. It depends on the name alone."""
    return held_out_name(f"{source}/{kind}")


def held_out_name(name: str) -> bool:
    """Whether what has this name only judges, by its digest alone."""
    return hashlib.sha256(name.encode()).digest()[0] < 256 * HELD_OUT_SHARE


def thing_in(pixels: Pixels) -> NDArray[np.float32]:
    """Where the thing of a photo is, [h, w] in 0..1 on a copy of at most MAP_PX: what differs from the colours of the
    rim, in its largest part; an ellipse in the middle where nothing does."""
    image = Image.fromarray(pixels)
    scale = MAP_PX / max(image.size)
    size = max(8, round(image.width * scale)), max(8, round(image.height * scale))
    small = np.asarray(image.resize(size, Image.Resampling.BOX), np.float32) / 255
    height, width = small.shape[:2]
    rim = max(2, round(0.05 * min(height, width)))
    border = np.ones((height, width), bool)
    border[rim : height - rim, rim : width - rim] = False
    noise = np.random.default_rng(0).normal(0, 1e-3, (int(border.sum()), 3))  # clusters need points that differ
    colours, _ = kmeans2(small[border] + noise, 5, minit="++", seed=0)
    smooth = np.stack([blur(small[..., channel], 1.2) for channel in range(3)], -1)
    unlike = np.abs(smooth[:, :, None, :] - colours[None, None]).max(-1).min(-1)
    y, x = (np.linspace(-1, 1, side) for side in (height, width))
    centre = np.exp(-1.2 * (y[:, None] ** 2 + x[None, :] ** 2))
    mask = unlike * centre > max(0.06, _otsu(unlike * centre))
    mask = ndimage.binary_fill_holes(ndimage.binary_closing(ndimage.binary_opening(mask, iterations=1), iterations=3))
    labels, count = ndimage.label(mask)
    if count:
        sizes = np.bincount(labels.ravel())
        sizes[0] = 0
        mask = labels == sizes.argmax()
    if not 0.04 < mask.mean() < 0.9:
        mask = y[:, None] ** 2 + x[None, :] ** 2 < 0.45
    return np.clip(blur(mask.astype(np.float32), 0.7), 0, 1).astype(np.float32)


def _otsu(values: NDArray[np.floating]) -> float:
    counts, edges = np.histogram(values, 64)
    middle = (edges[1:] + edges[:-1]) / 2
    below = np.cumsum(counts)
    above = below[-1] - below
    sums = np.cumsum(counts * middle)
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (sums / below - (sums[-1] - sums) / above) ** 2
    return float(middle[np.nanargmax(between)])


def photo_pair(pixels: Pixels, record: Record, rng: Random, *, large: bool = False) -> Pair | None:
    """A pair around the thing of a photo; None where nothing could be drawn that stands out."""
    box = record.box
    if box is None:
        inside = np.argwhere(thing_in(pixels) > 0.5)
        scale = max(pixels.shape[:2]) / MAP_PX
        (top, left), (bottom, right) = inside.min(0) * scale, (inside.max(0) + 1) * scale
        box = (int(left), int(top), int(right), int(bottom))
    crop = _square(box, pixels.shape[:2], rng)
    if crop is None:
        return None
    left, top, side = crop
    part = np.ascontiguousarray(pixels[top : top + side, left : left + side])
    if side > 2 * SIZE_PX:
        part = np.asarray(Image.fromarray(part).resize((2 * SIZE_PX, 2 * SIZE_PX), Image.Resampling.BOX))
    thing = thing_in(part)
    subject = subject_of(part, light=float(rng.uniform(0, 2 * np.pi)), thing=record.kind)
    if subject.fills_image or record.box is not None:
        subject = replace(subject, foreground=thing, behind=_behind(part, thing))
    drawn = standing_out(subject, rng, size=LARGE if large else None)
    if drawn is None or (large and drawn[0].mask.mean() < LARGE_AREA):
        return None
    return stored_pair(part, drawn, record.kind, rng)


def material_pair(pixels: Pixels, kind: str, rng: Random, *, large: bool = False) -> Pair | None:
    """A pair of a part of a photo of a material, which fills the picture; None where nothing stands out."""
    side = round(min(pixels.shape[:2]) * rng.uniform(LEAST_MATERIAL, 1.0))
    top, left = (int(rng.integers(full - side + 1)) for full in pixels.shape[:2])
    part = np.ascontiguousarray(np.rot90(pixels[top : top + side, left : left + side], int(rng.integers(4))))
    if rng.random() < GREY_MATERIALS:
        part = np.ascontiguousarray(np.broadcast_to(part.mean(-1, keepdims=True), part.shape).astype(np.uint8))
    subject = subject_of(part, light=float(rng.uniform(0, 2 * np.pi)), thing=kind)
    drawn = standing_out(subject, rng, size=LARGE if large else None)
    return None if drawn is None else stored_pair(part, drawn, kind, rng)


def stored_pair(part: Pixels, drawn: tuple[Drawn, float], kind: str, rng: Random) -> Pair | None:
    """The pair of a picture and what `standing_out` drew into it, both as a camera would store them; None where the defect is
    too small to be seen at SIZE_PX."""
    quality = int(rng.integers(78, 97))
    good, bad = (_compressed(one, quality) for one in (part, drawn[0].pixels))
    covered = Image.fromarray(drawn[0].mask.astype(np.uint8) * 255).resize((SIZE_PX,) * 2, Image.Resampling.BOX)
    mask = np.asarray(covered) > 90
    return Pair(good, bad, mask, drawn[0].defect_type, kind, drawn[1]) if mask.sum() >= 6 else None


def render_pair(seed: int, size_px: int = SIZE_PX, *, size: tuple[float, float] | None = None) -> Pair | None:
    """A pair of one rendered scene. size: of the defect, a part of the extent that its type allows, as SMALL or LARGE."""
    rng = np.random.default_rng((3, seed))
    subject = good_subject(size_px, rng)
    drawn = standing_out(subject, rng, size=size)
    if drawn is None:
        return None
    light = int(rng.integers(2**31))  # the same camera for both
    good, bad = (camera(one, np.random.default_rng(light)) for one in (subject.pixels, drawn[0].pixels))
    return Pair(good, bad, drawn[0].mask, drawn[0].defect_type, subject.material, drawn[1])


def standing_out(
    subject: Subject, rng: Random, *, size: tuple[float, float] | None = None
) -> tuple[Drawn, float] | None:
    """A defect of a random type that stands out from what surrounds it, and its ratio to the spread there."""
    before = luminance(_floats(subject.pixels))
    if size is None:
        size = (0.0, 0.45) if rng.random() < 0.4 else (0.0, 0.9)
    for kind in rng.permutation(TYPES[1:])[:5]:
        drawn = draw_defect(subject, rng, defect_type=str(kind), contrast=(0.06, 0.45), size=size)
        if drawn is None:
            continue
        change = np.abs(luminance(_floats(drawn.pixels)) - before)
        ring = ndimage.binary_dilation(drawn.mask[::2, ::2], iterations=max(2, round(RING * len(before) / 2)))
        spread, changed = float(before[::2, ::2][ring].std()), float(change[drawn.mask].mean())
        if changed >= LEAST_CHANGE and changed >= LEAST_RATIO * spread:
            return drawn, changed / max(spread, 1e-3)
    return None


def _floats(pixels: NDArray[np.generic]) -> NDArray[np.float32]:
    return pixels.astype(np.float32) / np.float32(255) if pixels.dtype == np.uint8 else np.asarray(pixels, np.float32)


def _square(box: tuple[int, int, int, int], shape: tuple[int, ...], rng: Random) -> tuple[int, int, int] | None:
    """Left, top and side of a square around a box, with some of what surrounds it."""
    height, width = shape
    side = round(max(box[2] - box[0], box[3] - box[1]) * rng.uniform(1.02, 1.5))
    side = min(max(side, LEAST_CROP_PX), height, width)
    if side < LEAST_CROP_PX:
        return None
    x, y = (box[0] + box[2] - side) / 2, (box[1] + box[3] - side) / 2
    return round(min(max(0, x), width - side)), round(min(max(0, y), height - side)), side


def _behind(part: Pixels, thing: NDArray[np.float32]) -> NDArray[np.float32]:
    """The surroundings carried on under the thing, at the size of its map [h, w, 3]."""
    small = np.asarray(Image.fromarray(part).resize(thing.shape[::-1], Image.Resampling.BOX), np.float32) / 255
    keep = (thing < 0.1).astype(np.float32)
    weight = blur(keep, 6.0) + 1e-3 * blur(keep, 40.0) + 1e-9
    filled = [(blur(small[..., c] * keep, 6.0) + 1e-3 * blur(small[..., c] * keep, 40.0)) / weight for c in range(3)]
    return np.where(keep[..., None] > 0, small, np.stack(filled, -1)).astype(np.float32)


def _compressed(pixels: NDArray[np.generic], quality: int) -> Pixels:
    """At SIZE_PX, as a camera would store it."""
    image = Image.fromarray(np.asarray(pixels, np.uint8)).resize((SIZE_PX, SIZE_PX), Image.Resampling.BICUBIC)
    stored = io.BytesIO()
    image.save(stored, format="JPEG", quality=quality)
    return np.asarray(Image.open(stored).convert("RGB"))


def photo_pairs(images: Path, *, judge: bool, count: int, seed: int, large: bool = False) -> Iterator[Pair]:
    """`count` pairs of photos of the kinds to train on, or of those held out; every kind comes equally often."""
    photos = [record for record in read_manifest(images) if record.role == "photo"]
    kinds: dict[str, list[Record]] = {}
    for record in photos:
        if held_out(record.source, record.kind) == judge:
            kinds.setdefault(f"{record.source}/{record.kind}", []).append(record)
    if not kinds:
        raise UsageError(f"{images}: no photos {'that are held out' if judge else 'to train on'}; lay out more of them")
    rng, made = np.random.default_rng((seed, judge)), 0
    names, turn = sorted(kinds), 0
    while made < count:
        if turn % len(names) == 0:
            rng.shuffle(names)
        own = kinds[names[turn % len(names)]]
        turn += 1
        record = own[int(rng.integers(len(own)))]
        pixels = np.asarray(Image.open(images / record.file).convert("RGB"))
        pair = photo_pair(pixels, record, rng, large=large)
        if pair is not None:
            made += 1
            yield replace(pair, kind=f"{record.source}/{record.kind}")


def write_shard(pairs: list[Pair], folder: Path) -> None:
    """Writes a folder with these pairs under a temporary name, and renames it."""
    unfinished = folder.with_name(f".{folder.name}.{os.getpid()}")
    unfinished.mkdir(parents=True)
    np.save(unfinished / "images.npy", np.stack([np.stack([pair.good, pair.bad]) for pair in pairs]))
    np.save(unfinished / "masks.npy", np.packbits(np.stack([pair.mask.ravel() for pair in pairs]), axis=1))
    entries = [{"type": pair.defect_type, "kind": pair.kind, "ratio": round(pair.ratio, 3)} for pair in pairs]
    (unfinished / "pairs.json").write_text(json.dumps(entries))
    unfinished.rename(folder)


def read_shard(folder: Path) -> list[Pair]:
    """The pairs of a shard."""
    images = np.load(folder / "images.npy", allow_pickle=False)
    size = images.shape[-2]
    masks = (
        np.unpackbits(np.load(folder / "masks.npy", allow_pickle=False), axis=1, count=size * size)
        .reshape(-1, size, size)
        .astype(bool)
    )
    entries = json.loads((folder / "pairs.json").read_text())
    return [
        Pair(image[0], image[1], mask, entry["type"], entry["kind"], entry["ratio"])
        for image, mask, entry in zip(images, masks, entries, strict=True)
    ]


def sheet(pairs: list[Pair], path: Path, *, columns: int = 6, side: int = 200) -> None:
    """A picture of pairs: good, bad, and bad with the mask outlined in red."""
    rows = -(-len(pairs) // columns)
    canvas = Image.new("RGB", (columns * 3 * side, rows * side))
    for number, pair in enumerate(pairs):
        outline = ndimage.binary_dilation(pair.mask, iterations=3) & ~ndimage.binary_dilation(pair.mask, iterations=1)
        marked = pair.bad.copy()
        marked[outline] = (255, 0, 0)
        for part, pixels in enumerate((pair.good, pair.bad, marked)):
            place = ((number % columns * 3 + part) * side, number // columns * side)
            canvas.paste(Image.fromarray(pixels).resize((side, side)), place)
    canvas.save(path)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m recipes.real.pairs", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the shards")
    parser.add_argument("--images", type=Path, help="what recipes.real_images laid out; without it, renders")
    parser.add_argument("--judge", action="store_true", help="of the kinds of things that are held out")
    parser.add_argument("--large", action="store_true", help="photos: defects of at least 3%% of the picture")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sheet", type=Path, help="draw some pairs into this picture, and keep nothing")
    arguments = parser.parse_args()
    if arguments.sheet:
        sheet(_made(arguments, arguments.seed, min(SHARD, arguments.count)), arguments.sheet)
        return
    for number, start in enumerate(range(0, arguments.count, SHARD)):
        seed = arguments.seed + number
        folder = arguments.out / f"{seed:04d}"
        if not folder.exists():
            pairs = _made(arguments, seed, min(SHARD, arguments.count - start))
            write_shard(pairs, folder)
            print(f"{folder}: {len(pairs)} pairs", flush=True)


def _made(arguments: argparse.Namespace, seed: int, count: int) -> list[Pair]:
    if arguments.images is not None:
        return list(photo_pairs(arguments.images, judge=arguments.judge, count=count, seed=seed, large=arguments.large))
    renders = (render_pair(RENDER_SEEDS + seed * 1000 + index) for index in range(1000))
    return list(islice((pair for pair in renders if pair is not None), count))


if __name__ == "__main__":
    main()
