"""What each part of the recipe is worth: short trainings that leave one part out, measured on the held-out renders.

`python -m recipes.embedded.ablation --cache training-cache` trains what is not there yet and prints a table. All variants have
the same steps, pictures and seeds, fewer than the model that ships.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from blemish.synthesis import HELD_OUT_SEEDS
from recipes import add_device
from recipes.embedded.__main__ import measured, trained
from recipes.embedded.config import Recipe, TextRecipe
from recipes.embedded.samples import render_all, training_pictures
from recipes.embedded.texts import train_text

WHOLE = "the recipe"
VARIANTS: dict[str, dict[str, Any]] = {
    WHOLE: {},
    "without the likeness to other places": {"likeness": False},
    "without pairs of one scene": {"paired": False},
    "all contrasts from the start": {"easy_contrast": 0.0},
    "whole pictures of one size": {"zoom": 1.0, "sides": (224,)},
    "without naming by image": {"naming": 0.0},
    "without captions": {"captions": 0.0},
    "without earlier levels": {"earlier_levels": 0.0},
}
SHOWN = ("image_auroc", "image_auroc_map_only", "image_auroc_global_only", "pixel_auroc", "type_accuracy")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m recipes.embedded.ablation", description=__doc__)
    parser.add_argument("--cache", type=Path, default=Path("training-cache"))
    parser.add_argument("--local-steps", type=int, default=400)
    parser.add_argument("--joint-steps", type=int, default=200)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    add_device(parser)
    parser.add_argument("--only", nargs="+", choices=list(VARIANTS), default=list(VARIANTS), metavar="VARIANT")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    cache, device = arguments.cache, arguments.device
    common = Recipe(train_images=arguments.images, local_steps=arguments.local_steps, joint_steps=arguments.joint_steps)
    names = [WHOLE, *(name for name in arguments.only if name != WHOLE)]  # the others are compared with it
    train = training_pictures(cache, count=arguments.images, workers=arguments.threads)
    held_out = render_all(
        cache / "held-out", count=common.held_out_images, first_seed=HELD_OUT_SEEDS, workers=arguments.threads
    )
    text = train_text(TextRecipe(), cache, device=device).state_dict()
    runs: dict[str, list[dict[str, float]]] = {}
    for seed in range(arguments.seeds):  # every variant once before any twice
        for name in names:
            folder = cache / "ablation" / name.replace(" ", "-")
            recipe = replace(common, seed=seed, **VARIANTS[name])
            kept = folder / f"seed-{seed}" / f"{recipe.local_steps}-{recipe.joint_steps}.json"
            clip = partial(trained, recipe, text, train, folder, words_in=cache, device=device)
            runs.setdefault(name, []).append(measured(clip, held_out, kept, recipe=recipe, unpaired=False))
            print(f"{name}, seed {seed}:", runs[name][-1], flush=True)
        print(table(runs), flush=True)


def table(runs: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
    """A row for each variant: the recipe's figures (mean ± sd of its seeds), of the others the mean difference to the recipe's
    with the same seeds."""
    rows = [["variant", "seeds", *(name.replace("_", " ") for name in SHOWN)], ["---"] * (2 + len(SHOWN))]
    for name, own in runs.items():
        cells = [name, str(len(own))]
        for figure in SHOWN:
            values = [run[figure] for run in own]
            if name == WHOLE:
                spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
                cells.append(f"{statistics.fmean(values):.3f}{spread}")
            else:
                cells.append(
                    f"{statistics.fmean(values) - statistics.fmean(r[figure] for r in runs[WHOLE][: len(own)]):+.3f}"
                )
        rows.append(cells)
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


if __name__ == "__main__":
    main()
