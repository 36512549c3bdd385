"""Whether a profile keeps its promise, and what it misses then, as the tables in docs/calibration.md and docs/profiles.md.

`python -m benchmarks.promise simulate`: the memory in the loop, 2,000 repetitions a case: simulated good images are remembered,
each is scored without itself, a threshold found, and new good images scored. `cells`: the same on the good solar cells of
elpv-dataset, split at random. `sets`: the defects that are missed, and the good images that are NG, with 8, 30 and 100 good
images of each real set (measured only: nothing is chosen by it).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from blemish.backbones.config import BackboneConfig
from blemish.backbones.model import Clip
from blemish.calibration.conformal import allowed_above, threshold_above
from blemish.engines.base import Engine
from blemish.engines.torch import TorchEngine
from blemish.language import Vocabulary, general
from blemish.methods.base import Features, Method, Scores, Texts
from blemish.methods.text_cache import TextCache

REPETITIONS = 2000
NEW_IMAGES = 20  # good images that are scored in each repetition
CASES = ((10, 0.1), (19, 0.05), (39, 0.05), (99, 0.01))  # good images, and the share that is promised
SIDE, PATCH = 48, 8  # of a simulated image, in pixels
CELL_CASES = ((10, 0.1), (19, 0.05), (39, 0.05), (99, 0.05))
SPLITS = 40
COUNTS = (8, 30, 100)
PROMISE = 0.05
DRAWS = 3
MOST_TESTED = 150  # images of each kind
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
        anomaly_map = (3 * patches[..., 0] - 2 * patches[..., 4] - 4).sigmoid().unflatten(1, features.grid)
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
    """What became of the good images of many repetitions."""

    image: NDArray[np.float64]  # the share at or above the image threshold, one a repetition
    region: NDArray[np.float64]  # likewise with a region

    def row(self) -> str:
        """Means with their standard errors."""
        return " | ".join(
            f"{100 * each.mean():.2f} % ± {100 * each.std() / np.sqrt(len(each)):.2f}"
            for each in (self.image, self.region)
        )


def repeated(
    engine: Engine, draw: Callable[[], tuple[NDArray[np.float32], NDArray[np.float32]]], share: float, repetitions: int
) -> Rates:
    """Good images are remembered and calibrate without themselves; the others that `draw` gives are inspected."""
    texts = engine.encode_texts(general())
    image_rates, region_rates = [], []
    for _ in range(repetitions):
        good, new = draw()
        memory = engine.remember([good])
        own = engine.leave_one_out(memory, texts)
        most = allowed_above(len(good), share)
        assert most is not None
        beside = engine.with_memory(memory)
        seen = beside.score(beside.encode(new), texts)
        for rates, value in ((image_rates, _score), (region_rates, _peak)):
            threshold = threshold_above([value(one) for one in own], most)
            rates.append(np.mean([value(one) >= threshold for one in seen]))
    return Rates(np.array(image_rates), np.array(region_rates))


def _score(one: object) -> float:
    return float(one.image_score)  # type: ignore[attr-defined]


def _peak(one: object) -> float:
    return float(one.anomaly_map.max())  # type: ignore[attr-defined]


def simulate(repetitions: int) -> list[str]:
    """The coverage on simulated images, a Markdown line a case."""
    engine = TorchEngine(SimulatedWords(), backbone="simulated")
    lines = ["| good images | promised | NG, mean | region, mean |", "|---|---|---|---|"]
    for count, share in CASES:
        rng = np.random.default_rng(count)
        rates = repeated(
            engine,
            lambda count=count, rng=rng: (simulated_images(count, rng), simulated_images(NEW_IMAGES, rng)),
            share,
            repetitions,
        )
        exact = allowed_above(count, share)
        assert exact is not None
        lines.append(f"| {count} | {share:.0%} ({(exact + 1) / (count + 1):.2%}) | {rates.row()} |")
        print(lines[-1], flush=True)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["simulate", "cells", "sets"])
    parser.add_argument("--repetitions", type=int, default=REPETITIONS)
    arguments = parser.parse_args()
    if arguments.what == "simulate":
        print("\n".join(simulate(arguments.repetitions)))


if __name__ == "__main__":
    main()
