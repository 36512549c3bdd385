"""What each part of FAPrompt is worth on the embedded backbone: the ablation table of docs/faprompt.md.

    python -m benchmarks.faprompt_ablation [--seeds 3] [--images 1000] [--epochs 3] [--data-root ../shared/data] [--only NAME]

Every variant is trained with every seed on the same rendered images and measured on held-out renders, which decide, and on the
real sets of the protocol `measure`, which decide nothing. Pixels are compared at the tower's input size. Image features are
kept in the store's home, results in --out; the same command again goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from training.prompts import FIRST_SEED, PLANS

from benchmarks.real_sets import SIMULATED, available
from blemish.atomic import write_text
from blemish.clip.model import Clip
from blemish.data.samples import DataSet, Split
from blemish.data.synthetic import drawn
from blemish.data.synthetic.dataset import HELD_OUT_SEEDS
from blemish.images import Picture, read
from blemish.loading import load_method
from blemish.methods.base import Method
from blemish.metrics import PixelRanking, auroc
from blemish.store import load_backbone
from blemish.store.features import FeatureStore, feature_store
from blemish.training import Recipe, Reporter, train
from blemish.training.batches import Source, cache_features, in_chunks
from blemish.training.examples import Examples, examine

PLAN = PLANS["faprompt"]
VARIANTS: dict[str, dict[str, Any]] = {
    "as shipped": {},
    "CAP without DAP": {"prior": False},
    "DAP without CAP": {"abnormality_prompts": 1, "share_normal_tokens": False},
    "K = 1": {"abnormality_prompts": 1},
    "K = 5": {"abnormality_prompts": 5},
    "K = 20": {"abnormality_prompts": 20},
    "M = 1": {"patches": 1},
    "M = 30": {"patches": 30},
    "selection released": {"selection": "released"},
    "the paper's rate": {},
}
PAPERS_RATE = 1e-3
COLUMNS = (
    "held-out image",
    "held-out pixel",
    "elpv image",
    "tiles image",
    "tiles pixel",
    "hazelnut image",
    "hazelnut pixel",
)


@dataclass(frozen=True)
class Photo:
    """A real image of the protocol `measure`, as a sample."""

    path: Path
    anomalous: bool
    mask_path: Path | None
    has_mask: bool
    product: str = ""
    split: Split = "test"
    defect_type: str = ""
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


def real_photos(root: Path) -> tuple[DataSet, dict[str, NDArray[np.int64]]]:
    """All real images once, and the rows of each comparison among them."""
    comparisons, missing = available(root)
    for line in missing:
        print(f"missing: {line}")
    photos: dict[Path, Photo] = {}
    for comparison in comparisons:
        for item in comparison.items if not comparison.name.startswith(SIMULATED) else ():
            photos.setdefault(item.path, Photo(item.path, item.anomalous, item.mask, comparison.has_masks))
    number = {path: row for row, path in enumerate(photos)}
    rows = {
        comparison.name: np.array([number[item.path] for item in comparison.items])
        for comparison in comparisons
        if not comparison.name.startswith(SIMULATED)
    }
    return DataSet("real sets", tuple(photos.values()), "image+pixel"), rows


@torch.inference_mode()
def scores_of(method: Method, source: Source) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Image scores [n] and maps [n, S, S] (float16 on the way: they are many) of all images of a source."""
    scores, maps = [], []
    for batch in source.feed(in_chunks(np.arange(len(source.examples)), 32)):
        found = method.score(batch.inputs)  # type: ignore[arg-type]
        scores.append(found.image_score.double().numpy())
        maps.append(found.anomaly_map.half().numpy())
    return np.concatenate(scores), np.concatenate(maps)


def pixel_auroc(maps: NDArray[Any], examples: Examples, rows: NDArray[np.int64]) -> float:
    ranking = PixelRanking()
    for row in rows:
        ranking.add(maps[row].astype(np.float32).clip(0, 1), examples.masks([int(row)])[0])
    return float(ranking.auroc())


