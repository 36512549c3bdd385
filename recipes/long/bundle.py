"""Packs what a training on another machine needs into one folder: `python -m recipes.long.bundle --out FOLDER ...`.

Photos of the kinds of things to train on, photos of materials, annotated real images, the weights to begin with and the
directions of the words. Images are shrunk to what the training shows of them and kept as WebP. The folder is a number of archives
of at most `--part-mb`, so that each can travel by itself; a training uses those that are there.
"""

from __future__ import annotations

import argparse
import io
import json
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save_file

from blemish.backbones.model import Clip
from blemish.backbones.weights import load_backbone
from blemish.errors import UsageError
from blemish.methods.ensemble import EnsembleTexts, PromptEnsemble
from recipes.embedded.texts import Sayings
from recipes.real.judging import digest_of
from recipes.real.pairs import held_out, held_out_name
from recipes.real_images import Record, read_manifest

PHOTO_PX, MATERIAL_PX = 460, 448  # what the drawing of defects works on is 448 px
GOOD_PX, BAD_PX = 512, 768  # longer side of annotated images; small defects need more
BOX_MARGIN = 0.3  # of the thing's box on each side, what a pair's crop can reach
QUALITY, MATERIAL_QUALITY = 72, 58
JUDGED = 50  # good and defective boards of DeepPCB that only judge
MOST_GOOD, MOST_BAD = 700, 450  # of an annotated source
TEXT_VARIANTS = 96
START, INDEX = "start.safetensors", "index.json"

Pixels = NDArray[np.uint8]
Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Entry:
    """One image of a bundle."""

    name: str  # in its archive
    role: str  # "photo" or "material" (good, to draw into), "good" or "bad" (annotated)
    source: str
    kind: str  # of the thing
    box: Box | None = None  # of the thing in a photo, pixels
    mask: str | None = None  # name of a bad image's mask


def photos(images: Path) -> Iterator[tuple[Entry, bytes]]:
    """The photos of the kinds that train."""
    for number, record in enumerate(read_manifest(images)):
        if record.role == "photo" and not held_out(record.source, record.kind):
            image = Image.open(images / record.file).convert("RGB")
            image, box = _around(image, record)
            yield Entry(f"photo-{number}.webp", "photo", record.source, record.kind, box), _webp(image)


def materials(folder: Path) -> Iterator[tuple[Entry, bytes]]:
    """Photos of materials (`recipes.embedded.photos`)."""
    for path in sorted(folder.glob("*.png")):
        image = Image.open(path).convert("RGB")
        image.thumbnail((MATERIAL_PX, MATERIAL_PX))
        yield Entry(f"material-{path.stem}.webp", "material", "0ad", path.stem), _webp(image, MATERIAL_QUALITY)


def annotated(folder: Path, source: str, *, judged: int) -> Iterator[tuple[Entry, list[tuple[str, bytes]]]]:
    """Good and defective images of a folder in the layout of MVTec AD; the first `judged` of each state are left out."""

    def of(state: str, most: int) -> list[Path]:
        files = sorted(folder.glob(f"test/{state}/*.jpg"), key=lambda path: digest_of(path.name))[judged:]
        if state == "good":
            files = sorted(folder.glob("train/good/*.jpg"), key=lambda path: digest_of(path.name)) + files
        return files[:most]

    good, bad = of("good", MOST_GOOD), of("bad", MOST_BAD)
    if not (good and bad):
        raise UsageError(f"{folder}: no good or no defective images; run python -m recipes.real_images")
    for path in good:
        name = f"{source}-good-{path.stem}.webp"
        yield Entry(name, "good", source, source), [(name, _webp(_shrunk(path, GOOD_PX)))]
    for path in bad:
        name, mask_name = f"{source}-bad-{path.stem}.webp", f"{source}-bad-{path.stem}.png"
        image = _shrunk(path, BAD_PX)
        mask = Image.open(folder / "ground_truth" / "bad" / f"{path.stem}_mask.png").convert("L")
        mask = mask.resize(image.size, Image.Resampling.BOX).point(lambda value: 255 if value > 60 else 0).convert("1")
        stored = io.BytesIO()
        mask.save(stored, format="PNG", optimize=True)
        entry = Entry(name, "bad", source, source, mask=mask_name)
        yield entry, [(name, _webp(image)), (mask_name, stored.getvalue())]


def start(clip: Clip) -> dict[str, torch.Tensor]:
    """The image tower and the directions of the words: exact ones "texts" [2 + T, D], phrasings "variants" [V, 2 + T, D]."""
    texts = cast(EnsembleTexts, PromptEnsemble(clip).encode_texts())
    rng, sayings = np.random.default_rng(0), Sayings()
    variants = torch.stack([sayings.directions(clip.text, rng)[0] for _ in range(TEXT_VARIANTS)])
    state = {f"image.{name}": value.half() for name, value in clip.image.state_dict().items()}
    whole = state | {"texts": torch.cat([texts.states, texts.defects]), "variants": variants}
    return {name: value.contiguous().clone() for name, value in whole.items()}


