"""Whether a profile keeps its promise, and what it misses then, as the tables in docs/calibration.md and docs/profiles.md.

`python -m benchmarks.promise simulate`: the memory in the loop, many times: simulated good images are remembered, each is scored
without itself, a threshold found, and new good images scored. `cells`: the same on the good solar cells of elpv-dataset, drawn
at random. `sets`: the defects that are missed, and the good images that are NG, with 8, 30 and 100 good images of each real set
(measured only: nothing is chosen by it).
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.real_sets import SIMULATED, available
from blemish.backbones.config import BackboneConfig
from blemish.backbones.model import Clip
from blemish.backbones.preprocess import to_array
from blemish.calibration.conformal import allowed_above, threshold_above
from blemish.config import ModelConfig
from blemish.data.elpv import solar_cells
from blemish.engines.base import Engine, RawScores
from blemish.engines.torch import TorchEngine
from blemish.images import read
from blemish.inspection.load import load_engine
from blemish.language import Vocabulary, general
from blemish.methods.base import Features, Method, Scores, Texts
from blemish.methods.text_cache import TextCache

REPETITIONS = 2000
NEW_IMAGES = 20  # good images that are scored in each repetition
CASES = ((10, 0.1), (19, 0.05), (39, 0.05), (99, 0.01))  # good images, and the share that is promised
SIDE, PATCH = 48, 8  # of a simulated image, in pixels
CELL_CASES = ((10, 0.1), (19, 0.05), (39, 0.05), (99, 0.05))
SPLITS = 40
MOST_CELLS, NEW_CELLS = 250, 50  # of a kind; and scored in each split
COUNTS = (8, 30, 100)
PROMISE = 0.05
DRAWS = 2
MOST_TESTED, LEAST_TESTED = 100, 6  # images of each kind
BATCH = 8
SMALL = BackboneConfig.from_dict(
    {
        "name": "simulated",
        "joint_width": 8,
        "vision": {"image_size": SIDE, "width": 8, "depth": 1, "heads": 1, "patch_size": PATCH, "position_grid": 6},
        "text": {"width": 8, "depth": 1, "heads": 1},
    }
)


@dataclass(frozen=True)
class NoOptions:
    """The options of the simulated words."""


class SimulatedWords(Method):
    """A method without a model: patches are means and deviations of pixels, and words are a fixed function of them."""

    name = "simulated"
    config_type = NoOptions

    def __init__(self) -> None:
        super().__init__(Clip(SMALL), NoOptions())

    def compute_texts(self, vocabulary: Vocabulary, cache: TextCache) -> Texts:
        del cache
        return Texts(vocabulary)

    def encode(self, images: Tensor, *, compare: bool = False) -> Features:
        means = F.avg_pool2d(images, PATCH)
        spread = (F.avg_pool2d(images**2, PATCH) - means**2).clamp_min(0).sqrt()
        maps = torch.cat([means, spread, torch.full_like(means[:, :1], 0.1)], 1)  # [B, 7, 6, 6]
        patches = maps.flatten(2).transpose(1, 2)
        return Features(patches.mean(1), (patches,), (maps.shape[2], maps.shape[3]), (maps,) if compare else ())

    def score(self, features: Features, texts: Texts) -> Scores:
        patches = features.levels[0]
        anomaly_map = (3 * patches[..., 0] - 2 * patches[..., 4] - 4).sigmoid().reshape(len(patches), *features.grid)
        types = len(texts.types)
        score = anomaly_map.flatten(1).amax(1)
        return Scores(
            image_score=score,
            anomaly_map=anomaly_map,
            types=texts.types,
            type_scores=score[:, None].expand(-1, types) / types,
            type_maps=anomaly_map[:, None].expand(-1, types, -1, -1) / types,
        )


def simulated_images(count: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Good images [count, 3, S, S] of one product: a pattern, lit differently, with rare natural oddities."""
    pattern = np.random.default_rng(7).standard_normal((1, 3, SIDE, SIDE))
    images = pattern + 0.3 * rng.standard_t(4, (count, 1, 1, 1)) + 0.3 * rng.standard_normal((count, 3, SIDE, SIDE))
    for image in images:
        for _ in range(rng.poisson(0.3)):
            y, x = rng.integers(0, SIDE - PATCH, 2)
            image[:, y : y + PATCH, x : x + PATCH] += rng.exponential(1.0)
    return images.astype(np.float32)


