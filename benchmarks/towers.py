"""The image tower with the value-value path against an implementation that materialises attention.

    python benchmarks/towers.py [--rounds 3] [--size 518] [--json results.json]

ViT-L/14 with random weights (query and key weights x 2.5, so that attention is not flat), value-value depth 19, one
image, one thread. All variants run in turn in one process; what counts is processor time, and the ratio within each
round. The plain implementation does what a reference code does: both softmax matrices of every value-value block in
memory, every row of the last block; its first blocks use torch's own multi-head attention.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from blemish.backbones import fast
from blemish.backbones.config import VisionConfig
from blemish.backbones.layers import Attention, Block, set_linear_precision
from blemish.backbones.vision import ImageTower

VALUE_VALUE_DEPTH = 19
Outputs = tuple[Tensor, Tensor]  # CLS and value-value tokens in the joint space


def build_tower() -> ImageTower:
    torch.manual_seed(0)
    config = VisionConfig(image_size=336, width=1024, depth=24, heads=16, patch_size=14, position_grid=24)
    tower = ImageTower(config, joint_width=768).requires_grad_(False).eval()
    for block in blocks_of(tower):
        block.attention.in_projection.weight[: 2 * config.width] *= 2.5
    return tower


def blocks_of(tower: ImageTower) -> list[Block]:
    return [block for block in tower.blocks if isinstance(block, Block)]


def plain(tower: ImageTower, images: Tensor) -> Outputs:
    x = tower.embed(images, interpolation="bilinear").tokens
    v = x
    for index, block in enumerate(blocks_of(tower)):
        if index < len(tower.blocks) - VALUE_VALUE_DEPTH:
            x = v = plain_block(block, x)
            continue
        heads = split(block.attention, block.ln_1(x))
        query, key, value = heads
        v = v + joined(block.attention, (value @ value.transpose(-2, -1) * value.shape[-1] ** -0.5).softmax(-1) @ value)
        x = x + joined(block.attention, (query @ key.transpose(-2, -1) * key.shape[-1] ** -0.5).softmax(-1) @ value)
        x = x + feed_forward(block, x)
    return tower.project(x[:, 0], norm=False), tower.project(v)


def plain_block(block: Block, x: Tensor, mask: Tensor | None = None) -> Tensor:
    """A block through torch's own multi-head attention; `mask` [N, N] is added to the attention's logits."""
    attention = block.attention
    n = block.ln_1(x).transpose(0, 1)  # [B, N, W] -> [N, B, W]
    mixed, _ = F.multi_head_attention_forward(
        n, n, n, n.shape[-1], attention.heads,
        attention.in_projection.weight, attention.in_projection.bias, None, None, False, 0.0,
        attention.out_projection.weight, attention.out_projection.bias, training=False, need_weights=False, attn_mask=mask,
    )  # fmt: skip
    x = x + mixed.transpose(0, 1)
    return x + feed_forward(block, x)


def feed_forward(block: Block, x: Tensor) -> Tensor:
    hidden = block.mlp.fc_in(block.ln_2(x))
    return block.mlp.fc_out(hidden * torch.sigmoid(1.702 * hidden))


def split(attention: Attention, x: Tensor) -> Tensor:
    batch, length, width = x.shape
    qkv = attention.in_projection(x).reshape(batch, length, 3, attention.heads, width // attention.heads)
    return qkv.permute(2, 0, 3, 1, 4)  # [B, N, 3, heads, size] -> [3, B, heads, N, size]


def joined(attention: Attention, mixed: Tensor) -> Tensor:
    return attention.out_projection(mixed.transpose(1, 2).flatten(2))  # [B, heads, N, size] -> [B, N, W]


def ours(tower: ImageTower, images: Tensor) -> Outputs:
    embedding = tower.embed(images, interpolation="bilinear")
    features = fast.image_features(tower, embedding, value_value_depth=VALUE_VALUE_DEPTH, patches=False)
    assert features.value_value is not None
    return tower.project(features.tokens[:, 0], norm=False), tower.project(features.value_value)


def timed(run: Callable[[], Outputs]) -> tuple[float, Outputs]:
    start = time.process_time()
    outputs = run()
    return time.process_time() - start, outputs


def relative_error(outputs: Outputs, reference: Outputs) -> list[float]:
    return [float((one - other).abs().max() / other.abs().max()) for one, other in zip(outputs, reference, strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=int, default=518, help="side of the image in pixels, a multiple of 14")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    torch.set_num_threads(1)

    tower = build_tower()
    rough = copy.deepcopy(tower)
    set_linear_precision(rough, torch.bfloat16)
    images = torch.randn(1, 3, options.size, options.size)
    variants: dict[str, Callable[[], Outputs]] = {
        "plain fp32": lambda: plain(tower, images),
        "ours fp32": lambda: ours(tower, images),
        "ours bf16": lambda: ours(rough, images),
    }
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    errors: dict[str, list[float]] = {}
    with torch.inference_mode():
        for number in range(options.rounds):
            outputs = {}
            for name, run in variants.items():
                took, outputs[name] = timed(run)
                seconds[name].append(took)
            errors = {name: relative_error(outputs[name], outputs["plain fp32"]) for name in variants}
            print(f"round {number + 1}: " + ", ".join(f"{name} {seconds[name][-1]:.1f} s" for name in variants))

    figures = {}
    for name in variants:
        ratios = [one / other for one, other in zip(seconds["plain fp32"], seconds[name], strict=True)]
        figures[name] = {
            "cpu_s": statistics.median(seconds[name]),
            "speedup": statistics.median(ratios),
            "error_cls": errors[name][0],
            "error_value_value": errors[name][1],
        }
        print("{:11s} {cpu_s:6.2f} CPU-s  {speedup:5.2f}x  errors: CLS {error_cls:.1e}, "
              "value-value {error_value_value:.1e}".format(name, **figures[name]))  # fmt: skip
    if options.json:
        report = {"size": options.size, "rounds": options.rounds, "torch": torch.__version__, "figures": figures}
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
