"""Lays out real images to learn from and to judge by: `python -m recipes.real_images --out training-cache/real`.

Photos of good things come from public repositories with permissive licences (`real/sources.toml`); VisA's capsules
and macaroni1, DeepPCB and the entries [[defects]] of that file, which have real defects, are laid out as MVTec AD is.
`--mirror` is the folder of the repositories' snapshots (bare git folders OWNER+NAME/repo). `--real FOLDER` adds
annotated sets of your own, in the layout of MVTec AD. manifest.jsonl says of each image its source, licence, credit,
kind and the digest of its pixels; sources.json what each repository's commit gave.

No image of a set that is only measured may be among them: the digests of all images below `--measured` folders (and
of the package elpv-dataset) are refused, whatever their file format.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import importlib.util
import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageOps

from blemish.data import open_data
from blemish.errors import UsageError
from blemish.io.atomic import replace_file, write_text
from recipes.real.annotated import AnnotatedSource, annotated_sources, lay_out
from recipes.real.sources import PhotoSource, Snapshot, chosen_paths, labelled_things, photo_sources

VISA = ("capsules", "macaroni1")
VISA_IMAGES, VISA_SPLIT = "pranavrao56/VISA-Scripts", "amazon-science/spot-diff"
DEEP_PCB = "tangsanli5201/DeepPCB"
LEAST_PX, MOST_PX = 200, 1600  # shorter side of a photo that is worth drawing into; longer side that is kept
LEAST_BOX_PX = 80
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")


@dataclass(frozen=True)
class Record:
    """One image of the manifest."""

    file: str  # below the folder of the manifest
    source: str
    kind: str  # of the thing
    role: str  # "photo" (good, to draw into) or "annotated"
    licence: str
    credit: str
    digest: str  # sha256 of size and RGB pixels
    box: tuple[int, int, int, int] | None = (
        None  # left, top, right, bottom of the thing, pixels; None for all of the photo
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m recipes.real_images", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("training-cache/real"))
    parser.add_argument("--mirror", type=Path, required=True, help="folder with the snapshots of the repositories")
    parser.add_argument("--measured", type=Path, nargs="*", default=[Path("../shared/data")], help="never taken")
    parser.add_argument(
        "--real", type=Path, nargs="*", default=[], help="your annotated sets, in the layout of MVTec AD"
    )
    arguments = parser.parse_args()
    refused = measured_digests(arguments.measured)
    print(f"{len(refused)} images are refused: they only measure", flush=True)
    records: list[Record] = []
    entries: list[dict[str, object]] = []
    known: set[str] = set()
    for source in photo_sources():
        snapshot = Snapshot(arguments.mirror, source.repository)
        new = list(_photos(source, snapshot, arguments.out, refused, known))
        records += new
        entries.append(
            {**asdict(source), "commit": snapshot.commit, "images": len(new), "kinds": len({r.kind for r in new})}
        )
        print(f"{source.name}: {len(new)} photos of {len({r.kind for r in new})} kinds", flush=True)
    for annotated in annotated_sources():
        snapshot = Snapshot(arguments.mirror, annotated.repository)
        new = list(with_defects(annotated, snapshot, arguments.out, refused, known))
        records += new
        entries.append({**asdict(annotated), "commit": snapshot.commit, "images": len(new), "kinds": 1})
        print(f"{annotated.name}: {len(new)} images", flush=True)
    for name, laid in (
        ("visa", visa(arguments.mirror, arguments.out, refused)),
        ("deep-pcb", deep_pcb(arguments.mirror, arguments.out, refused)),
        *((folder.name, own_set(folder, arguments.out, refused)) for folder in arguments.real),
    ):
        listed = list(laid)
        records += listed
        entries.append({"name": name, "images": len(listed), "licence": sorted({r.licence for r in listed})})
        print(f"{name}: {len(listed)} images", flush=True)
    write_manifest(arguments.out, records)
    write_text(arguments.out / "sources.json", json.dumps(entries, indent=2) + "\n")
    photos = [record for record in records if record.role == "photo"]
    print(f"{len(photos)} photos of {len({(r.source, r.kind) for r in photos})} kinds; {len(records)} images in all")


def write_manifest(out: Path, records: Iterable[Record]) -> None:
    write_text(out / "manifest.jsonl", "".join(json.dumps(asdict(record)) + "\n" for record in records))


def read_manifest(out: Path) -> list[Record]:
    """The records of a folder that `main` laid out."""
    lines = (out / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    return [Record(**{**one, "box": one["box"] and tuple(one["box"])}) for one in records]


def pixel_digest(pixels: NDArray[np.uint8]) -> str:
    """sha256 of the size and the RGB values [H, W, 3]: the same picture in another file format has the same digest."""
    return hashlib.sha256(f"{pixels.shape}".encode() + np.ascontiguousarray(pixels).tobytes()).hexdigest()


def measured_digests(folders: Iterable[Path]) -> frozenset[str]:
    """The digests of all images below these folders, and of the package elpv-dataset where it is installed."""
    digests = set()
    roots = list(folders)
    spec = importlib.util.find_spec("elpv_dataset")
    if spec is not None and spec.origin is not None:
        roots.append(Path(spec.origin).parent)
    for folder in roots:
        if not folder.is_dir():
            raise UsageError(f"{folder}: no such folder; --measured names the folders whose images must not be taken")
        for path in sorted(folder.rglob("*")):
            if path.suffix.lower() in SUFFIXES:
                pixels = _decoded(path.read_bytes())
                if pixels is not None:
                    digests.add(pixel_digest(pixels))
    return frozenset(digests)


def _decoded(content: bytes) -> NDArray[np.uint8] | None:
    """Upright RGB pixels; None where the bytes are no image. Transparent ones are laid on white."""
    try:
        image = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
        if image.mode in ("RGBA", "LA", "P"):
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        return np.asarray(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None


def _photos(
    source: PhotoSource, snapshot: Snapshot, out: Path, refused: frozenset[str], known: set[str]
) -> Iterator[Record]:
    """Lays out the photos of one source, as many of each kind as allowed; `known` are the digests of all sources before it."""
    every = snapshot.paths()
    if source.licence_file not in every:
        raise UsageError(f"{source.repository}: {source.licence_file}, which states the licence, is not there any more")
    chosen = dict(chosen_paths(source, every))
    labels = {}
    if source.labels:
        files = {_label_of(path): path for path in chosen}
        labels = {files[path]: text.decode("utf-8", "replace") for path, text in snapshot.contents(sorted(files))}
    counts: Counter[str] = Counter()
    for path, content in snapshot.contents(list(chosen)):
        pixels = _decoded(content)
        if pixels is None or min(pixels.shape[:2]) < LEAST_PX:
            continue
        kind, box = chosen[path], None
        if source.labels:
            thing = _largest(labelled_things(labels.get(path, ""), source.names), pixels.shape[:2])
            if thing is None:
                continue
            kind, box = (source.kind or thing[0], thing[1])
        digest = pixel_digest(pixels)
        if digest in known or counts[kind] >= source.per_kind:
            continue
        _refuse(digest, refused, f"{source.repository}: {path}")
        known.add(digest)
        name = f"photos/{source.name}/{_plain(kind)}/{counts[kind]:04d}.jpg"
        counts[kind] += 1
        box = _saved(pixels, out / name, box)
        yield Record(name, source.name, kind, "photo", source.licence, source.credit, digest, box)


def _label_of(path: str) -> str:
    return path.replace("/images/", "/labels/").rsplit(".", 1)[0] + ".txt"


def _largest(
    things: list[tuple[str, tuple[float, float, float, float]]], shape: tuple[int, ...]
) -> tuple[str, tuple[int, int, int, int]] | None:
    height, width = shape
    boxes = [
        (name, (round(b[0] * width), round(b[1] * height), round(b[2] * width), round(b[3] * height)))
        for name, b in things
    ]
    large = [(name, b) for name, b in boxes if min(b[2] - b[0], b[3] - b[1]) >= LEAST_BOX_PX / 2]
    large = [(name, b) for name, b in large if max(b[2] - b[0], b[3] - b[1]) >= LEAST_BOX_PX]
    return max(large, key=lambda one: (one[1][2] - one[1][0]) * (one[1][3] - one[1][1]), default=None)


def _saved(
    pixels: NDArray[np.uint8], path: Path, box: tuple[int, int, int, int] | None
) -> tuple[int, int, int, int] | None:
    """Writes a photo, at most MOST_PX long; its box at the size that it is written at."""
    image = Image.fromarray(pixels)
    scale = min(1.0, MOST_PX / max(image.size))
    if scale < 1:
        image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)
    with replace_file(path) as temporary:
        image.save(temporary, format="JPEG", quality=95)
    if box is None:
        return None
    left, top, right, bottom = (round(value * scale) for value in box)
    return left, top, right, bottom


def _refuse(digest: str, refused: frozenset[str], what: str) -> None:
    if digest in refused:
        raise UsageError(f"{what}: an image of a set that only measures; do not train on it. Leave it out")


def _plain(kind: str) -> str:
    return "".join(c if c.isalnum() or c in "-_" else "-" for c in kind)


def with_defects(
    source: AnnotatedSource, snapshot: Snapshot, out: Path, refused: frozenset[str], known: set[str]
) -> Iterator[Record]:
    """Lays out one source with annotated defects; `known` are the digests of all photos before it."""

    def allow(pixels: NDArray[np.uint8], what: str) -> bool:
        digest = pixel_digest(pixels)
        _refuse(digest, refused, what)
        fresh = digest not in known
        known.add(digest)
        return fresh

    for sample in lay_out(source, snapshot, out, decode=_decoded, allow=allow):
        digest = pixel_digest(sample.pixels)
        yield Record(sample.file, source.name, source.kind, "annotated", source.licence, source.credit, digest)


def visa(mirror: Path, out: Path, refused: frozenset[str]) -> Iterator[Record]:
    """VisA's capsules and macaroni1 by the official one-class split: visa/PRODUCT/{train,test,ground_truth}."""
    images = Snapshot(mirror, VISA_IMAGES)
    rows = list(csv.DictReader(Snapshot(mirror, VISA_SPLIT).text("split_csv/1cls.csv").splitlines()))
    rows = [row for row in rows if row["object"] in VISA]
    wanted = {row["image"]: row for row in rows}
    for path, content in images.contents(list(wanted)):
        row, pixels = wanted[path], _decoded(content)
        if pixels is None:
            raise UsageError(f"{VISA_IMAGES}: {path} is no image")
        digest = pixel_digest(pixels)
        _refuse(digest, refused, f"{VISA_IMAGES}: {path}")
        folder = "good" if row["label"] == "normal" else "bad"
        name = f"visa/{row['object']}/{row['split']}/{folder}/{Path(path).stem}.jpg"
        with replace_file(out / name) as temporary:
            temporary.write_bytes(content)
        yield Record(
            name, f"visa-{row['object']}", row["object"], "annotated", "CC-BY-4.0", "Zou et al., VisA (Amazon)", digest
        )
    masks = {row["mask"]: row["object"] for row in rows if row["mask"]}
    for path, content in images.contents(list(masks)):
        mask = np.asarray(Image.open(io.BytesIO(content)).convert("I")) > 0
        mask_path = out / f"visa/{masks[path]}/ground_truth/bad/{Path(path).stem}_mask.png"
        with replace_file(mask_path) as temporary:
            Image.fromarray(mask.astype(np.uint8) * 255).save(temporary, format="PNG")