@dataclass(frozen=True)
class Rates:
    """What became of the good images of many repetitions: shares at or above a threshold, one a repetition."""

    image: NDArray[np.float64]  # the image threshold
    region: NDArray[np.float64]  # the pixel threshold

    def row(self) -> str:
        """Means with their standard errors."""
        parts = [(100 * each.mean(), 100 * each.std() / np.sqrt(len(each))) for each in (self.image, self.region)]
        return " | ".join(f"{mean:.2f} % ± {error:.2f}" for mean, error in parts)


def repeated(
    engine: Engine,
    draw: Callable[[], tuple[NDArray[np.float32], NDArray[np.float32]]],
    share: float,
    *,
    repetitions: int,
) -> Rates:
    """Good images are remembered and calibrate without themselves; the others that `draw` gives are inspected."""
    texts = engine.encode_texts(general())
    rates: list[tuple[float, float]] = []
    for _ in range(repetitions):
        good, new = draw()
        memory = engine.remember([good])
        own = engine.leave_one_out(memory, texts)
        beside = engine.with_memory(memory)
        seen = beside.score(beside.encode(new), texts)
        most = allowed_above(len(own), share)
        assert most is not None
        limits = (
            threshold_above([one.image_score for one in own], most),
            threshold_above([_peak(one) for one in own], most),
        )
        above = np.mean([(one.image_score >= limits[0], _peak(one) >= limits[1]) for one in seen], axis=0)
        rates.append((float(above[0]), float(above[1])))
    image, region = np.array(rates).T
    return Rates(image, region)


def _peak(one: RawScores) -> float:
    return float(one.anomaly_map.max())


def simulate(repetitions: int) -> None:
    """Prints the coverage on simulated images, a Markdown line a case."""
    engine = TorchEngine(SimulatedWords(), backbone="simulated")
    print("| good images | promised | NG, mean | region, mean |\n|---|---|---|---|")
    for count, share in CASES:
        rng = np.random.default_rng(count)

        def draw(count: int = count, rng: np.random.Generator = rng) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
            return simulated_images(count, rng), simulated_images(NEW_IMAGES, rng)

        rates = repeated(engine, draw, share, repetitions=repetitions)
        print(f"| {count} | {_promised(count, share):.2%} | {rates.row()} |", flush=True)


def _promised(count: int, share: float) -> float:
    """What so many images promise: (e + 1) / (n + 1), at most the share."""
    most = allowed_above(count, share)
    assert most is not None
    return (most + 1) / (count + 1)


class Kept:
    """Prepared images, and their features by content, so that an image goes through the trunk once."""

    def __init__(self, method: Method) -> None:
        self._encode = method.encode
        self._kept: dict[bytes, Features] = {}
        method.encode = self.encode  # type: ignore[method-assign]  # of this one object, for this benchmark

    def encode(self, images: Tensor, *, compare: bool = False) -> Features:
        del compare
        rows = []
        for image in images:
            key = hashlib.sha256(image.numpy().tobytes()).digest()
            if key not in self._kept:
                self._kept[key] = self._encode(image[None], compare=True)
            rows.append(self._kept[key])
        first = rows[0]
        return replace(
            first,
            global_feature=torch.cat([row.global_feature for row in rows]),
            levels=tuple(torch.cat(parts) for parts in zip(*(row.levels for row in rows), strict=True)),
            reference_maps=tuple(torch.cat(parts) for parts in zip(*(row.reference_maps for row in rows), strict=True)),
        )


def embedded() -> TorchEngine:
    """The embedded model, whose features are kept."""
    engine = load_engine(ModelConfig()).engine
    assert isinstance(engine, TorchEngine)
    Kept(engine.method)
    return engine


