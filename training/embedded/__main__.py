"""Makes the embedded backbone: `python -m training.embedded --cache training-cache --out src/blemish/models/embedded`.

Steps: render (about 10 minutes on two cores), texts, local, joint, naming, export. Each step resumes where a killed run stood;
given the same seed the result is the same up to the floating-point order of the machine. Needs the dependency group "training".
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from blemish.data.synthetic.dataset import HELD_OUT_SEEDS
from training.embedded.checkpoint import minutes_spent
from training.embedded.config import BACKBONE, Recipe
from training.embedded.export import export
from training.embedded.held_out import predict, summary, unpaired_words
from training.embedded.joint import fresh_clip, train_images
from training.embedded.samples import render_all
from training.embedded.texts import text_data, train_text


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.embedded", description=__doc__)
    parser.add_argument("--cache", type=Path, default=Path("training-cache"), help="rendered images and checkpoints")
    parser.add_argument(
        "--out", type=Path, default=Path("src/blemish/models/embedded"), help="where the model is written"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--until", choices=("render", "texts", "local", "joint", "naming", "export"), default="export")
    arguments = parser.parse_args()
    steps = ("render", "texts", "local", "joint", "naming", "export")
    last = steps.index(arguments.until)
    torch.set_num_threads(arguments.threads)
    recipe, cache = Recipe(seed=arguments.seed), arguments.cache

    train = render_all(cache / "train", count=recipe.train_images, first_seed=0, workers=arguments.threads)
    held_out = render_all(
        cache / "held-out", count=recipe.held_out_images, first_seed=HELD_OUT_SEEDS, workers=arguments.threads
    )
    if last == 0:
        return
    text = train_text(recipe, cache)
    clip = fresh_clip(text.state_dict(), seed=recipe.seed)
    words = text_data(recipe, cache)
    for stage in steps[2 : min(last, 4) + 1]:
        clip = train_images(stage, clip, samples=train, recipe=recipe, cache=cache, texts=words)
    if last in (2, 3, 4):
        figures = summary(predict(clip, held_out), predict(clip, held_out, vocabulary=unpaired_words()))
        print("held-out:", {name: round(value, 4) for name, value in figures.items()})
    elif last == 5:
        export(clip, arguments.out, held_out=held_out, recipe=recipe, minutes=minutes_spent(cache))
        print(f"{BACKBONE.name} written to {arguments.out}")


if __name__ == "__main__":
    main()
