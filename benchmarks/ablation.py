"""What `benchmarks.faprompt_ablation` and `benchmarks.dapo_variants` share: variants of a method, trained and measured alike.

Every variant is trained with every seed on the same rendered images and measured on held-out renders, which decide; with the
first seeds also on the real sets of the protocol `measure`, which decide nothing. Pixels are compared at the tower's input
size; types are those of the built-in vocabulary on the renders, and the tiles' own five on the tiles. Image features are kept
in the store's home, results in --out; the same command again goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from recipes.prompts import FIRST_SEED

from benchmarks.real_sets import SIMULATED, Item, available
from blemish.backbones.model import Clip
from blemish.data.samples import DataSet, Split
from blemish.images import Picture, read
from blemish.io.atomic import write_text
from blemish.io.prefetch import in_chunks
from blemish.io.progress import Reporter
from blemish.language import Vocabulary, parse_defects
from blemish.methods.base import Method
from blemish.metrics import PixelRanking, auroc
from blemish.models import load_backbone
from blemish.models.feature_cache import FeatureStore, feature_store
from blemish.models.load import load_method
from blemish.synthesis import HELD_OUT_SEEDS, drawn
from blemish.training import Recipe, train
from blemish.training.batches import Source, cache_features
from blemish.training.examples import Examples, examine

__all__ = ["Bench", "Variant", "arguments", "compare"]

COLUMNS = (
    "held-out image",
    "held-out pixel",
    "held-out types",
    "elpv image",
    "tiles image",
    "tiles pixel",
    "tiles types",
    "hazelnut image",
    "hazelnut pixel",
)
BATCH = 16
TILES = "magnetic tile "


@dataclass(frozen=True)
class Variant:
    """What is trained, and what is changed afterwards: variants that differ in `scoring` alone share their prompts."""

    options: Mapping[str, Any] = field(default_factory=dict)
    scoring: Mapping[str, Any] = field(default_factory=dict)
    rate: float | None = None


@dataclass(frozen=True)
class Photo:
    """A real image of the protocol `measure`, as a sample."""

    path: Path
    anomalous: bool
    mask_path: Path | None
    has_mask: bool
    defect_type: str = ""
    product: str = ""
    split: Split = "test"
    folder: str = ""

    @property
    def name(self) -> str:
        return str(self.path)

    def digest(self) -> str:
        return hashlib.sha256(self.path.read_bytes()).hexdigest()

    def picture(self) -> Picture:
        return read(self.path)

    def mask(self) -> NDArray[np.bool_] | None:
        if not self.has_mask:
            return None
        picture = self.picture()
        if self.mask_path is None:
            return np.zeros((picture.height_px, picture.width_px), bool)
        return np.asarray(read(self.mask_path).pixels[..., 0] > 127)


@dataclass(frozen=True)
class Found:
    """Image scores [n], maps [n, S, S] (float16: they are many) and the names of the likeliest types of n images."""

    scores: NDArray[np.float64]
    maps: NDArray[np.float16]
    types: NDArray[np.str_]


def real_photos(root: Path, *, most: int) -> tuple[DataSet, dict[str, NDArray[np.int64]]]:
    """The real images once, and the rows of each comparison among them: of each, `most` normal and anomalous ones by lot."""
    comparisons, missing = available(root)
    for line in missing:
        print(f"missing: {line}")
    shown = [comparison for comparison in comparisons if not comparison.name.startswith(SIMULATED)]
    photos: dict[Path, Photo] = {}
    chosen: dict[str, list[Item]] = {}
    for comparison in shown:
        kind = comparison.name.removeprefix(TILES).lower() if comparison.name.startswith(TILES) else ""
        chosen[comparison.name] = _by_lot(comparison.items, most)
        for item in chosen[comparison.name]:
            named = kind if item.anomalous else ""
            photos.setdefault(item.path, Photo(item.path, item.anomalous, item.mask, comparison.has_masks, named))
    number = {path: row for row, path in enumerate(photos)}
    rows = {name: np.array([number[item.path] for item in items]) for name, items in chosen.items()}
    return DataSet("real sets", tuple(photos.values()), "image+pixel"), rows


def _by_lot(items: Sequence[Item], most: int) -> list[Item]:
    """Up to so many normal and so many anomalous items: those whose file names come first by a hash."""
    found = []
    for anomalous in (False, True):
        own = [item for item in items if item.anomalous is anomalous]
        own.sort(key=lambda item: hashlib.sha256(item.path.name.encode()).hexdigest())
        found += own[:most]
    return found


@torch.inference_mode()
def look(method: Method, source: Source, vocabulary: Vocabulary | None = None) -> Found:
    """What a method says of all images of a source with kept features."""
    scores, maps, types = [], [], []
    texts = method.encode_texts(vocabulary)
    for batch in source.feed(in_chunks(np.arange(len(source.examples)), BATCH)):
        found = method.score(batch.features(method), texts)
        scores.append(found.image_score.double().numpy())
        maps.append(found.anomaly_map.half().numpy())
        types.append(np.array(found.types)[found.type_scores.argmax(1).numpy()])
    return Found(np.concatenate(scores), np.concatenate(maps), np.concatenate(types))


class Bench:
    """The images of all runs, drawn and decoded once, and the backbone."""

    def __init__(self, method: str, settings: argparse.Namespace) -> None:
        self.method = method
        self.clip: Clip = load_backbone("embedded")
        self.epochs: int = settings.epochs
        self.train = drawn(settings.images, first_seed=FIRST_SEED)
        self.held_out = drawn(settings.held_out, first_seed=HELD_OUT_SEEDS)
        self.photos, self.comparisons = real_photos(settings.data_root, most=settings.real_most)
        self.real_seeds: int = settings.real_seeds
        if not self.real_seeds:
            self.photos = replace(self.photos, samples=())
        self._examined: dict[Path, tuple[Examples, Examples | None]] = {}  # by the place of their features

    def run(self, folder: Path, name: str, variant: Variant, seed: int, *, rate: float) -> dict[str, float]:
        """Trains and measures one variant with one seed, or reads what was found before."""
        done = folder / f"figures-{_plain(name)}.json"
        if done.is_file():
            found: dict[str, float] = json.loads(done.read_text(encoding="utf-8"))
            return found
        recipe = Recipe(epochs=self.epochs, seed=seed, rate=variant.rate or rate)
        trained = train(
            self.method, self.train, out=folder, backbone=self.clip, options=dict(variant.options), recipe=recipe
        )
        loaded = load_method("embedded", prompts=trained.prompts[-1], options=dict(variant.scoring))
        figures = self.measure(loaded.method, real=seed < self.real_seeds)
        write_text(done, json.dumps(figures, indent=2) + "\n")
        return figures

    def measure(self, method: Method, *, real: bool = True) -> dict[str, float]:
        """The figures of a trained method, one for each column; without `real` those of the renders alone."""
        method.eval()
        store, preprocess = feature_store(method, dtype="float16"), self.clip.config.preprocess
        held_out, photos = self._with_features(method, store)
        found = look(method, Source(held_out, preprocess, store))
        figures = {
            "held-out image": float(auroc(found.scores, held_out.anomalous)),
            "held-out pixel": pixel_auroc(found.maps, held_out, np.arange(len(held_out))),
            "held-out types": type_accuracy(found.types, held_out),
        }
        if photos is None or not real:
            return figures
        found = look(method, Source(photos, preprocess, store))
        by_set: dict[str, list[float]] = {}
        for name, rows in self.comparisons.items():
            short = {"elpv": "elpv", "magnetic": "tiles", "hazelnut": "hazelnut"}[name.split()[0]]
            by_set.setdefault(f"{short} image", []).append(float(auroc(found.scores[rows], photos.anomalous[rows])))
            if photos.has_mask[rows].all():
                by_set.setdefault(f"{short} pixel", []).append(pixel_auroc(found.maps, photos, rows))
        figures |= {name: statistics.fmean(values) for name, values in by_set.items()}
        if photos.types:
            found = look(method, Source(photos, preprocess, store), parse_defects(photos.types))
            figures["tiles types"] = type_accuracy(found.types, photos)
        return figures

    def _with_features(self, method: Method, store: FeatureStore) -> tuple[Examples, Examples | None]:
        if store.folder not in self._examined:
            size = self.clip.config.preprocess.size
            held_out = examine(self.held_out, size=size, store=store)
            real = examine(self.photos, size=size, store=store) if self.photos.samples else None
            sets = [held_out] if real is None else [held_out, real]
            cache_features(method, sets, store, device=torch.device("cpu"), reporter=Reporter())
            self._examined[store.folder] = held_out, real
        return self._examined[store.folder]


def pixel_auroc(maps: NDArray[Any], examples: Examples, rows: NDArray[np.int64]) -> float:
    ranking = PixelRanking()
    for row in rows:
        ranking.add(maps[row].astype(np.float32).clip(0, 1), examples.masks([int(row)])[0])
    return float(ranking.auroc())


def type_accuracy(names: NDArray[np.str_], examples: Examples) -> float:
    """The share of the images with a named defect whose likeliest type is the true one."""
    rows = np.flatnonzero(examples.type_ids > 0)
    true = np.array(examples.types)[examples.type_ids[rows] - 1]
    return float((names[rows] == true).mean())


def table(results: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
    """Mean ± spread (sample standard deviation over the seeds) of each variant, in Markdown."""
    columns = [name for name in COLUMNS if any(name in run for runs in results.values() for run in runs)]
    lines = [f"| variant | {' | '.join(columns)} |", f"|---|{'---|' * len(columns)}"]
    for variant, runs in results.items():
        cells = []
        for name in columns:
            values = [run[name] for run in runs if name in run]
            spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
            cells.append(f"{statistics.fmean(values):.3f}{spread}" if values else "")
        lines.append(f"| {variant} | {' | '.join(cells)} |")
    return "\n".join(lines)


def arguments(method: str, description: str | None, *, images: int, epochs: int) -> argparse.Namespace:
    """The command line of an ablation, with these defaults."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--images", type=int, default=images)
    parser.add_argument("--held-out", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=epochs)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--data-root", type=Path, default=Path("../shared/data"))
    parser.add_argument("--real-most", type=int, default=100_000, help="normal and anomalous images of a real set")
    parser.add_argument(
        "--real-seeds", type=int, default=1, help="of the seeds, how many are measured on the real sets"
    )
    parser.add_argument("--only", default="", help="variants whose name contains this")
    parser.add_argument("--out", type=Path, default=Path(f"{method}-ablation"))
    return parser.parse_args()


def compare(
    method: str, variants: Mapping[str, Variant], settings: argparse.Namespace, *, base: Mapping[str, Any], rate: float
) -> None:
    """Trains and measures the variants, whose options come on top of `base`, seed by seed, and prints their table."""
    torch.set_num_threads(settings.threads)
    bench, results = Bench(method, settings), dict[str, list[dict[str, float]]]()
    for seed in range(settings.seeds):
        for name, variant in variants.items():
            if settings.only not in name:
                continue
            whole = replace(variant, options={**base, **variant.options})
            folder = settings.out / _trained_as(whole, rate) / f"seed-{seed}"
            figures = bench.run(folder, name, whole, seed, rate=rate)
            results.setdefault(name, []).append(figures)
            print(f"{name}, seed {seed}: {figures}", flush=True)
    print(f"\n{table(results)}\n\n{settings.images} rendered images, {settings.epochs} epochs, {settings.seeds} seeds")


def _trained_as(variant: Variant, rate: float) -> str:
    """The folder of what a variant trains: equal options and rates share it."""
    said = json.dumps([dict(variant.options), variant.rate or rate], sort_keys=True)
    return hashlib.sha256(said.encode()).hexdigest()[:12]


def _plain(name: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in name)