def deep_pcb(mirror: Path, out: Path, refused: frozenset[str]) -> Iterator[Record]:
    """DeepPCB's pairs: deep-pcb/board/test/{good,bad}; the truth is made of boxes, no outlines."""
    snapshot = Snapshot(mirror, DEEP_PCB)
    every = snapshot.paths()
    boxes = {path: path.replace("_not/", "/") for path in every if "_not/" in path and path.endswith(".txt")}
    boxes_of = {Path(path).stem: text.decode() for path, text in snapshot.contents(list(boxes))}
    photos = [path for path in every if path.endswith(("_temp.jpg", "_test.jpg")) and path.startswith("PCBData/")]
    known = set()
    for path, content in snapshot.contents(photos):
        stem, state = Path(path).stem.rsplit("_", 1)
        pixels = _decoded(content)
        if pixels is None or (state == "test" and stem not in boxes_of):
            continue
        digest = pixel_digest(pixels)
        if digest in known:
            continue
        known.add(digest)
        _refuse(digest, refused, f"{DEEP_PCB}: {path}")
        folder = "good" if state == "temp" else "bad"
        name = f"deep-pcb/board/test/{folder}/{stem}.jpg"
        with replace_file(out / name) as temporary:
            temporary.write_bytes(content)
        if state == "test":
            _write_boxes(boxes_of[stem], pixels.shape[1::-1], out / f"deep-pcb/board/ground_truth/bad/{stem}_mask.png")
        yield Record(name, "deep-pcb", "printed circuit board", "annotated", "MIT", "Tang et al., DeepPCB", digest)


