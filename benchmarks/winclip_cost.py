"""What WinCLIP's windows cost beside one pass of the image tower: `python -m benchmarks.winclip_cost`.

One image, one thread, random weights, processor time, medians of interleaved rounds. "pass" is the ordinary forward pass of all
patches, "pass of the ensemble" the one with the value-value path that the method `ensemble` takes. Multiply-adds of linear layers
and attention are counted from the shapes, and once more with every saving that leaves the values as they are.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from blemish.backbones.catalog import catalog
from blemish.backbones.config import VisionConfig
from blemish.backbones.fast import image_features
from blemish.backbones.vision import ImageTower
from blemish.backbones.windows import embed_windows, window_patches

SCALES = (2, 3)


def seconds(run: Callable[[], object]) -> float:
    """Processor time."""
    started = time.process_time()
    run()
    return time.process_time() - started


def multiply_adds(config: VisionConfig, sequences: int, tokens: int, *, class_token_only: bool) -> float:
    """Of all blocks on so many sequences of so many tokens; `class_token_only` is what the last block computes."""
    width, hidden = config.width, round(config.mlp_ratio * config.width)

    def block(computed: int) -> int:
        linear = tokens * 2 * width * width + computed * (2 * width * width + 2 * width * hidden)
        return linear + 2 * computed * tokens * width

    last = block(1 if class_token_only else tokens)
    return float(sequences * ((config.depth - 1) * block(tokens) + last))


def least_multiply_adds(config: VisionConfig, windows: dict[int, int], *, of_image: int) -> float:
    """Of the windows (their number by their tokens) with every exact saving, in an image of so many tokens.

    The first block's queries, keys and values are computed once for each token of the image, as they treat tokens one by one;
    the last block's class token alone, whose query meets the key projection and whose mean of tokens the value projection.
    """
    width, hidden = config.width, round(config.mlp_ratio * config.width)
    after_attention = width * width + 2 * width * hidden  # of a token: the projection out, and the feed-forward
    total = of_image * 3 * width * width
    for tokens, count in windows.items():
        first = tokens * (after_attention + 2 * tokens * width)
        middle = first + tokens * 3 * width * width
        last = 3 * width * width + 2 * config.heads * tokens * width + after_attention
        total += count * (first + (config.depth - 2) * middle + last)
    return float(total)


@torch.inference_mode()
def measure(name: str, rounds: int, input_px: int | None) -> None:
    shape = catalog()[name].config
    config, size = shape.vision, input_px or shape.preprocess.size
    torch.manual_seed(0)
    tower = ImageTower(config, shape.joint_width).eval()
    image = torch.randn(1, 3, size, size)
    embedding = tower.embed(image)
    grid = embedding.grid
    runs: dict[str, Callable[[], object]] = {
        "pass": lambda: image_features(tower, embedding),
        "pass of the ensemble": lambda: image_features(
            tower, embedding, levels=shape.levels[:-1], value_value_depth=shape.value_value_depth, patches=False
        ),
        "windows": lambda: [embed_windows(tower, embedding, side=side) for side in SCALES],
    }
    took: dict[str, list[float]] = {what: [] for what in runs}
    for number in range(rounds + 1):
        for what, run in runs.items():
            spent = seconds(run)
            if number:  # the first warms up
                took[what].append(spent)
    median = {what: statistics.median(values) for what, values in took.items()}
    work = multiply_adds(config, 1, 1 + grid[0] * grid[1], class_token_only=False)
    counts = {side: len(window_patches(grid, side)) for side in SCALES}
    windows = sum(
        multiply_adds(config, count, 1 + side * side, class_token_only=True) for side, count in counts.items()
    )
    of_tokens = {1 + side * side: count for side, count in counts.items()}
    least = least_multiply_adds(config, of_tokens, of_image=1 + grid[0] * grid[1])
    print(f"{name} at {size} px: {' + '.join(map(str, counts.values()))} windows, one batch a scale")
    for what, values in took.items():
        print(f"  {what}: {median[what]:.2f} CPU-s ({min(values):.2f} to {max(values):.2f})")
    print(
        f"  windows : pass {median['windows'] / median['pass']:.1f} : 1, "
        f"windows : pass of the ensemble {median['windows'] / median['pass of the ensemble']:.1f} : 1, "
        f"multiply-adds {windows / work:.1f} : 1 ({windows / 1e9:.0f} and {work / 1e9:.1f} G); "
        f"with every exact saving {least / work:.1f} : 1"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="ViT-B-16-plus-240")
    parser.add_argument("--input-px", type=int)
    parser.add_argument("--rounds", type=int, default=5)
    settings = parser.parse_args()
    torch.set_num_threads(1)
    measure(settings.backbone, settings.rounds, settings.input_px)


if __name__ == "__main__":
    main()