def _around(image: Image.Image, record: Record) -> tuple[Image.Image, Box | None]:
    """A photo shrunk to PHOTO_PX; where its thing has a box, the surroundings that a crop can reach, and the box there."""
    if record.box is None:
        scale = PHOTO_PX / min(image.size)
        return (image if scale >= 1 else _scaled(image, scale)), None
    left, top, right, bottom = record.box
    longer = max(right - left, bottom - top)
    across, down = (
        (longer * (1 + 2 * BOX_MARGIN) - (right - left)) / 2,
        (longer * (1 + 2 * BOX_MARGIN) - (bottom - top)) / 2,
    )
    start = max(0, round(left - across)), max(0, round(top - down))
    window = *start, min(image.width, round(right + across)), min(image.height, round(bottom + down))
    image = image.crop(window)
    scale = min(1.0, PHOTO_PX * (1 + BOX_MARGIN) / max(image.size))
    box = tuple(round((at - offset) * scale) for at, offset in zip(record.box, start * 2, strict=True))
    return _scaled(image, scale), cast(Box, box)


def _scaled(image: Image.Image, scale: float) -> Image.Image:
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return image if scale == 1 else image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)


def _shrunk(path: Path, side: int) -> Image.Image:
    image = Image.open(path).convert("RGB")
    return _scaled(image, min(1.0, side / max(image.size)))


def _webp(image: Image.Image, quality: int = QUALITY) -> bytes:
    stored = io.BytesIO()
    image.save(stored, format="WEBP", quality=quality, method=4)
    return stored.getvalue()


class _Parts:
    """Archives of at most so many bytes, one after the other."""

    def __init__(self, folder: Path, most: int) -> None:
        self.folder, self.most, self.number, self.size = folder, most, 0, 0
        self.entries: list[Entry] = []
        self.archive = self._open()

    def _open(self) -> zipfile.ZipFile:
        return zipfile.ZipFile(self.folder / f"part-{self.number}.zip", "w", zipfile.ZIP_STORED)

    def add(self, entry: Entry, files: Iterable[tuple[str, bytes]]) -> None:
        listed = list(files)
        length = sum(len(data) + 300 for _, data in listed)
        if self.size + length > self.most:
            self.close()
            self.number, self.size = self.number + 1, 0
            self.archive = self._open()
        for name, data in listed:
            self.archive.writestr(name, data)
        self.size += length
        self.entries.append(entry)

    def close(self) -> None:
        self.archive.writestr(INDEX, json.dumps([asdict(entry) for entry in self.entries]))
        self.archive.close()
        self.entries = []


class Bundle:
    """What is there of a bundle."""

    def __init__(self, folder: Path) -> None:
        parts = sorted(folder.glob("part-*.zip"))
        if not parts:
            raise UsageError(f"{folder}: no bundle; python -m recipes.long.bundle writes one")
        self._archives = [zipfile.ZipFile(part) for part in parts]
        self._at: dict[str, zipfile.ZipFile] = {}
        self.entries: list[Entry] = []
        for archive in self._archives:
            for one in json.loads(archive.read(INDEX)):
                entry = Entry(**{**one, "box": one["box"] and tuple(one["box"])})
                self.entries.append(entry)
                self._at[entry.name] = archive

    def image(self, entry: Entry) -> Pixels:
        """The pixels [h, w, 3]."""
        return np.asarray(Image.open(io.BytesIO(self._at[entry.name].read(entry.name))).convert("RGB"))

    def mask(self, entry: Entry) -> NDArray[np.bool_]:
        """Where the image is defective, [h, w]."""
        if entry.mask is None:
            raise UsageError(f"{entry.name}: has no mask")
        return np.asarray(Image.open(io.BytesIO(self._at[entry.name].read(entry.mask))).convert("L")) > 127


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m recipes.long.bundle", description=__doc__)
    parser.add_argument("--images", type=Path, required=True, help="what recipes.real_images laid out")
    parser.add_argument("--materials", type=Path, help="photos of materials (recipes.embedded.photos)")
    parser.add_argument("--backbone", type=Path, required=True, help="folder of the weights to begin with")
    parser.add_argument(
        "--further",
        type=Path,
        nargs="*",
        default=[],
        help="more annotated folders; those whose name the judge has are left out",
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--part-mb", type=float, default=50)
    arguments = parser.parse_args()
    if arguments.out.exists():
        raise UsageError(f"{arguments.out}: is there already; name another --out or remove it")
    arguments.out.mkdir(parents=True)
    with torch.inference_mode():
        save_file(start(load_backbone(arguments.backbone)), arguments.out / START)
    parts = _Parts(arguments.out, int(arguments.part_mb * 1e6))
    singles = [] if arguments.materials is None else list(materials(arguments.materials))
    sets = [(arguments.images / "visa" / name, f"visa-{name}", 0) for name in ("capsules", "macaroni1")]
    sets.append((arguments.images / "deep-pcb" / "board", "deep-pcb", JUDGED))
    sets += [(folder, folder.name, 0) for folder in arguments.further if not held_out_name(folder.name)]
    for entry, data in singles:
        parts.add(entry, [(entry.name, data)])
    for folder, source, judged in sets:
        for entry, files in annotated(folder, source, judged=judged):
            parts.add(entry, files)
    everything = list(photos(arguments.images))
    np.random.default_rng(0).shuffle(everything)
    for entry, data in everything:
        parts.add(entry, [(entry.name, data)])
    parts.close()
    for path in sorted(arguments.out.iterdir()):
        print(f"{path.name}: {path.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
