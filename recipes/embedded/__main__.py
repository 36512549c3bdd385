"""Makes the embedded backbone: `python -m recipes.embedded --cache training-cache --out src/blemish/models/embedded`.

Steps: render (about 10 minutes on two cores), texts, local, joint, export. Every seed trains an image side of its own. Two of
them ship side by side as one backbone (`blemish.backbones.ensemble`): the pair with the best mean of image and pixel AUROC on the
held-out renders; the card says what all of them reached there, alone and as pairs. Their weights lie in the cache, so that
`python -m benchmarks.measure --seeds` can measure them on real images. Each step resumes where a killed run stood; given the same
seed the result is the same up to the floating-point order of the machine. Needs the dependency group "training".
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import combinations
from pathlib import Path

import torch

from blemish.backbones.model import Clip
from blemish.backbones.weights import save_backbone
from blemish.io.atomic import write_text
from blemish.io.json_files import read_json_if_there
from blemish.synthesis import HELD_OUT_SEEDS, RENDERER_VERSION
from recipes import add_device
from recipes.embedded.checkpoint import minutes_spent, plain
from recipes.embedded.config import BACKBONE, Recipe, TextRecipe
from recipes.embedded.export import export, side_by_side
from recipes.embedded.held_out import predict, summary, unpaired_words
from recipes.embedded.joint import fresh_clip, train_images
from recipes.embedded.samples import Samples, render_all, training_pictures
from recipes.embedded.texts import text_data, train_text

STEPS = ("render", "texts", "local", "joint", "export")
STAGES = STEPS[2:4]
MEMBERS = 2  # that ship: three are better by less than 0.001 on the held-out renders, for a third more time


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m recipes.embedded", description=__doc__)
    parser.add_argument("--cache", type=Path, default=Path("training-cache"), help="rendered images and checkpoints")
    parser.add_argument(
        "--out", type=Path, default=Path("src/blemish/models/embedded"), help="where the model is written"
    )
    parser.add_argument("--threads", type=int, default=2)
    add_device(parser)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the image sides that are trained")
    parser.add_argument("--until", choices=STEPS, default="export")
    arguments = parser.parse_args()
    last = STEPS.index(arguments.until)
    torch.set_num_threads(arguments.threads)
    cache, first, device = arguments.cache, Recipe(), arguments.device

    train = training_pictures(cache, count=first.train_images, workers=arguments.threads)
    held_out = render_all(
        cache / "held-out", count=first.held_out_images, first_seed=HELD_OUT_SEEDS, workers=arguments.threads
    )
    if last == 0:
        return
    text = train_text(TextRecipe(), cache, device=device).state_dict()
    if last == 1:
        return
    clips: dict[int, Clip] = {}
    alone: dict[tuple[int, ...], dict[str, float]] = {}
    for seed in arguments.seeds:
        made = partial(trained, Recipe(seed=seed), text, train, cache, words_in=cache, device=device, until=STEPS[last])
        kept = cache / f"seed-{seed}" / f"{STEPS[min(last, 3)]}.json"
        alone[seed,] = measured(made, held_out, kept, recipe=Recipe(seed=seed))
        clips[seed] = made()
        save_backbone(clips[seed], cache / f"seed-{seed}", dtype=torch.float16)
        print(f"seed {seed}:", {name: round(value, 4) for name, value in alone[seed,].items()}, flush=True)
    if last < 4:
        return
    together: dict[tuple[int, ...], dict[str, float]] = {}
    every, count = tuple(arguments.seeds), min(MEMBERS, len(arguments.seeds))
    groups = [*combinations(every, count), every]  # all of them only to see what more would be worth
    for seeds in dict.fromkeys(groups):
        place = cache / f"seeds-{'-'.join(map(str, seeds))}"
        clip = side_by_side([clips[seed] for seed in seeds])
        save_backbone(clip, place, dtype=torch.float16)
        kept = place / "joint.json"
        together[seeds] = measured(lambda: clip, held_out, kept, recipe=first, seeds=seeds, unpaired=False)  # noqa: B023
        print(f"seeds {seeds}:", {name: round(value, 4) for name, value in together[seeds].items()}, flush=True)
    pairs = {seeds: figures for seeds, figures in together.items() if len(seeds) == count}
    best = max(pairs, key=lambda seeds: pairs[seeds]["image_auroc"] + pairs[seeds]["pixel_auroc"])
    stages = [cache / f"seed-{seed}" / f"{stage}.pt" for seed in best for stage in STAGES]
    minutes = minutes_spent([cache / "text.pt", *stages])
    clip = side_by_side([clips[seed] for seed in best])
    export(
        clip,
        arguments.out,
        held_out=held_out,
        recipe=first,
        minutes=minutes,
        seeds=best,
        alone=alone,
        pairs=pairs,
        every=together[every],
    )
    print(f"{BACKBONE.name}, seeds {best} side by side, written to {arguments.out}")


def trained(
    recipe: Recipe,
    text: Mapping[str, torch.Tensor],
    samples: Samples,
    folder: Path,
    *,
    words_in: Path,
    device: torch.device,
    until: str = "export",
) -> Clip:
    """The backbone of this recipe after the stage `until`, from where its checkpoints stand in folder/seed-S."""
    clip = fresh_clip(dict(text), seed=recipe.seed).to(device)
    words = text_data(TextRecipe(), words_in)
    for stage in STAGES[: STEPS.index(until) - 1]:
        place = folder / f"seed-{recipe.seed}"
        clip = train_images(stage, clip, samples=samples, recipe=recipe, cache=place, texts=words)
    return clip.eval()


def measured(
    clip: Callable[[], Clip],
    held_out: Samples,
    kept: Path,
    *,
    recipe: Recipe,
    seeds: Sequence[int] = (),
    unpaired: bool = True,
) -> dict[str, float]:
    """The figures of a recipe's backbone on the held-out renders, kept as a file; those of another recipe there do not count.

    seeds: the recipe's seeds that stand side by side in it, where there are several. unpaired: how well words that training
    never paired with an image are understood, too, for twice the time.
    """
    stamp = {"recipe": plain(recipe), "renderer": RENDERER_VERSION, "held_out": len(held_out), "unpaired": unpaired}
    if seeds:
        stamp["seeds"] = list(seeds)
    known = read_json_if_there(kept) if kept.exists() else {}
    if known.get("of") != stamp:
        backbone = clip()
        other_words = predict(backbone, held_out, vocabulary=unpaired_words()) if unpaired else None
        known = {"of": stamp, "figures": summary(predict(backbone, held_out), other_words)}
        write_text(kept, json.dumps(known, indent=2) + "\n")
    found: dict[str, float] = known["figures"]
    return found


if __name__ == "__main__":
    main()