def prepared(engine: Engine, paths: Sequence[Path]) -> NDArray[np.float32]:
    return np.stack([to_array(read(path), engine.input) for path in paths])


def cells(splits: int) -> None:
    """Prints the coverage on good solar cells, split at random many times."""
    engine = embedded()
    print("| good cells | remembered | promised | NG, mean | region, mean |\n|---|---|---|---|---|")
    for kind in ("mono", "poly"):
        good = [cell.path for cell in solar_cells() if cell.kind == kind and cell.defect_probability == 0]
        chosen = np.random.default_rng(0).permutation(len(good))[:MOST_CELLS]
        images = prepared(engine, [good[number] for number in chosen])
        for count, share in CELL_CASES:
            rng = np.random.default_rng(count)

            def draw(
                count: int = count, rng: np.random.Generator = rng, images: NDArray[np.float32] = images
            ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
                order = rng.permutation(len(images))
                return images[order[:count]], images[order[count : count + NEW_CELLS]]

            rates = repeated(engine, draw, share, repetitions=splits)
            print(f"| {kind} | {count} | {_promised(count, share):.2%} | {rates.row()} |", flush=True)


def sets(root: Path, *, draws: int) -> None:
    """Prints what is missed, and how many good images are NG, on each real set that is here."""
    engine = embedded()
    print("| set | good images | promised | good NG | defects missed |\n|---|---|---|---|---|")
    comparisons, missing = available(root)
    for comparison in comparisons:
        if comparison.set_name == SIMULATED:
            continue
        good = [item.path for item in comparison.items if not item.anomalous]
        bad = [item.path for item in comparison.items if item.anomalous]
        for count in COUNTS:
            if count + LEAST_TESTED > len(good):
                continue
            rng = np.random.default_rng(count)
            rates = []
            for _ in range(draws):
                order = rng.permutation(len(good))
                tested = [good[number] for number in order[count : count + MOST_TESTED]]
                tested_bad = [bad[number] for number in rng.permutation(len(bad))[:MOST_TESTED]]
                first = prepared(engine, [good[number] for number in order[:count]])
                rates.append(_missed(engine, first, prepared(engine, tested), prepared(engine, tested_bad)))
            rejected, missed = np.mean(rates, axis=0)
            promised = ((allowed_above(count, PROMISE) or 0) + 1) / (count + 1)
            print(
                f"| {comparison.name} | {count} | {promised:.1%} | {rejected:.1%} | {missed:.1%} |",
                flush=True,
            )
    print(*missing, sep="\n")


def _missed(
    engine: Engine, good: NDArray[np.float32], new: NDArray[np.float32], bad: NDArray[np.float32]
) -> tuple[float, float]:
    """The shares of new good images that are NG, and of bad ones that are not; too few good images promise what they can."""
    texts = engine.encode_texts(general())
    memory = engine.remember([good])
    most = allowed_above(len(good), PROMISE) or 0
    limit = threshold_above([one.image_score for one in engine.leave_one_out(memory, texts)], most)
    beside = engine.with_memory(memory)

    def above(images: NDArray[np.float32]) -> float:
        scores = [
            one.image_score
            for start in range(0, len(images), BATCH)
            for one in beside.score(beside.encode(images[start : start + BATCH]), texts)
        ]
        return float(np.mean(np.array(scores) >= limit))

    return above(new), 1 - above(bad)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.promise", description=__doc__)
    parser.add_argument("what", choices=["simulate", "cells", "sets"])
    parser.add_argument("--repetitions", type=int, default=REPETITIONS, help="of a simulated case")
    parser.add_argument("--splits", type=int, default=SPLITS, help="of the solar cells")
    parser.add_argument("--draws", type=int, default=DRAWS, help="of good images of a set")
    parser.add_argument("--data", type=Path, default=Path(), help="the folder with the real sets")
    arguments = parser.parse_args()
    if arguments.what == "simulate":
        simulate(arguments.repetitions)
    elif arguments.what == "cells":
        cells(arguments.splits)
    else:
        sets(arguments.data, draws=arguments.draws)


if __name__ == "__main__":
    main()