def _write_boxes(text: str, size: tuple[int, ...], path: Path) -> None:
    mask = Image.new("L", size)  # type: ignore[arg-type]
    for line in text.splitlines():
        numbers = [int(field) for field in line.replace(",", " ").split()]
        if len(numbers) >= 4:
            ImageDraw.Draw(mask).rectangle(numbers[:4], fill=255)
    with replace_file(path) as temporary:
        mask.save(temporary, format="PNG")


def own_set(folder: Path, out: Path, refused: frozenset[str]) -> Iterator[Record]:
    """A user's annotated set in the layout of MVTec AD, as real/NAME/PRODUCT/...; UsageError where it has no masks, or holds an
    image of a set that is only measured."""
    samples = open_data(folder).samples
    if not any(sample.anomalous and sample.has_mask for sample in samples):
        raise UsageError(
            f"{folder}: no defective image has a mask; --real takes sets in the layout of MVTec AD, with ground_truth"
        )
    for number, sample in enumerate(samples):
        pixels = sample.picture().as_bytes()
        digest = pixel_digest(pixels)
        _refuse(digest, refused, f"{folder}: {sample.name}")
        if sample.anomalous and not sample.has_mask:
            continue
        state = "good" if not sample.anomalous else _plain(sample.defect_type or "bad")
        folder_name = f"real/{_plain(folder.name)}/{_plain(sample.product or 'product')}"
        name = f"{folder_name}/{sample.split}/{state}/{number:05d}.png"
        with replace_file(out / name) as temporary:
            Image.fromarray(pixels).save(temporary, format="PNG")
        mask = sample.mask()
        if sample.anomalous and mask is not None:
            with replace_file(out / f"{folder_name}/ground_truth/{state}/{number:05d}_mask.png") as temporary:
                Image.fromarray(mask.astype(np.uint8) * 255).save(temporary, format="PNG")
        yield Record(name, folder.name, sample.product, "annotated", "your own", "", digest)


if __name__ == "__main__":
    main()
