"""What one image costs each method on ViT-L/14@336 at 518 px: processor time of the image side and of the scores, one thread.

    python -m benchmarks.methods_speed [--rounds 3] [--methods anomalyclip adaclip …] [--json results.json]

Random weights, shared by all methods; the default options. Texts that no image changes are encoded once, outside the clock (their
time is in a column of its own). What counts is processor time: medians of the rounds, all methods in turn in each.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.towers import build_tower
from blemish.backbones.catalog import catalog
from blemish.backbones.model import Clip
from blemish.backbones.text import TextTower
from blemish.methods import METHODS, build

BACKBONE = "ViT-L-14-336"


def random_backbone() -> Clip:
    """ViT-L/14@336 with random numbers."""
    config = catalog()[BACKBONE].config
    torch.manual_seed(1)
    with torch.device("meta"):
        clip = Clip(config)
    clip.image = build_tower()
    clip.text = TextTower(config.text, config.joint_width)
    clip.logit_scale = torch.nn.Parameter(torch.tensor(4.6052))
    return clip


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """The result and the processor seconds that it took."""
    started = time.process_time()
    return work(), time.process_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.methods_speed", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--methods", nargs="+", choices=[*METHODS], default=[*METHODS])
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    clip = random_backbone()
    side = clip.config.preprocess.size
    image = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(2))
    seconds: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    with torch.inference_mode():
        methods = {name: build(name, clip) for name in arguments.methods}
        texts = {name: timed(method.encode_texts) for name, method in methods.items()}
        for _ in range(arguments.rounds):
            for name, method in methods.items():
                features, encoding = timed(partial(method.encode, image))
                _, scoring = timed(partial(method.score, features, texts[name][0]))
                seconds[name]["image"].append(encoding)
                seconds[name]["scores"].append(scoring)
    found = {
        name: {"texts_once": texts[name][1], **{part: statistics.median(times) for part, times in parts.items()}}
        for name, parts in seconds.items()
    }
    print("| method | texts, once | image side | scores | an image |\n|---|---:|---:|---:|---:|")
    for name, parts in sorted(found.items(), key=lambda item: item[1]["image"] + item[1]["scores"]):
        each = parts["image"] + parts["scores"]
        print(f"| {name} | {parts['texts_once']:.1f} | {parts['image']:.1f} | {parts['scores']:.2f} | {each:.1f} |")
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
