"""What each part of the recipe is worth: short trainings that leave one part out, measured on the held-out renders.

`python -m training.embedded.ablation --cache training-cache` trains what is not there yet and prints a table. All variants have
the same steps, pictures and seeds, fewer than the model that ships.
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from blemish.data.synthetic.dataset import HELD_OUT_SEEDS
from training.embedded.__main__ import measured, trained
from training.embedded.config import Recipe, TextRecipe
from training.embedded.samples import render_all, training_pictures
from training.embedded.texts import train_text

VARIANTS: dict[str, dict[str, Any]] = {
    "the recipe": {},
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
    parser = argparse.ArgumentParser(prog="python -m training.embedded.ablation", description=__doc__)
    parser.add_argument("--cache", type=Path, default=Path("training-cache"))
    parser.add_argument("--local-steps", type=int, default=600)
    parser.add_argument("--joint-steps", type=int, default=300)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", nargs="+", choices=list(VARIANTS), default=list(VARIANTS), metavar="VARIANT")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    cache = arguments.cache
    common = Recipe(local_steps=arguments.local_steps, joint_steps=arguments.joint_steps)
    train = training_pictures(cache, count=arguments.images, workers=arguments.threads)
    held_out = render_all(
        cache / "held-out", count=common.held_out_images, first_seed=HELD_OUT_SEEDS, workers=arguments.threads
    )
    text = train_text(TextRecipe(), cache).state_dict()
    print("| variant | " + " | ".join(name.replace("_", " ") for name in SHOWN) + " |\n|" + "---|" * (1 + len(SHOWN)))
    for name in arguments.only:
        runs = []
        for seed in range(arguments.seeds):
            folder = cache / "ablation" / name.replace(" ", "-")
            recipe = replace(common, seed=seed, **VARIANTS[name])
            kept = folder / f"seed-{seed}" / f"{recipe.local_steps}-{recipe.joint_steps}.json"
            clip = None if kept.exists() else trained(recipe, text, train, folder, words_in=cache)
            runs.append(measured(clip, held_out, kept))
        cells = [_cell([run[figure] for run in runs]) for figure in SHOWN]
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


def _cell(values: list[float]) -> str:
    spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.3f}{spread}"


if __name__ == "__main__":
    main()