class Bench:
    """The images of all runs, drawn and decoded once, and the backbone."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.clip: Clip = load_backbone("embedded")
        self.epochs: int = arguments.epochs
        self.train = drawn(arguments.images, first_seed=FIRST_SEED)
        self.held_out = drawn(arguments.held_out, first_seed=HELD_OUT_SEEDS)
        self.photos, self.comparisons = real_photos(arguments.data_root)
        if arguments.held_out_only:
            self.photos = replace(self.photos, samples=())
        self._examined: dict[Path, tuple[Examples, Examples | None]] = {}  # by the place of their features

    def run(self, folder: Path, options: dict[str, Any], seed: int, *, rate: float) -> dict[str, float]:
        """Trains and measures one variant with one seed, or reads what was found before."""
        done = folder / "figures.json"
        if done.is_file():
            found: dict[str, float] = json.loads(done.read_text(encoding="utf-8"))
            return found
        recipe = Recipe(epochs=self.epochs, seed=seed, rate=rate)
        trained = train("faprompt", self.train, out=folder, backbone=self.clip, options=options, recipe=recipe)
        figures = self.measure(load_method("embedded", prompts=trained.prompts[-1]).method)
        write_text(done, json.dumps(figures, indent=2) + "\n")
        return figures

    def measure(self, method: Method) -> dict[str, float]:
        """The figures of a trained method, one for each column."""
        method.prepare()
        store, preprocess = feature_store(method, dtype="float16"), self.clip.config.preprocess
        held_out, real = self._with_features(method, store)
        scores, maps = scores_of(method, Source(held_out, preprocess, store))
        figures = {
            "held-out image": float(auroc(scores, held_out.anomalous)),
            "held-out pixel": pixel_auroc(maps, held_out, np.arange(len(held_out))),
        }
        if real is None:
            return figures
        scores, maps = scores_of(method, Source(real, preprocess, store))
        by_set: dict[str, list[float]] = {}
        for name, rows in self.comparisons.items():
            short = {"elpv": "elpv", "magnetic": "tiles", "hazelnut": "hazelnut"}[name.split()[0]]
            by_set.setdefault(f"{short} image", []).append(float(auroc(scores[rows], real.anomalous[rows])))
            if real.has_mask[rows].all():
                by_set.setdefault(f"{short} pixel", []).append(pixel_auroc(maps, real, rows))
        return figures | {name: statistics.fmean(values) for name, values in by_set.items()}

    def _with_features(self, method: Method, store: FeatureStore) -> tuple[Examples, Examples | None]:
        if store.folder not in self._examined:
            size = self.clip.config.preprocess.size
            held_out = examine(self.held_out, size=size, store=store)
            real = examine(self.photos, size=size, store=store) if self.photos.samples else None
            sets = [held_out] if real is None else [held_out, real]
            cache_features(method, sets, store, device=torch.device("cpu"), reporter=Reporter())
            self._examined[store.folder] = held_out, real
        return self._examined[store.folder]


def table(results: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
    """Mean ± spread (sample standard deviation over the seeds) of each variant, in Markdown."""
    columns = [name for name in COLUMNS if any(name in run for runs in results.values() for run in runs)]
    lines = [f"| variant | {' | '.join(columns)} |", f"|---|{'---|' * len(columns)}"]
    for variant, runs in results.items():
        cells = []
        for name in columns:
            values = [run[name] for run in runs]
            spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
            cells.append(f"{statistics.fmean(values):.3f}{spread}")
        lines.append(f"| {variant} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--held-out", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=PLAN.epochs)
    parser.add_argument("--data-root", type=Path, default=Path("../shared/data"))
    parser.add_argument("--held-out-only", action="store_true", help="leave the real sets out")
    parser.add_argument("--only", default="", help="variants whose name contains this")
    parser.add_argument("--out", type=Path, default=Path("faprompt-ablation"))
    arguments = parser.parse_args()
    bench, results = Bench(arguments), dict[str, list[dict[str, float]]]()
    for seed in range(arguments.seeds):
        for name, options in VARIANTS.items():
            if arguments.only in name:
                folder = arguments.out / name.replace(" ", "-").replace("=", "") / f"seed-{seed}"
                rate = PAPERS_RATE if name == "the paper's rate" else PLAN.rate
                figures = bench.run(folder, {**PLAN.options, **options}, seed, rate=rate)
                results.setdefault(name, []).append(figures)
                print(f"{name}, seed {seed}: {figures}", flush=True)
    print(
        f"\n{table(results)}\n\n{arguments.images} rendered images, {arguments.epochs} epochs, {arguments.seeds} seeds"
    )


if __name__ == "__main__":
    main()
